"""torch: eager, compiled, compiled ahead of time, or captured in CUDA graphs.

Tests run everything that works on a CPU. The parts that need a GPU (streams, pinned buffers, graph
capture) use the same API and have not run on a GPU yet; see README.

`quakestream.domain.axes` explains the axis letters of array names. Here P counts pixels that have
an owner.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec
from quakestream.engines.base import Engine, owner_sums
from quakestream.engines.cache import EngineCache, engine_folder
from quakestream.engines.fixed import (
    SLOTS,
    FixedBatches,
    FixedEngine,
    Runner,
    first_line,
    graph_inputs,
    owned_pixels,
    sizes,
    steady,
)
from quakestream.engines.narrow import narrowed
from quakestream.engines.pt2 import FILE, check_archive
from quakestream.engines.streams import Call, QueueEvent, Streams
from quakestream.engines.torch_streams import device_facts, streams_here
from quakestream.errors import BundleError, DeviceError, EngineError
from quakestream.reduce.tally import PROBABILITY_ONE

Precision = Literal["fp32", "bf16", "fp16"]
Mode = Literal["eager", "compile", "graphs", "aoti"]
Inputs = Mapping[str, Tensor]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(FixedEngine):
    """Runs `model.pt2` on a GPU if there is one, else on the CPU.

    The scores of a window, crop or row never depend on its batch. All runs have one size, and
    opening the engine tests whether an item scores the same, to the bit, in every place. If it does
    not, items run one by one.

    Args:
        threads: CPU threads of torch in this process; 0 leaves the number as it is.
        precision: `bf16` and `fp16` run convolutions, products and attention in half precision.
        mode: `compile` compiles with Inductor, `aoti` does so ahead of time and keeps the result
            on this machine, and `graphs` captures the compiled program in a CUDA graph.
        batch: items of every run; 0 for a number that suits the device.
        folder: folder in which `aoti` keeps compiled programs.

    Raises:
        BundleError: if the bundle has no `model.pt2`, or it does not load.
        DeviceError: if the mode needs a GPU and there is none.
        EngineError: if compiling fails.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 0,
        precision: Precision = "fp32",
        mode: Mode = "eager",
        batch: int = 0,
        folder: Path | None = None,
    ) -> None:
        streams = streams_here()
        if mode == "graphs" and streams.device.type != "cuda":
            raise DeviceError(
                "this machine has no CUDA device, and runtime torch-graphs needs one",
                bundle.uri,
                remedy="use torch-compile, openvino or onnxruntime",
            )
        if threads:
            torch.set_num_threads(threads)
        facts = _facts(bundle, precision, streams)
        compiler = _Compiler(
            module=_placed(bundle, precision, streams),
            spec=bundle.spec,
            mode=mode,
            streams=streams,
            cache=EngineCache(folder=folder or engine_folder(), suffix=".pt2"),
            facts=facts,
        )
        own_sizes = sizes(bundle.spec, device=streams.device.type == "cuda")
        candidates = {0: own_sizes, 1: (1,)}.get(batch, (batch, 1))
        try:
            runner = steady(compiler.runner, candidates, bundle.spec)
        except EngineError:
            raise
        except RuntimeError as error:  # torch and its compilers raise it
            raise EngineError(
                f"torch {mode} {precision} failed on {facts['device']} ({first_line(error)})",
                bundle.uri,
            ) from error
        self._batches = FixedBatches(runner, bundle.spec)
        self._on_gpu = streams.device.type == "cuda"
        self._name = f"torch-{torch.__version__}-{streams.device.type}-{mode}-{precision}"


def _placed(bundle: Bundle, precision: Precision, streams: Streams) -> torch.fx.GraphModule:
    """The bundle's module on its device, in its precision and layout."""
    module = load_program(bundle)
    if precision in _HALF:
        kinds = {"half": _HALF[precision], "full": torch.float32}
        narrowed(module, to=torch.ops.aten.to.dtype, **kinds)
    module = module.to(streams.device)
    if any(len(shape) == 3 for shape, _ in graph_inputs(bundle.spec).values()):
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def load_program(bundle: Bundle) -> torch.fx.GraphModule:
    """The module of a bundle's `model.pt2`.

    The bundle has checked the file's digest. In addition, a file is refused if it holds anything
    that torch would unpickle or load as a library.

    Raises:
        BundleError: if there is no such file, it holds a pickle, or torch cannot read it.
    """
    data = bundle.file(FILE)
    if data is None:
        raise BundleError(
            f"bundle has no {FILE}",
            bundle.uri,
            remedy="export it with `python -m training.export CKPT -o BUNDLE --pt2`, make one from "
            "its model.onnx with `python -m training.from_onnx BUNDLE`, or use runtime onnxruntime",
        )
    check_archive(data, bundle.uri)
    try:
        program = torch.export.load(io.BytesIO(data))
        module: torch.fx.GraphModule = program.module()
    except Exception as error:  # its readers raise all kinds of errors
        raise BundleError(
            f"torch {torch.__version__} cannot load {FILE} ({error!r})",
            bundle.uri,
            remedy="export the bundle again",
        ) from error
    expected, got = len(graph_inputs(bundle.spec)), len(program.graph_signature.user_inputs)
    if expected != got:
        raise BundleError(
            f"{FILE} has the wrong number of inputs",
            bundle.uri,
            expected=str(expected),
            got=str(got),
        )
    return module.requires_grad_(False)


