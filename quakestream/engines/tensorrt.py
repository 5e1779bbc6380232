"""TensorRT 11 (10.12 and later), with plans that are built beforehand on the GPU they run on.

It has not run on a GPU yet, as no machine had TensorRT's builder. Tests cover everything around the
few native calls (`Native`), with ONNX Runtime in their place, and check each of those calls against
the real bindings. `deploy/prove_tensorrt.sh` tests the rest on a machine with TensorRT.

A plan belongs to one bundle, TensorRT version, GPU, driver, precision and batch size. Two builds of
one graph may differ in the last bits, so workers share a folder of plans.
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
"""If it is 1, a run builds a missing plan. Otherwise the run stops and says how to build it."""
KIND, SUFFIX = "tensorrt", ".plan"
"""Kind and file suffix of plans in the cache."""
_RECIPE = "1"
"""Version of the changes to a graph before a build. A new version makes new plans."""
_NO_GPU = "this machine has no CUDA device, and runtime tensorrt needs one"
_OTHER_RUNTIMES = "use openvino, torch or onnxruntime"
_REBUILD = "build it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """The precision and shapes that a plan is built for.

    Raises:
        EngineError: if the batch is negative.
    """

    precision: Precision = "fp16"
    batch: int = 0
    """Items of every run; 0 for a number that suits a GPU."""
    portable: bool = False
    """True for a plan that opens on any GPU since Ampere, for mixed fleets.

    It opens with any driver and with later versions of the same major version. It is slower, and it
    holds code that runs on the host.
    """

    def __post_init__(self) -> None:
        if self.batch < 0:
            raise EngineError(
                "batch is negative", "tensorrt plan", expected="0 or more", got=str(self.batch)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The properties of a GPU that a plan depends on."""

    name: str
    capability: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildOrder:
    """The inputs of a build."""

    graph: bytes
    """ONNX graph in the types that it runs in."""
    shapes: Shapes
    """Shape of each input, with the batch."""
    portable: bool
    timing: bytes
    """Timing cache of earlier builds on this GPU; empty for the first build."""


class Program(Protocol):
    """A plan opened on a GPU."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output."""
        ...

    def bind(self, name: str, address: int) -> None:
        """Sets the device address of an input or output."""
        ...

    def enqueue(self, stream: int) -> None:
        """Queues one run on a CUDA stream."""
        ...


class Native(Protocol):
    """The calls to TensorRT and the driver."""

    @property
    def version(self) -> str: ...

    def gpu(self) -> Gpu | None:
        """The GPU of this process; None if there is none. It is called before any other method."""
        ...

    def build(self, order: BuildOrder) -> tuple[bytes, bytes]:
        """A plan, and the timing cache of kernels.

        Raises:
            EngineError: if the graph is refused or the build fails.
        """
        ...

    def load(self, plan: bytes, shapes: Shapes, *, portable: bool) -> Program:
        """Opens a plan.

        Raises:
            EngineError: if the plan does not fit this GPU, driver and version.
        """
        ...


