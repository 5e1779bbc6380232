"""The table of runtimes. A runtime's module is imported when it is opened, not before.

To add a runtime, write its engine in a file of its own and add a row here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec
from quakestream.engines.base import Engine
from quakestream.engines.machine import Machine
from quakestream.errors import EngineError, MissingExtraError

Precision = Literal["fp32", "fp16", "bf16", "int8"]
INT8_GRAPH = "model.int8.onnx"
PT2_PROGRAM = "model.pt2"
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One way to run a bundle, as a value.

    Names are part of the ledger's keys. If a name is given to another runtime, finished work is
    taken for the work of that runtime.
    """

    name: str
    opener: Callable[..., Engine]
    """Called with a bundle, `threads` and `batch`; imports the runtime's library."""
    package: str
    """The distribution whose version decides the scores, as pip names it."""
    extra: str = ""
    """The extra of quakestream that installs the package; empty if the core has it."""
    precision: Precision = "fp32"
    """Precision of the arithmetic."""
    on_gpu: bool = False
    """True for a runtime that uses a GPU if there is one."""
    builder: Callable[..., Path] | None = None
    """Builds an engine for this device; called with a bundle, `batch` and `portable`.

    None for a runtime that compiles whenever it is opened.
    """
    is_model: bool = True
    """False for engines of tests, which do not run the bundle's graph."""
    obstacle: Callable[[Bundle, Machine], str] | None = None
    """Why `auto` passes over the runtime for a bundle on a machine; empty if it does not.

    None for a runtime that `auto` takes only on machines where it was measured.
    """

    @property
    def prebuilt(self) -> bool:
        """True for a runtime that opens only engines that were built for this device."""
        return self.builder is not None

    def open(self, bundle: Bundle, *, threads: int = 0, batch: int = 0) -> Engine:
        """Opens a bundle in this process.

        Args:
            threads: CPU threads of one engine; 0 leaves the number to the runtime.
            batch: items of every run, for runtimes that allow a choice; 0 for the batch that was
                built or that suits the device.

        Raises:
            EngineError: the runtime fails to open the bundle.
            DeviceError: this machine lacks a device that it needs.
            NotBuiltError: no engine was built for this device.
            MissingExtraError: its package is not installed.
            BundleError: it cannot load the bundle.
        """
        try:
            return self.opener(bundle, threads=threads, batch=batch)
        except MissingExtraError:
            raise
        except ImportError as error:
            raise MissingExtraError(
                f"runtime {self.name} is not installed ({error})",
                remedy=f"pip install 'quakestream[{self.extra}]'",
            ) from error


def _open_onnxruntime(bundle: Bundle, *, threads: int, batch: int) -> Engine:
    from quakestream.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, threads=threads, batch=batch)


def _open_openvino(
    bundle: Bundle, *, threads: int, batch: int, precision: Literal["fp32", "bf16", "int8"]
) -> Engine:
    from quakestream.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(bundle, threads=threads, batch=batch, precision=precision)


def _open_torch(
    bundle: Bundle,
    *,
    threads: int,
    batch: int,
    precision: Literal["fp32", "bf16", "fp16"],
    mode: Literal["eager", "compile", "graphs", "aoti"],
) -> Engine:
    from quakestream.engines.torch import TorchEngine

    return TorchEngine(bundle, threads=threads, batch=batch, precision=precision, mode=mode)


def _open_tensorrt(
    bundle: Bundle, *, threads: int, batch: int, precision: Literal["fp16", "bf16", "int8"]
) -> Engine:
    from quakestream.engines.tensorrt import open_built

    return open_built(bundle, precision=precision, threads=threads, batch=batch)


def _build_tensorrt(
    bundle: Bundle, *, batch: int, portable: bool, precision: Literal["fp16", "bf16", "int8"]
) -> Path:
    from quakestream.engines.tensorrt import PlanRequest, build

    return build(bundle, request=PlanRequest(precision=precision, batch=batch, portable=portable))


def _open_uniform(bundle: Bundle, *, threads: int, batch: int) -> Engine:
    from quakestream.engines.fakes import UniformEngine

    return UniformEngine(bundle)


def _open_threshold(bundle: Bundle, *, threads: int, batch: int) -> Engine:
    from quakestream.engines.fakes import ThresholdEngine

    return ThresholdEngine(bundle)


def _open_stand_in(bundle: Bundle, *, threads: int, batch: int) -> Engine:
    from quakestream.engines.fakes import StandInEngine

    return StandInEngine(bundle)


def int8_gated(spec: BundleSpec) -> bool:
    """Whether the bundle's int8 graph was compared with float32 and lost no more than allowed."""
    figures = spec.metrics.get("int8", {})
    return "drop" in figures and figures["drop"] <= figures.get("allowed_drop", 0.0)