def shares(values_KP: Tensor, spec: BundleSpec) -> Tensor:
    """Class probabilities of logits as whole numbers (p × 65535, rounded), int64 (P, C).

    Float64 makes devices round alike whose exponentials differ in the last bit of a float32. The
    result is at most one unit from that of `owner_sums`, which uses float32.
    """
    logits_KP = (values_KP[:-1] if spec.deviation else values_KP).double()
    if spec.outputs == "probabilities":
        p_KP = logits_KP
    elif len(logits_KP) == 1:
        p_KP = torch.sigmoid(logits_KP / spec.temperature)
    else:
        p_KP = torch.softmax(logits_KP / spec.temperature, dim=0)
    if len(p_KP) == 1 and len(spec.classes) == 2:
        p_KP = torch.cat([1.0 - p_KP, p_KP])
    return torch.round(p_KP * PROBABILITY_ONE).to(torch.int64).T


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Slot:
    """Buffers and events of one slot."""

    host: dict[str, Tensor]
    """Inputs on the host."""
    device: dict[str, Tensor]
    """Inputs on the device."""
    copy_done: QueueEvent
    """After the inputs were copied to the device."""
    run_done: QueueEvent
    """After the graph has read the inputs."""
    fetch_done: QueueEvent
    """After the logits were copied to the host."""


