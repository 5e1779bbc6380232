"""torch: eager, compiled, compiled ahead of time, or captured in CUDA graphs.

On a CPU everything here is exercised by tests. The parts that need a GPU (streams, pinned
buffers, graph capture) are written against the same API and have not run on one yet; see README.

Axis legend: N items of a batch, K graph outputs, C classes, Y rows, X columns, R owners,
P pixels that somebody owns.
"""

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
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
from quakestream.errors import BundleError, DeviceError, EngineError
from quakestream.reduce.tally import PROBABILITY_ONE

Precision = Literal["fp32", "bf16", "fp16"]
Mode = Literal["eager", "compile", "graphs", "aoti"]
Inputs = Mapping[str, Tensor]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
DRIVER_FILE = Path("/sys/module/nvidia/version")
_WARM_RUNS = 3
"""Runs before a graph is captured: libraries allocate and choose kernels in the first ones."""


class TorchEngine(FixedEngine):
    """Runs `model.pt2` on a GPU if there is one, else on the CPU.

    What a window, crop or row scores never depends on its batch: all runs have one size, and at
    opening it is tried whether an item scores the same in every place, to the bit; if not,
    items run one by one.

    Args:
        threads: of this process, for all of torch; 0 leaves them as they are.
        precision: `bf16` and `fp16` compute convolutions, products and attention in it.
        mode: `compile` through Inductor; `aoti` the same ahead of time, kept on this machine;
            `graphs` compiled and captured in a CUDA graph.
        batch: items a run takes; 0 for what suits the device.
        folder: where `aoti` keeps what it compiled.

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
                f"bundle {bundle.uri}: runtime torch-graphs needs a CUDA device, there is none "
                "here; use torch-compile, openvino or onnxruntime"
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
        suits = sizes(bundle.spec, device=streams.device.type == "cuda")
        wanted = {0: suits, 1: (1,)}.get(batch, (batch, 1))
        try:
            runner = steady(compiler.runner, wanted, bundle.spec)
        except EngineError:
            raise
        except RuntimeError as error:  # of torch and its compilers
            raise EngineError(
                f"torch {mode} {precision} fails on {facts['device']}: {first_line(error)}",
                bundle.uri,
            ) from error
        self._batches = FixedBatches(runner, bundle.spec)
        self._on_gpu = streams.device.type == "cuda"
        self._name = f"torch-{torch.__version__}-{streams.device.type}-{mode}-{precision}"


def _placed(bundle: Bundle, precision: Precision, streams: Streams) -> torch.fx.GraphModule:
    """The bundle's module in its precision and layout, where it will run."""
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

    The bundle has checked the file's digest. Beyond that a file with anything in it that torch
    would unpickle or load as a library is refused: weights never travel as pickles.

    Raises:
        BundleError: if there is none, it holds a pickle, or torch cannot read it.
    """
    data = bundle.file(FILE)
    if data is None:
        raise BundleError(
            f"bundle {bundle.uri} has no {FILE}: export it with `python -m training.export "
            "CKPT -o BUNDLE --pt2`, make one of its model.onnx with `python -m training.from_onnx "
            "BUNDLE`, or use runtime onnxruntime"
        )
    check_archive(data, bundle.uri)
    try:
        program = torch.export.load(io.BytesIO(data))
        module: torch.fx.GraphModule = program.module()
    except Exception as error:  # its readers raise what they meet
        raise BundleError(
            f"bundle {bundle.uri}: torch {torch.__version__} cannot load {FILE}: {error!r}; "
            "export the bundle again"
        ) from error
    expected, got = len(graph_inputs(bundle.spec)), len(program.graph_signature.user_inputs)
    if expected != got:
        raise BundleError(f"bundle {bundle.uri}: {FILE} takes {got} inputs, expected {expected}")
    return module.requires_grad_(False)


def shares(values_KP: Tensor, spec: BundleSpec) -> Tensor:
    """Class probabilities of logits as whole numbers (p × 65535, rounded), int64 (P, C).

    In float64, so that devices whose exponentials differ in the last bit of a float32 round the
    same; at most one unit from what `owner_sums` makes of the same logits in float32.
    """
    logits_KP = values_KP.double()
    if spec.outputs == "probabilities":
        p_KP = logits_KP
    elif len(logits_KP) == 1:
        p_KP = torch.sigmoid(logits_KP / spec.temperature)
    else:
        p_KP = torch.softmax(logits_KP / spec.temperature, dim=0)
    if len(p_KP) == 1 and len(spec.classes) == 2:
        p_KP = torch.cat([1.0 - p_KP, p_KP])
    return torch.round(p_KP * PROBABILITY_ONE).to(torch.int64).T


class CpuStreams:
    """No queues: everything is done when it is asked for."""

    device = torch.device("cpu")

    def copying(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def working(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def event(self) -> QueueEvent:
        return _Now()

    def handle(self) -> int:
        return 0

    def settle(self) -> None: ...

    def floats(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape)

    def captured(self, call: Call, inputs: Inputs) -> Call:
        held = {name: tensor.clone() for name, tensor in inputs.items()}
        output: Tensor = call(held).clone()

        def replay(given: Inputs) -> Tensor:
            for name, tensor in held.items():
                tensor.copy_(given[name])
            output.copy_(call(held))
            return output

        return replay


class _Now:
    def record(self) -> None: ...

    def wait(self) -> None: ...

    def synchronize(self) -> None: ...


class CudaStreams:
    """Queues of the current CUDA device. Not run in the project's tests: they have no GPU."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        # float32 means float32, and the same kernels in every process of a run
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        self._copy, self._work = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def copying(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._copy)

    def working(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._work)

    def event(self) -> QueueEvent:
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def handle(self) -> int:
        return int(self._work.cuda_stream)

    def settle(self) -> None:
        torch.cuda.synchronize()

    def floats(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, device=self.device)

    def captured(self, call: Call, inputs: Inputs) -> Call:
        held = {name: tensor.clone() for name, tensor in inputs.items()}
        torch.cuda.synchronize()
        with self.working(), torch.inference_mode():
            for _ in range(_WARM_RUNS):
                call(held)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=self._work):
            output: Tensor = call(held)

        def replay(given: Inputs) -> Tensor:
            for name, tensor in held.items():
                tensor.copy_(given[name], non_blocking=True)
            graph.replay()
            return output

        return replay


