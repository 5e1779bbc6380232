"""TensorRT 11 (10.12 and later), through plans built beforehand on the GPU they run on.

Not run yet: there was no machine with TensorRT's builder. What is tested is everything around
the few native calls (`Native`), with ONNX Runtime in their place, and every one of those calls
against the real bindings. `deploy/prove_tensorrt.sh` proves the rest where TensorRT is installed.

A plan belongs to one bundle, TensorRT version, GPU, driver, precision and batch size. Workers
that share a folder of plans score alike to the bit; two builds of one graph may choose other
kernels and differ in the last bits.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from quakestream.bundles import Bundle
from quakestream.engines.base import Engine
from quakestream.engines.cache import EngineCache, engine_folder
from quakestream.engines.fixed import FixedBatches, FixedEngine, graph_inputs, is_steady, sizes
from quakestream.engines.onnx_half import prepared
from quakestream.engines.onnx_support import problems
from quakestream.engines.parity import check_golden
from quakestream.engines.streams import Call, Streams
from quakestream.errors import DeviceError, EngineError, MissingExtraError, NotBuiltError

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Shapes = Mapping[str, tuple[int, ...]]

OLDEST = (10, 12)
BUILD_VARIABLE = "QUAKESTREAM_BUILD_ENGINES"
"""Set to 1, a run builds the plan it lacks; else it refuses and says how to build it."""
KIND, SUFFIX = "tensorrt", ".plan"
"""How plans are told from what else is cache."""
_RECIPE = "1"
"""Of what is done to a graph before it is built: another recipe, another plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What a plan is built for.

    Raises:
        EngineError: if the batch is negative.
    """

    precision: Precision = "fp16"
    batch: int = 0
    """Items of a run; 0 for what suits a GPU."""
    portable: bool = False
    """Opens on any GPU since Ampere, any driver, and later versions of the same major: for mixed
    fleets. Slower, and its plans hold code that runs on the host."""

    def __post_init__(self) -> None:
        if self.batch < 0:
            raise EngineError(f"tensorrt: a batch of {self.batch} items; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as far as a plan depends on it."""

    name: str
    capability: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildOrder:
    """What is to be built."""

    graph: bytes
    """ONNX, typed as it is to run."""
    shapes: Shapes
    """Of every input, with the batch."""
    portable: bool
    timing: bytes
    """What earlier builds on this GPU learned; empty at first."""


class Program(Protocol):
    """A plan opened on a GPU."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an output."""
        ...

    def bind(self, name: str, address: int) -> None:
        """Says where on the device an input or output lies."""
        ...

    def enqueue(self, stream: int) -> None:
        """Queues one run on a CUDA stream."""
        ...


class Native(Protocol):
    """All that is asked of TensorRT and the driver."""

    @property
    def version(self) -> str: ...

    def gpu(self) -> Gpu | None:
        """The GPU of this process; None without one. Asked before anything else."""
        ...

    def build(self, order: BuildOrder) -> tuple[bytes, bytes]:
        """A plan, and what was learned of kernels' times.

        Raises:
            EngineError: if the graph is refused or the build fails.
        """
        ...

    def load(self, plan: bytes, shapes: Shapes, *, portable: bool) -> Program:
        """Raises EngineError if the plan does not fit this GPU, driver and version."""
        ...


