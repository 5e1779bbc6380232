"""OpenVINO on CPU: float32, bfloat16, and int8 from the bundle's own quantised graph.

A stream of the runtime is one thread with its own copy of the activations, and each window is
scored by one stream. The scores of a window then depend neither on the number of threads nor on
other windows. No thread waits for another inside a layer, and while one stream sums a window's
pixels by owner the others compute.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.engines.base import Batch, Engine, check_logits, owner_sums
from quakestream.engines.machine import usable_cores
from quakestream.engines.runtimes import INT8_GRAPH
from quakestream.engines.shapes import ROWS_AT_ONCE, crops_at_once, noise, padded_rows
from quakestream.errors import BundleError, DeviceError, EngineError, MissingExtraError

Precision = Literal["fp32", "bf16", "int8"]

T = TypeVar("T")

_FIRST_USE = Lock()
"""Held while a request runs for the first time.

The bindings set up their bridge to numpy with the first array. Two threads that do so at once
deadlock: one holds the interpreter, the other the bridge. Every request therefore runs once under
this lock before threads receive it.
"""


class OpenVinoEngine:
    """Runs `model.onnx`, or `model.int8.onnx`. The scores of an item never depend on its batch.

    Windows run one by one. Crops and rows of hazard values run in a fixed number, and the last run
    is padded. Several crops run together only if this machine's kernels give a crop the same bits
    in any place of a run, which is tested when the engine is opened.

    Args:
        bundle: the bundle to run.
        threads: number of streams, of one thread each; 0 for all cores of this process.
        batch: crops to run at once; 0 for a number that suits a CPU.
        precision: precision of the arithmetic. It is set in any case, since OpenVINO
            takes bfloat16 by default where the CPU has it.

    Raises:
        BundleError: if the runtime cannot load the graph, or there is no int8 graph.
        DeviceError: if the CPU does not support the precision.
        MissingExtraError: if OpenVINO is not installed.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 0, batch: int = 0, precision: Precision = "fp32"
    ) -> None:
        self._spec, self._precision = bundle.spec, precision
        self._streams = threads or usable_cores()
        self._openvino = _library()
        self._core = self._openvino.Core()
        if precision == "bf16" and "BF16" not in _capabilities(self._core):
            raise DeviceError(
                "this CPU has no bfloat16 arithmetic",
                "runtime openvino-bf16",
                remedy="use runtime openvino or openvino-int8",
            )
        self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="openvino")
        graph = _graph(bundle, precision)
        self._at_once = ROWS_AT_ONCE if bundle.spec.task == "hazard" else 1
        if bundle.spec.task == "building":
            self._at_once = batch or crops_at_once(bundle.spec)
        self._open(bundle.uri, graph)
        if bundle.spec.task == "building" and not self._steady():
            self._at_once = 1
            self._open(bundle.uri, graph)

    @property
    def name(self) -> str:
        version = str(self._openvino.__version__).split("-")[0]
        return f"openvino-{version}-cpu-{self._precision}"

    @property
    def batch(self) -> int:
        """Crops of a run; 0 for windows and rows of hazard values, whose runs are fixed."""
        return self._at_once if self._spec.task == "building" else 0

    @property
    def on_gpu(self) -> bool:
        return False

    def score(self, batch: Batch) -> NDArray[np.float32]:
        batch.check(self._spec)
        if self._spec.task == "building":
            return self._padded(batch)
        if self._spec.task == "hazard":
            return self._padded(padded_rows(batch))[: len(batch)]
        return np.concatenate(list(self._each(self._logits(batch), range(len(batch)))))

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        batch.check(self._spec)
        batch.check_pixels(self._spec)
        owners = int(owner_NYX.max(initial=-1)) + 1

        def window_sums(n: int, logits_1KYX: NDArray[np.float32]) -> NDArray[np.int64]:
            return owner_sums(logits_1KYX, owner_NYX[n : n + 1], owners, self._spec)

        owned = [n for n in range(len(batch)) if (owner_NYX[n] >= 0).any()]
        sum_RC = np.zeros((owners, len(self._spec.classes)), np.int64)
        for part_RC in self._each(self._logits(batch, window_sums), owned):
            sum_RC += part_RC
        return sum_RC

    def _logits(
        self, batch: Batch, then: Callable[[int, NDArray[np.float32]], Any] | None = None
    ) -> Callable[[int], Any]:
        """A function that scores window n on a free stream.

        Args:
            then: applied to the logits on that stream; None returns them.
        """

        def one(n: int) -> Any:
            request = self._requests.get()
            try:
                logits_1KYX = self._run(request, batch.part(n, n + 1), axes=4)
                return logits_1KYX.copy() if then is None else then(n, logits_1KYX)
            finally:
                self._requests.put(request)

        return one

    def _padded(self, batch: Batch) -> NDArray[np.float32]:
        """Logits (N, K) of crops or rows. Copies of its last crop fill up the last run."""
        size = self._at_once

        def one(start: int) -> NDArray[np.float32]:
            part = batch.part(start, start + size)
            request = self._requests.get()
            try:
                return self._run(request, _padded_run(part, size), axes=2)[: len(part)].copy()
            finally:
                self._requests.put(request)

        runs = list(self._each(one, range(0, len(batch), size)))
        outputs = runs[0].shape[1] if runs else len(self._spec.classes)
        return np.concatenate([np.empty((0, outputs), np.float32), *runs])

    def _each(self, one: Callable[[int], T], places: Iterable[int]) -> Iterable[T]:
        return self._pool.map(one, places)

    def _run(self, request: Any, part: Batch, axes: int) -> NDArray[np.float32]:
        """Logits in the memory of the stream. They are valid until its next run."""
        try:
            request.infer(part.inputs(0, len(part)), share_inputs=True, share_outputs=True)
            logits: NDArray[np.float32] = request.get_tensor("logits").data
        except Exception as error:  # the runtime raises RuntimeError, TypeError, ValueError
            raise EngineError(f"OpenVINO failed ({_line(error)})", self._spec.name) from error
        check_logits(logits, len(part), axes, self._spec)
        return logits

    def _open(self, uri: str, graph: bytes) -> None:
        """Compiles the graph for runs of one length, with one request per stream."""
        hint, properties = self._openvino.properties.hint, self._openvino.properties
        number = self._openvino.Type.bf16 if self._precision == "bf16" else self._openvino.Type.f32
        settings = {
            hint.inference_precision: number,
            hint.performance_mode: hint.PerformanceMode.THROUGHPUT,
            # Pinned threads of several engines on one machine would share the same cores.
            hint.enable_cpu_pinning: False,
            properties.num_streams: self._streams,
            properties.inference_num_threads: self._streams,
        }
        try:
            model = self._core.read_model(graph)
            shapes = {i.get_any_name(): i.get_partial_shape() for i in model.inputs}
            for shape in shapes.values():
                shape[0] = self._at_once
            model.reshape(shapes)
            compiled = self._core.compile_model(model, "CPU", settings)
        except Exception as error:  # the runtime's exceptions have no common base
            raise BundleError(f"OpenVINO cannot load the graph ({_line(error)})", uri) from error
        self._requests: SimpleQueue[Any] = SimpleQueue()
        axes = 4 if self._spec.scores_pixels else 2
        first = noise(self._spec, self._at_once)
        for _ in range(self._streams):
            request = compiled.create_infer_request()
            with _FIRST_USE:
                self._run(request, first, axes)
            self._requests.put(request)

    def _steady(self) -> bool:
        """Whether a crop gets the same bits in every place of a run, beside any other crop."""
        crops = noise(self._spec, self._at_once)
        here = self._padded(crops)
        for shift in (1, self._at_once // 2):
            order = np.roll(np.arange(self._at_once), shift)
            if not np.array_equal(self._padded(_select(crops, order)), here[order]):
                return False
        return np.array_equal(self._padded(crops.part(0, 1)), here[:1])


def _library() -> Any:
    """OpenVINO without its usage statistics.

    That package invents an id for this machine and writes it to the home directory on import.
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # blocks its import
    try:
        import openvino
        import openvino.properties.hint
    except ImportError as error:
        raise MissingExtraError(
            f"runtime openvino is not installed ({error})",
            remedy="pip install 'quakestream[openvino]'",
        ) from error
    return openvino


def _capabilities(core: Any) -> tuple[str, ...]:
    return tuple(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _graph(bundle: Bundle, precision: Precision) -> bytes:
    if precision != "int8":
        return bundle.graph
    graph = bundle.file(INT8_GRAPH)
    if graph is None:
        raise BundleError(
            f"bundle has no {INT8_GRAPH}",
            bundle.uri,
            remedy="make one with `python -m training.quantise`, or use runtime openvino",
        )
    source_digest = bundle.spec.metrics.get("int8", {}).get("model_sha256")
    if source_digest != hashlib.sha256(bundle.graph).hexdigest():
        raise BundleError(
            f"{INT8_GRAPH} was not made from this bundle's model.onnx",
            bundle.uri,
            remedy="make it again with `python -m training.quantise`",
        )
    return graph


def _padded_run(part: Batch, size: int) -> Batch:
    return part if len(part) == size else _select(part, np.arange(size).clip(max=len(part) - 1))


def _select(batch: Batch, order_N: NDArray[np.int64]) -> Batch:
    return Batch(
        images={k: v[order_N] for k, v in batch.images.items()},
        statistics={k: v[order_N] for k, v in batch.statistics.items()},
        hazard_NM=None if batch.hazard_NM is None else batch.hazard_NM[order_N],
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


_: type[Engine] = OpenVinoEngine