def streams_here() -> Streams:
    """Queues of the GPU of this process, else of the CPU."""
    return CudaStreams() if torch.cuda.is_available() else CpuStreams()


@dataclass(slots=True)
class _Lane:
    """What one of the two slots owns."""

    host: dict[str, Tensor]
    there: dict[str, Tensor]
    sent: QueueEvent
    """The inputs have left the host."""
    ran: QueueEvent
    """The graph has read them."""
    back: QueueEvent
    """The logits are on the host."""
    logits: Tensor | None = None
    out: Tensor | None = None


class DeviceRunner:
    """Runs a call on a device: pinned double buffers, copies and work on queues of their own.

    Args:
        host_sums: sums are made on the host, exactly as `owner_sums` makes them; else on the
            device, and only they come back.
    """

    def __init__(
        self, call: Call, spec: BundleSpec, size: int, streams: Streams, *, host_sums: bool
    ) -> None:
        self._call, self._spec, self._size = call, spec, size
        self._streams, self._host_sums = streams, host_sums
        self._lanes = [self._lane() for _ in range(SLOTS)]
        self._total = torch.zeros(0)
        streams.settle()  # what was allocated and filled on the default stream

    @property
    def size(self) -> int:
        return self._size

    def buffers(self, slot: int) -> Mapping[str, NDArray[Any]]:
        lane = self._lanes[slot]
        lane.sent.synchronize()
        return {name: tensor.numpy() for name, tensor in lane.host.items()}

    @torch.inference_mode()
    def run(self, slot: int) -> None:
        lane = self._lanes[slot]
        with self._streams.copying():
            lane.ran.wait()  # until then the graph may still read what lies there
            for name, tensor in lane.host.items():
                lane.there[name].copy_(tensor, non_blocking=True)
            lane.sent.record()
        with self._streams.working():
            lane.sent.wait()
            lane.logits = self._call(lane.there)
            lane.ran.record()

    @torch.inference_mode()
    def fetch(self, slot: int) -> None:
        lane = self._lanes[slot]
        logits = lane.logits
        assert logits is not None, "a slot is run before it is fetched"
        if lane.out is None:
            pinned = self._streams.device.type == "cuda"
            lane.out = torch.empty(logits.shape, dtype=torch.float32, pin_memory=pinned)
        with self._streams.working():
            lane.out.copy_(logits, non_blocking=True)
            lane.back.record()

    def take(self, slot: int) -> NDArray[np.float32]:
        lane = self._lanes[slot]
        lane.back.synchronize()
        assert lane.out is not None
        return lane.out.numpy()

    @torch.inference_mode()
    def open_sums(self, owners: int) -> None:
        shape = (owners, len(self._spec.classes))
        where = torch.device("cpu") if self._host_sums else self._streams.device
        with self._streams.working():
            self._total = torch.zeros(shape, dtype=torch.int64, device=where)

    @torch.inference_mode()
    def add(self, slot: int, owner_nYX: NDArray[np.int32]) -> None:
        logits = self._lanes[slot].logits
        assert logits is not None, "a slot is run before it is added"
        if self._host_sums:
            logits_nKYX = logits[: len(owner_nYX)].float().numpy()
            sums = owner_sums(logits_nKYX, owner_nYX, len(self._total), self._spec)
            self._total += torch.from_numpy(sums)
            return
        outputs = logits.shape[1]
        place_P, owner_P = owned_pixels(owner_nYX, self._spec, outputs)
        with self._streams.working():
            place, owner = self._sent(place_P), self._sent(owner_P)
            flat, step = logits.reshape(-1), self._spec.window_px**2
            values_KP = torch.stack([flat[place + k * step] for k in range(outputs)])
            self._total.index_add_(0, owner, shares(values_KP, self._spec))

    def sums(self) -> NDArray[np.int64]:
        with self._streams.working():
            total: NDArray[np.int64] = self._total.cpu().numpy()
        return total

    def _sent(self, array: NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._streams.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._streams.device, non_blocking=True)

    def _lane(self) -> _Lane:
        device = self._streams.device
        host = empty_inputs(self._spec, self._size, torch.device("cpu"), device.type == "cuda")
        there = empty_inputs(self._spec, self._size, device)
        events = [self._streams.event() for _ in range(3)]
        return _Lane(host=host, there=there, sent=events[0], ran=events[1], back=events[2])