def _none(bundle: Bundle, machine: Machine) -> str:
    return ""


def _int8(bundle: Bundle, machine: Machine) -> str:
    if bundle.file(INT8_GRAPH) is None:
        return f"the bundle has no {INT8_GRAPH}"
    if not int8_gated(bundle.spec):
        return f"its {INT8_GRAPH} loses too much or was not compared with float32"
    return ""


def _int8_on_cpu(bundle: Bundle, machine: Machine) -> str:
    return _int8(bundle, machine) or ("" if machine.cpu_flags & _VNNI else "this CPU has no VNNI")


def _bf16_on_cpu(bundle: Bundle, machine: Machine) -> str:
    return "" if machine.cpu_flags & _BF16 else "this CPU has no bfloat16"


def _program(bundle: Bundle, machine: Machine) -> str:
    return "" if bundle.file(PT2_PROGRAM) else f"the bundle has no {PT2_PROGRAM}"


def _tensorrt(
    name: str,
    precision: Literal["fp16", "bf16", "int8"],
    obstacle: Callable[[Bundle, Machine], str] = _none,
) -> Runtime:
    return Runtime(
        name=name,
        opener=partial(_open_tensorrt, precision=precision),
        package="tensorrt",
        extra="tensorrt",
        precision=precision,
        on_gpu=True,
        builder=partial(_build_tensorrt, precision=precision),
        obstacle=obstacle,
    )


def _torch(
    name: str,
    precision: Literal["fp32", "bf16", "fp16"],
    mode: Literal["eager", "compile", "graphs", "aoti"],
    obstacle: Callable[[Bundle, Machine], str] | None = None,
) -> Runtime:
    return Runtime(
        name=name,
        opener=partial(_open_torch, precision=precision, mode=mode),
        package="torch",
        extra="train",
        precision=precision,
        on_gpu=True,
        obstacle=obstacle,
    )


def _openvino(
    name: str,
    precision: Literal["fp32", "bf16", "int8"],
    obstacle: Callable[[Bundle, Machine], str],
) -> Runtime:
    return Runtime(
        name=name,
        opener=partial(_open_openvino, precision=precision),
        package="openvino",
        extra="openvino",
        precision=precision,
        obstacle=obstacle,
    )


def _for_tests(name: str, opener: Callable[..., Engine]) -> Runtime:
    return Runtime(name=name, opener=opener, package="quakestream", is_model=False)


REFERENCE = Runtime(
    name="onnxruntime", opener=_open_onnxruntime, package="onnxruntime", obstacle=_none
)
"""The runtime that scored the golden batches. Every other runtime is compared with it."""

_ROWS = (
    _tensorrt("tensorrt-int8", "int8", _int8),
    _tensorrt("tensorrt", "fp16"),
    _tensorrt("tensorrt-bf16", "bf16"),
    _torch("torch-graphs-bf16", "bf16", "graphs", _program),
    _torch("torch", "fp32", "eager", _program),
    _torch("torch-bf16", "bf16", "eager"),
    _torch("torch-fp16", "fp16", "eager"),
    _torch("torch-compile", "fp32", "compile"),
    _torch("torch-compile-bf16", "bf16", "compile"),
    _torch("torch-graphs-fp16", "fp16", "graphs"),
    _torch("torch-aoti", "fp32", "aoti"),
    _openvino("openvino-int8", "int8", _int8_on_cpu),
    _openvino("openvino-bf16", "bf16", _bf16_on_cpu),
    _openvino("openvino", "fp32", _none),
    REFERENCE,
    _for_tests("uniform", _open_uniform),
    _for_tests("threshold", _open_threshold),
    _for_tests("stand-in", _open_stand_in),
)
RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in _ROWS}
"""Runtimes by name. Of those with an obstacle function, `auto` prefers the earlier ones."""
MODEL_RUNTIMES = tuple(sorted(name for name, runtime in RUNTIMES.items() if runtime.is_model))
"""Names of the runtimes that run a bundle's graph, in alphabetical order."""


def runtime_named(name: str) -> Runtime:
    """The runtime of a name.

    Raises:
        EngineError: no runtime has that name.
    """
    if name not in RUNTIMES:
        raise EngineError(f"no runtime {name!r}", expected=f"one of {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def open_engine(
    bundle: Bundle, *, runtime: str = REFERENCE.name, threads: int = 0, batch: int = 0
) -> Engine:
    """Opens a bundle on a runtime, in this process; see `Runtime.open`.

    Raises:
        EngineError: no runtime has that name, or it fails to open the bundle.
    """
    return runtime_named(runtime).open(bundle, threads=threads, batch=batch)