class DeviceRunner:
    """Runs a call on a device, with pinned double buffers and separate queues for copies and work.

    Args:
        host_sums: True to sum on the host with `owner_sums`; False to sum on the device, so that
            only sums are copied to the host.
    """

    def __init__(
        self, call: Call, spec: BundleSpec, size: int, streams: Streams, *, host_sums: bool
    ) -> None:
        self._call, self._spec, self._size = call, spec, size
        self._streams, self._host_sums = streams, host_sums
        self._slots = [self._new_slot() for _ in range(SLOTS)]
        self._logits: dict[int, Tensor] = {}
        """Logits on the device, by slot."""
        self._host_logits: dict[int, Tensor] = {}
        """Logits on the host, by slot."""
        self._total = torch.zeros(0)
        streams.synchronize()  # buffers were allocated and filled on the default stream

    @property
    def size(self) -> int:
        return self._size

    def buffers(self, slot: int) -> Mapping[str, NDArray[Any]]:
        buffers = self._slots[slot]
        buffers.copy_done.synchronize()
        return {name: tensor.numpy() for name, tensor in buffers.host.items()}

    @torch.inference_mode()
    def run(self, slot: int) -> None:
        buffers = self._slots[slot]
        with self._streams.copy_queue():
            buffers.run_done.wait()  # until then the graph may still read the old inputs
            for name, tensor in buffers.host.items():
                buffers.device[name].copy_(tensor, non_blocking=True)
            buffers.copy_done.record()
        with self._streams.work_queue():
            buffers.copy_done.wait()
            self._logits[slot] = self._call(buffers.device)
            buffers.run_done.record()

    @torch.inference_mode()
    def fetch(self, slot: int) -> None:
        logits = self._logits[slot]
        if slot not in self._host_logits:
            pinned = self._streams.device.type == "cuda"
            self._host_logits[slot] = torch.empty(
                logits.shape, dtype=torch.float32, pin_memory=pinned
            )
        with self._streams.work_queue():
            self._host_logits[slot].copy_(logits, non_blocking=True)
            self._slots[slot].fetch_done.record()

    def take(self, slot: int) -> NDArray[np.float32]:
        self._slots[slot].fetch_done.synchronize()
        return self._host_logits[slot].numpy()

    @torch.inference_mode()
    def open_sums(self, owners: int) -> None:
        shape = (owners, len(self._spec.classes))
        device = torch.device("cpu") if self._host_sums else self._streams.device
        with self._streams.work_queue():
            self._total = torch.zeros(shape, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def add(self, slot: int, owner_nYX: NDArray[np.int32]) -> None:
        logits = self._logits[slot]
        if self._host_sums:
            logits_nKYX = logits[: len(owner_nYX)].float().numpy()
            sums = owner_sums(logits_nKYX, owner_nYX, len(self._total), self._spec)
            self._total += torch.from_numpy(sums)
            return
        outputs = logits.shape[1]
        place_P, owner_P = owned_pixels(owner_nYX, self._spec, outputs)
        with self._streams.work_queue():
            place, owner = self._to_device(place_P), self._to_device(owner_P)
            flat, step = logits.reshape(-1), self._spec.window_px**2
            values_KP = torch.stack([flat[place + k * step] for k in range(outputs)])
            self._total.index_add_(0, owner, shares(values_KP, self._spec))

    def sums(self) -> NDArray[np.int64]:
        with self._streams.work_queue():
            total: NDArray[np.int64] = self._total.cpu().numpy()
        return total

    def _to_device(self, array: NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._streams.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._streams.device, non_blocking=True)

    def _new_slot(self) -> _Slot:
        device, new_event = self._streams.device, self._streams.event
        pinned = device.type == "cuda"
        return _Slot(
            host=empty_inputs(self._spec, self._size, torch.device("cpu"), pinned),
            device=empty_inputs(self._spec, self._size, device),
            copy_done=new_event(),
            run_done=new_event(),
            fetch_done=new_event(),
        )


def empty_inputs(
    spec: BundleSpec, size: int, device: torch.device, pinned: bool = False
) -> dict[str, Tensor]:
    """Inputs of a run by name, in the order of the graph, filled with ones."""
    return {
        name: torch.ones((size, *shape), dtype=_dtype(kind), device=device, pin_memory=pinned)
        for name, (shape, kind) in graph_inputs(spec).items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiler:
    """Makes runners of a module for any batch size."""

    module: torch.fx.GraphModule
    spec: BundleSpec
    mode: Mode
    streams: Streams
    cache: EngineCache
    facts: Mapping[str, str]

    def runner(self, size: int) -> Runner:
        on_cpu = self.streams.device.type == "cpu"
        example = empty_inputs(self.spec, size, self.streams.device)
        call = partial(_float_logits, self._function(example))
        if self.mode == "graphs":
            call = self.streams.capture(call, example)  # type: ignore[assignment]
        return DeviceRunner(call, self.spec, size, self.streams, host_sums=on_cpu)

    def _function(self, example: Inputs) -> Callable[..., Any]:
        if self.mode == "eager":
            return self.module
        if self.mode == "aoti":
            return self._ahead_of_time(example)
        options: Any = {"freezing": True} if self.streams.device.type == "cpu" else None
        compiled: Callable[..., Any] = torch.compile(
            self.module, dynamic=False, fullgraph=True, options=options
        )
        return compiled

    def _ahead_of_time(self, example: Inputs) -> Callable[..., Any]:
        """The library for this batch size, from the cache of this machine or newly compiled."""
        from torch._inductor import aoti_compile_and_package, aoti_load_package

        facts = {**self.facts, "batch": str(len(next(iter(example.values()))))}
        if (path := self.cache.find(facts)) is None:
            with torch.inference_mode():
                inputs = tuple(_channels_last(tensor) for tensor in example.values())
                program = torch.export.export(self.module, inputs)
            with TemporaryDirectory() as folder:
                package = Path(folder, "library.pt2")
                aoti_compile_and_package(program, package_path=str(package))
                path = self.cache.keep(facts, package.read_bytes())
        library: Callable[..., Any] = aoti_load_package(str(path))
        return library


def _float_logits(function: Callable[..., Any], inputs: Inputs) -> Tensor:
    """Float32 logits. Images are passed with channels last, which suits kernels."""
    outputs = function(*(_channels_last(tensor) for tensor in inputs.values()))
    logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return logits.float().contiguous()


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _dtype(kind: type[np.generic]) -> torch.dtype:
    return {np.uint8: torch.uint8, np.float32: torch.float32}[kind]  # type: ignore[index]


def _facts(bundle: Bundle, precision: str, streams: Streams) -> dict[str, str]:
    """The facts that a compiled engine depends on, and nothing else."""
    return {
        "kind": "aoti",
        "bundle": bundle.digest,
        "torch": torch.__version__,
        "precision": precision,
        "threads": str(torch.get_num_threads()),  # Inductor compiles the number into its loops
        **device_facts(streams.device),
    }


_: type[Engine] = TorchEngine