def empty_inputs(
    spec: BundleSpec, size: int, device: torch.device, pinned: bool = False
) -> dict[str, Tensor]:
    """Inputs of a run by name, in the order graphs take them, filled with ones."""
    return {
        name: torch.ones((size, *shape), dtype=_dtype(kind), device=device, pin_memory=pinned)
        for name, (shape, kind) in graph_inputs(spec).items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiler:
    """Makes runners of a module, for any batch size."""

    module: torch.fx.GraphModule
    spec: BundleSpec
    mode: Mode
    streams: Streams
    cache: EngineCache
    facts: Mapping[str, str]

    def runner(self, size: int) -> Runner:
        on_cpu = self.streams.device.type == "cpu"
        example = empty_inputs(self.spec, size, self.streams.device)
        call = partial(_called, self._function(example))
        if self.mode == "graphs":
            call = self.streams.captured(call, example)  # type: ignore[assignment]
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
        """The library for this batch size: the one kept on this machine, or a new one."""
        from torch._inductor import aoti_compile_and_package, aoti_load_package

        facts = {**self.facts, "batch": str(len(next(iter(example.values()))))}
        if (path := self.cache.find(facts)) is None:
            with torch.inference_mode():
                shaped = tuple(_laid_out(tensor) for tensor in example.values())
                program = torch.export.export(self.module, shaped)
            with TemporaryDirectory() as folder:
                made = Path(folder, "library.pt2")
                aoti_compile_and_package(program, package_path=str(made))
                path = self.cache.keep(facts, made.read_bytes())
        library: Callable[..., Any] = aoti_load_package(str(path))
        return library


def _called(function: Callable[..., Any], inputs: Inputs) -> Tensor:
    """Logits of float32; images laid out channel by channel, as kernels like them."""
    found = function(*(_laid_out(tensor) for tensor in inputs.values()))
    logits: Tensor = found if isinstance(found, Tensor) else found[0]
    return logits.float().contiguous()


def _laid_out(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _dtype(kind: type[np.generic]) -> torch.dtype:
    return {np.uint8: torch.uint8, np.float32: torch.float32}[kind]  # type: ignore[index]


def _facts(bundle: Bundle, precision: str, streams: Streams) -> dict[str, str]:
    """What a compiled engine depends on, and nothing else."""
    return {
        "kind": "aoti",
        "bundle": bundle.digest,
        "torch": torch.__version__,
        "precision": precision,
        "threads": str(torch.get_num_threads()),  # Inductor writes them into its loops
        **device_facts(streams.device),
    }


def device_facts(device: torch.device) -> dict[str, str]:
    """A device as far as compiled code depends on it."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return {"device": found.name, "capability": f"{found.major}.{found.minor}"}
    return {"device": "cpu", "capability": torch.backends.cpu.get_cpu_capability()}


def cuda_facts() -> dict[str, str] | None:
    """Name, compute capability and driver of this process's GPU; None without one."""
    if not torch.cuda.is_available():
        return None
    found = device_facts(torch.device("cuda"))
    driver = DRIVER_FILE.read_text().strip() if DRIVER_FILE.exists() else "unknown"
    return {"name": found["device"], "capability": found["capability"], "driver": driver}


_: type[Engine] = TorchEngine