class TensorRtEngine(FixedEngine):
    """Runs a plan with fixed shapes, double-buffered, from a captured CUDA graph.

    Opening compares it with the bundle's golden batch, scored by ONNX Runtime, and refuses a
    plan that is not the same model or whose scores hang on the place in a batch.

    Args:
        threads: not used: the work is the GPU's.
        request: which of the bundle's plans.
        folder: where plans are cache.
        native: TensorRT, or what stands in for it in tests.
        may_build: builds a plan that is missing, which takes minutes.

    Raises:
        DeviceError: if there is no CUDA device.
        NotBuiltError: if there is no plan, or it is not the one that was written.
        EngineError: if the plan is not the same model.
        MissingExtraError: if TensorRT is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 0,
        request: PlanRequest | None = None,
        folder: Path | None = None,
        native: Native | None = None,
        may_build: bool = False,
    ) -> None:
        from quakestream.engines.torch import CpuStreams, DeviceRunner, empty_inputs, streams_here

        native = native or tensorrt_native()
        gpu = _gpu_of(native, bundle)
        request = with_batch(request or PlanRequest(), bundle)
        facts = plan_facts(bundle, request, native.version, gpu)
        cache = EngineCache(folder=folder or engine_folder(), suffix=SUFFIX)
        plan = cache.get(facts)
        if plan is None and (may_build or os.environ.get(BUILD_VARIABLE) == "1"):
            plan = build(bundle, folder, request=request, native=native).read_bytes()
        if plan is None:
            raise NotBuiltError(_missing(bundle, request, native, gpu, cache))
        program = native.load(plan, input_shapes(bundle, request), portable=request.portable)
        streams = streams_here() if isinstance(native, TensorRtNative) else CpuStreams()
        example = empty_inputs(bundle.spec, request.batch, streams.device)
        call = streams.captured(_call(program, streams), example)
        runner = DeviceRunner(call, bundle.spec, request.batch, streams, host_sums=False)
        self._batches = FixedBatches(runner, bundle.spec)
        self._on_gpu = True
        self._name = f"tensorrt-{native.version}-{gpu.name}-{request.precision}".replace(" ", "_")
        if request.batch > 1 and not is_steady(self._batches, bundle.spec):
            raise EngineError(
                f"{self._name} scores an item differently in another place of a batch of "
                f"{request.batch}",
                bundle.uri,
                remedy="use runtime torch-graphs-bf16, which tries this before it runs",
            )
        check_golden(self, bundle, request.precision)


def open_built(
    bundle: Bundle,
    *,
    precision: Precision = "fp16",
    threads: int = 0,
    batch: int = 0,
    folder: Path | None = None,
    native: Native | None = None,
) -> TensorRtEngine:
    """Opens the plan that was built here for a bundle, in that precision.

    Args:
        threads: not used: the work is the GPU's.
        batch: items of a run; 0 for the largest that was built. Of two plans of one batch the
            one for this very GPU is opened, not the portable one.

    Raises:
        DeviceError: if there is no CUDA device.
        NotBuiltError: if there is no such plan; says which there are.
        EngineError: as `TensorRtEngine`.
        MissingExtraError: if TensorRT is not installed.
    """
    native = native or tensorrt_native()
    cache = EngineCache(folder=folder or engine_folder(), suffix=SUFFIX)
    there = built_plans(bundle, cache, native.version, _gpu_of(native, bundle))
    fit = [w for w in there if w.precision == precision and batch in (0, w.batch)]
    asked = PlanRequest(precision=precision, batch=batch)
    request = max(fit, key=lambda w: (w.batch, not w.portable), default=asked)
    return TensorRtEngine(bundle, request=request, folder=folder, native=native)


def built_plans(bundle: Bundle, cache: EngineCache, version: str, gpu: Gpu) -> list[PlanRequest]:
    """What was built for a bundle that opens on this GPU with this TensorRT."""
    found = []
    for facts in cache.made(KIND):
        batch, precision = facts.get("batch", ""), facts.get("precision")
        if not batch.isdigit():
            continue
        for portable in (False, True):
            request = PlanRequest(
                precision=cast("Precision", precision), batch=int(batch), portable=portable
            )
            if plan_facts(bundle, request, version, gpu) == facts:
                found.append(request)
    return found


def build(
    bundle: Bundle,
    cache_dir: Path | None = None,
    *,
    request: PlanRequest | None = None,
    native: Native | None = None,
) -> Path:
    """Builds the plan of a bundle for this GPU, takes minutes, and keeps it.

    Returns:
        Where it lies; `TensorRtEngine` finds it there by what it was built for.

    Raises:
        DeviceError: if there is no CUDA device.
        EngineError: a graph TensorRT does not take, or a build that fails.
        MissingExtraError: TensorRT or the package onnx is not installed.
    """
    native = native or tensorrt_native()
    gpu = _gpu_of(native, bundle)
    request = with_batch(request or PlanRequest(), bundle)
    graph = graph_for(bundle, request.precision)
    folder = cache_dir or engine_folder()
    learned = EngineCache(folder=folder, suffix=".timing")
    timing_facts = {"kind": "timing", "tensorrt": native.version, **_gpu_facts(gpu)}
    order = BuildOrder(
        graph=graph,
        shapes=input_shapes(bundle, request),
        portable=request.portable,
        timing=learned.get(timing_facts) or b"",
    )
    plan, timing = native.build(order)
    if timing:
        learned.keep(timing_facts, timing)
    facts = plan_facts(bundle, request, native.version, gpu)
    return EngineCache(folder=folder, suffix=SUFFIX).keep(facts, plan)


def graph_for(bundle: Bundle, precision: Precision) -> bytes:
    """The bundle's graph in the types it is to run in.

    Raises:
        EngineError: if the bundle has none for int8, or TensorRT does not take it.
    """
    source = bundle.file("model.int8.onnx") if precision == "int8" else bundle.graph
    if source is None:
        raise EngineError(
            f"bundle {bundle.uri} has no model.int8.onnx: quantise it in training, or use fp16"
        )
    graph = prepared(source, precision)
    if found := problems(graph):
        raise EngineError(
            f"bundle {bundle.uri}: TensorRT does not take its graph: {'; '.join(found[:5])}; "
            "use runtime torch or onnxruntime"
        )
    return graph


def with_batch(request: PlanRequest, bundle: Bundle) -> PlanRequest:
    """The request with the batch it stands for."""
    return request if request.batch else replace(request, batch=sizes(bundle.spec, device=True)[0])


def input_shapes(bundle: Bundle, request: PlanRequest) -> dict[str, tuple[int, ...]]:
    """Of every graph input, with the batch."""
    return {n: (request.batch, *shape) for n, (shape, _) in graph_inputs(bundle.spec).items()}


def plan_facts(bundle: Bundle, request: PlanRequest, version: str, gpu: Gpu) -> dict[str, str]:
    """What a plan depends on: with anything else it is another plan."""
    where = {"gpu": "Ampere or later"} if request.portable else _gpu_facts(gpu)
    return {
        "kind": KIND,
        "bundle": bundle.digest,
        "tensorrt": version.split(".")[0] if request.portable else version,
        "host": platform.machine(),
        "precision": request.precision,
        "batch": str(request.batch),
        "recipe": _RECIPE,
        **where,
    }


class TensorRtNative:
    """TensorRT itself. Never made without a GPU: its libraries end the process then."""

    def __init__(self, trt: Any, gpu: Gpu) -> None:
        self._trt, self._gpu = trt, gpu
        self._logger = trt.Logger(trt.Logger.ERROR)

    @property
    def version(self) -> str:
        return str(self._trt.__version__)

    def gpu(self) -> Gpu | None:
        return self._gpu

    def build(self, order: BuildOrder) -> tuple[bytes, bytes]:
        trt = self._trt
        builder = trt.Builder(self._logger)
        strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(strongly_typed)
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(order.graph):
            errors = [parser.get_error(n) for n in range(parser.num_errors)]
            raise EngineError(f"TensorRT refuses the graph: {'; '.join(e.desc() for e in errors)}")
        profile = builder.create_optimization_profile()
        for name, shape in order.shapes.items():
            profile.set_shape(name, shape, shape, shape)
        config = builder.create_builder_config()
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the shapes {dict(order.shapes)}")
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32
        config.set_flag(trt.BuilderFlag.DISTRIBUTIVE_INDEPENDENCE)
        if order.portable:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        cache = config.create_timing_cache(order.timing)
        config.set_timing_cache(cache, False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError("TensorRT could not build the graph; its log says why")
        return bytes(plan), bytes(cache.serialize())

    def load(self, plan: bytes, shapes: Shapes, *, portable: bool) -> Program:
        trt = self._trt
        runtime = trt.Runtime(self._logger)
        if portable:
            runtime.engine_host_code_allowed = True  # the plan's digest was checked
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"TensorRT {self.version} does not open this plan on {self._gpu.name}, driver "
                f"{self._gpu.driver}; build it again here"
            )
        context = engine.create_execution_context()
        names = [engine.get_tensor_name(n) for n in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        if sorted(inputs) != sorted(shapes):
            raise EngineError(f"the plan takes {sorted(inputs)}, expected {sorted(shapes)}")
        if engine.get_tensor_dtype("logits") != trt.DataType.FLOAT:
            raise EngineError("the plan's logits are not float32; build it again")
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"the plan does not take {name} of shape {shape}; build it again")
        return _Loaded(runtime, engine, context)


class _Loaded:
    """A plan on the GPU; one execution context, one shape."""

    def __init__(self, runtime: Any, engine: Any, context: Any) -> None:
        self._owners = runtime, engine  # must outlive the context
        self._context = context

    def shape(self, name: str) -> tuple[int, ...]:
        context = self._context
        return tuple(context.get_tensor_shape(name))

    def bind(self, name: str, address: int) -> None:
        context = self._context
        if not context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT refuses an address for {name}")

    def enqueue(self, stream: int) -> None:
        context = self._context
        if not context.execute_async_v3(stream):
            raise EngineError("TensorRT could not queue a run; its log says why")


def tensorrt_native() -> Native:
    """TensorRT as it is installed here.

    Raises:
        DeviceError: if there is no CUDA device.
        MissingExtraError: if TensorRT is not installed, or older than 10.12.
    """
    try:
        from quakestream.engines.torch import cuda_facts
    except ImportError as error:
        raise MissingExtraError(
            f"runtime tensorrt keeps its buffers in torch, which is not installed: {error}"
        ) from error
    facts = cuda_facts()
    if facts is None:
        raise DeviceError(
            "runtime tensorrt needs a CUDA device and there is none here; use openvino, torch or "
            "onnxruntime"
        )
    try:
        import tensorrt  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError(
            f"runtime tensorrt is not installed: pip install 'quakestream[tensorrt]' ({error})"
        ) from error
    if tuple(int(n) for n in tensorrt.__version__.split(".")[:2]) < OLDEST:
        raise MissingExtraError(
            f"TensorRT {tensorrt.__version__} is too old, expected 10.12 or later: "
            "pip install 'quakestream[tensorrt]'"
        )
    return TensorRtNative(tensorrt, Gpu(**facts))


def _call(program: Program, streams: Streams) -> Call:
    """The plan as a call from inputs to logits on the device."""
    logits = streams.floats(program.shape("logits"))

    def call(inputs: Mapping[str, Any]) -> Any:
        for name, tensor in inputs.items():
            program.bind(name, tensor.data_ptr())
        program.bind("logits", logits.data_ptr())
        program.enqueue(streams.handle())
        return logits

    return call


def _gpu_of(native: Native, bundle: Bundle) -> Gpu:
    gpu = native.gpu()
    if gpu is None:
        raise DeviceError(
            f"bundle {bundle.uri}: runtime tensorrt needs a CUDA device and there is none here; "
            "use openvino, torch or onnxruntime"
        )
    return gpu


def _gpu_facts(gpu: Gpu) -> dict[str, str]:
    return {"gpu": gpu.name, "capability": gpu.capability, "driver": gpu.driver}


def _missing(
    bundle: Bundle, request: PlanRequest, native: Native, gpu: Gpu, cache: EngineCache
) -> str:
    there = built_plans(bundle, cache, native.version, gpu)
    others = ", ".join(f"{w.precision} batch {w.batch}" for w in there) or "none"
    return (
        f"bundle {bundle.uri}: no plan for {gpu.name} (compute {gpu.capability}, driver "
        f"{gpu.driver}), TensorRT {native.version}, {request.precision}, batch {request.batch} in "
        f"{cache.folder} (there: {others}); build it once with `quakestream engine build "
        f"{bundle.uri} --runtime tensorrt --precision {request.precision} --batch {request.batch}"
        f"{' --portable' if request.portable else ''}`"
    )


_: type[Engine] = TensorRtEngine
_native: type[Native] = TensorRtNative