class TensorRtEngine(FixedEngine):
    """Runs a plan with fixed shapes and double buffers, from a captured CUDA graph.

    Opening compares it with the bundle's golden batch, which ONNX Runtime has scored. It refuses a
    plan that is not the same model, or whose scores depend on the place in a batch.

    Args:
        threads: not used, since the GPU does the work.
        request: the bundle's plan to open.
        folder: folder of plans; None for the folder of this machine.
        native: TensorRT, or its replacement in tests.
        may_build: whether to build a missing plan, which takes minutes.

    Raises:
        DeviceError: if there is no CUDA device.
        NotBuiltError: if there is no plan, or it does not match its record.
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
        from quakestream.engines.torch import DeviceRunner, empty_inputs
        from quakestream.engines.torch_streams import CpuStreams, streams_here

        native = native or tensorrt_native()
        gpu = _gpu_of(native, bundle)
        request = with_batch(request or PlanRequest(), bundle)
        facts = plan_facts(bundle, request, native.version, gpu)
        cache = EngineCache(folder=folder or engine_folder(), suffix=SUFFIX)
        plan = cache.get(facts)
        if plan is None and (may_build or os.environ.get(BUILD_VARIABLE) == "1"):
            plan = build(bundle, folder, request=request, native=native).read_bytes()
        if plan is None:
            raise _not_built(bundle, request, native, gpu, cache)
        program = native.load(plan, input_shapes(bundle, request), portable=request.portable)
        streams = streams_here() if isinstance(native, TensorRtNative) else CpuStreams()
        example = empty_inputs(bundle.spec, request.batch, streams.device)
        call = streams.capture(_call(program, streams), example)
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
    """Opens the plan that was built on this machine for a bundle and precision.

    Args:
        threads: not used, since the GPU does the work.
        batch: items of every run; 0 for the largest batch that was built. If a plan for this GPU
            and a portable plan have the same batch, the plan for this GPU is opened.

    Raises:
        DeviceError: if there is no CUDA device.
        NotBuiltError: if there is no such plan; it names the plans that exist.
        EngineError: as `TensorRtEngine`.
        MissingExtraError: if TensorRT is not installed.
    """
    native = native or tensorrt_native()
    cache = EngineCache(folder=folder or engine_folder(), suffix=SUFFIX)
    plans = built_plans(bundle, cache, native.version, _gpu_of(native, bundle))
    fit = [p for p in plans if p.precision == precision and batch in (0, p.batch)]
    default = PlanRequest(precision=precision, batch=batch)
    request = max(fit, key=lambda p: (p.batch, not p.portable), default=default)
    return TensorRtEngine(bundle, request=request, folder=folder, native=native)


def built_plans(bundle: Bundle, cache: EngineCache, version: str, gpu: Gpu) -> list[PlanRequest]:
    """Plans of a bundle in the cache that open on this GPU with this TensorRT."""
    plans = []
    for facts in cache.built(KIND):
        batch, precision = facts.get("batch", ""), facts.get("precision")
        if not batch.isdigit():
            continue
        for portable in (False, True):
            request = PlanRequest(
                precision=cast("Precision", precision), batch=int(batch), portable=portable
            )
            if plan_facts(bundle, request, version, gpu) == facts:
                plans.append(request)
    return plans


def build(
    bundle: Bundle,
    cache_dir: Path | None = None,
    *,
    request: PlanRequest | None = None,
    native: Native | None = None,
) -> Path:
    """Builds the plan of a bundle for this GPU and keeps it. A build takes minutes.

    Returns:
        The path of the plan. `TensorRtEngine` finds it there by its request.

    Raises:
        DeviceError: if there is no CUDA device.
        EngineError: if TensorRT does not support the graph, or the build fails.
        MissingExtraError: if TensorRT or the package onnx is not installed.
    """
    native = native or tensorrt_native()
    gpu = _gpu_of(native, bundle)
    request = with_batch(request or PlanRequest(), bundle)
    graph = graph_for(bundle, request.precision)
    folder = cache_dir or engine_folder()
    timings = EngineCache(folder=folder, suffix=".timing")
    timing_facts = {"kind": "timing", "tensorrt": native.version, **_gpu_facts(gpu)}
    order = BuildOrder(
        graph=graph,
        shapes=input_shapes(bundle, request),
        portable=request.portable,
        timing=timings.get(timing_facts) or b"",
    )
    plan, timing = native.build(order)
    if timing:
        timings.keep(timing_facts, timing)
    facts = plan_facts(bundle, request, native.version, gpu)
    return EngineCache(folder=folder, suffix=SUFFIX).keep(facts, plan)


def graph_for(bundle: Bundle, precision: Precision) -> bytes:
    """The bundle's graph in the types that it runs in.

    Raises:
        EngineError: if the bundle has no graph for int8, or TensorRT does not support the graph.
    """
    source = bundle.file("model.int8.onnx") if precision == "int8" else bundle.graph
    if source is None:
        raise EngineError(
            "bundle has no model.int8.onnx",
            bundle.uri,
            remedy="make one with `python -m training.quantise`, or use fp16",
        )
    graph = prepared(source, precision)
    if causes := problems(graph):
        raise EngineError(
            f"TensorRT does not support the graph ({'; '.join(causes[:5])})",
            bundle.uri,
            remedy="use runtime torch or onnxruntime",
        )
    return graph


def with_batch(request: PlanRequest, bundle: Bundle) -> PlanRequest:
    """The request with a definite batch."""
    return request if request.batch else replace(request, batch=sizes(bundle.spec, device=True)[0])


def input_shapes(bundle: Bundle, request: PlanRequest) -> dict[str, tuple[int, ...]]:
    """Shape of each graph input, with the batch."""
    return {n: (request.batch, *shape) for n, (shape, _) in graph_inputs(bundle.spec).items()}


def plan_facts(bundle: Bundle, request: PlanRequest, version: str, gpu: Gpu) -> dict[str, str]:
    """The facts that a plan depends on. If one differs, it is another plan."""
    device = {"gpu": "Ampere or later"} if request.portable else _gpu_facts(gpu)
    return {
        "kind": KIND,
        "bundle": bundle.digest,
        "tensorrt": version.split(".")[0] if request.portable else version,
        "host": platform.machine(),
        "precision": request.precision,
        "batch": str(request.batch),
        "recipe": _RECIPE,
        **device,
    }


class TensorRtNative:
    """TensorRT itself. Create it only on a GPU: elsewhere its libraries end the process."""

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
            raise EngineError(f"TensorRT refuses the graph ({'; '.join(e.desc() for e in errors)})")
        profile = builder.create_optimization_profile()
        for name, shape in order.shapes.items():
            profile.set_shape(name, shape, shape, shape)
        config = builder.create_builder_config()
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the shapes {dict(order.shapes)}")
        config.clear_flag(trt.BuilderFlag.TF32)  # no TF32 in float32 arithmetic
        config.set_flag(trt.BuilderFlag.DISTRIBUTIVE_INDEPENDENCE)
        if order.portable:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        cache = config.create_timing_cache(order.timing)
        config.set_timing_cache(cache, False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError("TensorRT cannot build the graph", remedy="see its log for the cause")
        return bytes(plan), bytes(cache.serialize())

    def load(self, plan: bytes, shapes: Shapes, *, portable: bool) -> Program:
        trt = self._trt
        runtime = trt.Runtime(self._logger)
        if portable:
            runtime.engine_host_code_allowed = True  # the plan's digest was checked
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"TensorRT {self.version} cannot open this plan on {self._gpu.name}, driver "
                f"{self._gpu.driver}",
                remedy="build it again on this machine",
            )
        context = engine.create_execution_context()
        names = [engine.get_tensor_name(n) for n in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        if sorted(inputs) != sorted(shapes):
            raise EngineError(
                "the plan has the wrong inputs",
                expected=", ".join(sorted(shapes)),
                got=", ".join(sorted(inputs)),
                remedy=_REBUILD,
            )
        if engine.get_tensor_dtype("logits") != trt.DataType.FLOAT:
            raise EngineError("the plan's logits are not float32", remedy=_REBUILD)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(
                    f"the plan does not take {name} of shape {shape}", remedy=_REBUILD
                )
        return _Loaded(runtime, engine, context)


class _Loaded:
    """A plan on the GPU with one execution context and fixed shapes."""

    def __init__(self, runtime: Any, engine: Any, context: Any) -> None:
        self._owners = runtime, engine  # must outlive the context
        self._context = context

    def shape(self, name: str) -> tuple[int, ...]:
        context = self._context
        return tuple(context.get_tensor_shape(name))

    def bind(self, name: str, address: int) -> None:
        context = self._context
        if not context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT refuses the address of {name}")

    def enqueue(self, stream: int) -> None:
        context = self._context
        if not context.execute_async_v3(stream):
            raise EngineError("TensorRT cannot queue a run", remedy="see its log for the cause")


def tensorrt_native() -> Native:
    """The TensorRT of this machine.

    Raises:
        DeviceError: if there is no CUDA device.
        MissingExtraError: if TensorRT is not installed, or older than 10.12.
    """
    try:
        from quakestream.engines.torch_streams import cuda_facts
    except ImportError as error:
        raise MissingExtraError(
            f"torch is not installed, and runtime tensorrt keeps its buffers in it ({error})",
            remedy="pip install 'quakestream[tensorrt]'",
        ) from error
    facts = cuda_facts()
    if facts is None:
        raise DeviceError(_NO_GPU, remedy=_OTHER_RUNTIMES)
    try:
        import tensorrt  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError(
            f"runtime tensorrt is not installed ({error})",
            remedy="pip install 'quakestream[tensorrt]'",
        ) from error
    if tuple(int(n) for n in tensorrt.__version__.split(".")[:2]) < OLDEST:
        raise MissingExtraError(
            "TensorRT is too old",
            expected="10.12 or later",
            got=str(tensorrt.__version__),
            remedy="pip install 'quakestream[tensorrt]'",
        )
    return TensorRtNative(tensorrt, Gpu(**facts))


def _call(program: Program, streams: Streams) -> Call:
    """The plan as a call that maps inputs to logits on the device."""
    logits = streams.empty(program.shape("logits"))

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
        raise DeviceError(_NO_GPU, bundle.uri, remedy=_OTHER_RUNTIMES)
    return gpu


def _gpu_facts(gpu: Gpu) -> dict[str, str]:
    return {"gpu": gpu.name, "capability": gpu.capability, "driver": gpu.driver}


def _not_built(
    bundle: Bundle, request: PlanRequest, native: Native, gpu: Gpu, cache: EngineCache
) -> NotBuiltError:
    plans = built_plans(bundle, cache, native.version, gpu)
    names = ", ".join(f"{plan.precision} batch {plan.batch}" for plan in plans) or "none"
    command = (
        f"quakestream engine build {bundle.uri} --runtime tensorrt --precision {request.precision} "
        f"--batch {request.batch}{' --portable' if request.portable else ''}"
    )
    return NotBuiltError(
        f"no plan for {gpu.name} (compute {gpu.capability}, driver {gpu.driver}) with TensorRT "
        f"{native.version} in {cache.folder}",
        bundle.uri,
        expected=f"{request.precision} batch {request.batch}",
        got=names,
        remedy=f"build it once with `{command}`",
    )


_: type[Engine] = TensorRtEngine
_native: type[Native] = TensorRtNative
