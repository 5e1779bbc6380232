"""ONNX Runtime on CPU: the reference engine."""

from typing import cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.engines.base import Batch, Engine, check_logits, owner_sums
from quakestream.engines.shapes import ROWS_AT_ONCE, crops_at_once, noise, padded_rows
from quakestream.errors import BundleError, EngineError, QuakestreamError


class OnnxRuntimeEngine:
    """Runs `model.onnx`. The scores of a window, crop or row never depend on its batch.

    Windows run one at a time, and rows of hazard values in runs of a fixed length. Several crops
    run together if this machine's kernels score them to the last bit as they score each alone,
    which is tested when the engine is opened. Otherwise crops run one at a time too.

    Args:
        threads: CPU threads of one run; 0 leaves the number to the runtime.
        batch: crops to run at once; 0 for a number that suits a CPU.

    Raises:
        BundleError: if the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0, batch: int = 0) -> None:
        self._spec = bundle.spec
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                bundle.graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions have no common base
            raise BundleError(f"model.onnx does not load ({error})", bundle.uri) from error
        crops = bundle.spec.task == "building"
        self._at_once = self._steady(batch or crops_at_once(bundle.spec)) if crops else 0

    @property
    def name(self) -> str:
        return f"onnxruntime-{ort.__version__}-cpu"

    @property
    def batch(self) -> int:
        """Crops of a run; 0 for windows and rows of hazard values, whose runs are fixed."""
        return self._at_once

    @property
    def on_gpu(self) -> bool:
        return False

    def score(self, batch: Batch) -> NDArray[np.float32]:
        batch.check(self._spec)
        if self._spec.task == "building":
            return self._crops(batch, self._at_once)
        if self._spec.task == "hazard":
            return self._rows(batch)
        return np.concatenate([self._run(batch, n, n + 1) for n in range(len(batch))])

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        batch.check(self._spec)
        batch.check_pixels(self._spec)
        owners = int(owner_NYX.max(initial=-1)) + 1
        sum_RC = np.zeros((owners, len(self._spec.classes)), np.int64)
        for n in range(len(batch)):
            owner_1YX = owner_NYX[n : n + 1]
            if (owner_1YX >= 0).any():
                sum_RC += owner_sums(self._run(batch, n, n + 1), owner_1YX, owners, self._spec)
        return sum_RC

    def _crops(self, batch: Batch, at_once: int) -> NDArray[np.float32]:
        runs = [
            self._run(batch, start, start + at_once, axes=2)
            for start in range(0, len(batch), at_once)
        ]
        return np.concatenate([np.empty((0, self._outputs(runs)), np.float32), *runs])

    def _rows(self, batch: Batch) -> NDArray[np.float32]:
        """Scores rows in runs of one shape. Kernels for other shapes differ in the last bits."""
        padded = padded_rows(batch)
        return self._crops(padded, ROWS_AT_ONCE)[: len(batch)]

    def _outputs(self, runs: list[NDArray[np.float32]]) -> int:
        return runs[0].shape[1] if runs else len(self._spec.classes)

    def _run(self, batch: Batch, start: int, stop: int, axes: int = 4) -> NDArray[np.float32]:
        try:
            outputs = self._session.run(["logits"], batch.inputs(start, stop))
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed ({error})", self._spec.name) from error
        logits = cast("NDArray[np.float32]", outputs[0])
        check_logits(logits, min(stop, len(batch)) - start, axes, self._spec)
        return logits

    def _steady(self, most: int) -> int:
        """How many crops, up to `most`, run at once here without changing a bit of their scores."""
        if most == 1:
            return 1
        batch = noise(self._spec, most)
        try:
            full = self._crops(batch, most)
            less = self._crops(batch.part(0, most - 1), most)
            alone = {n: self._crops(batch.part(n, n + 1), 1) for n in (0, most // 2, most - 1)}
        except QuakestreamError:  # a graph for one crop, or a graph that fails on any input
            return 1
        same = np.array_equal(less, full[:-1]) and all(
            np.array_equal(one[0], full[n]) for n, one in alone.items()
        )
        return most if same else 1


_: type[Engine] = OnnxRuntimeEngine
