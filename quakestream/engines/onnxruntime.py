"""ONNX Runtime on CPU: the reference engine."""

from typing import cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.engines.base import Batch, Engine, Scores, owner_sums
from quakestream.errors import BundleError, EngineError


class OnnxRuntimeEngine:
    """Runs `model.onnx` one window at a time: a window's score then never
    depends on its place in a batch, and no padding is computed.

    Raises:
        BundleError: if the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
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
            raise BundleError(f"{bundle.uri}: model.onnx does not load: {error}") from error

    @property
    def name(self) -> str:
        return f"onnxruntime-{ort.__version__}-cpu"

    def score(self, batch: Batch, owner_NYX: NDArray[np.int32] | None = None) -> Scores:
        batch.check(self._spec)
        if owner_NYX is None:
            logits = [self._run(batch, n) for n in range(len(batch))]
            return Scores(logits_NKYX=np.concatenate(logits))
        owners = int(owner_NYX.max(initial=-1)) + 1
        sum_RC = np.zeros((owners, len(self._spec.classes)), np.int64)
        for n in range(len(batch)):
            owner_1YX = owner_NYX[n : n + 1]
            if (owner_1YX >= 0).any():
                sum_RC += owner_sums(self._run(batch, n), owner_1YX, owners, self._spec)
        return Scores(sum_RC=sum_RC)

    def _run(self, batch: Batch, n: int) -> NDArray[np.float32]:
        try:
            outputs = self._session.run(["logits"], batch.inputs(n, n + 1))
        except Exception as error:
            raise EngineError(f"{self._spec.name}: ONNX Runtime failed: {error}") from error
        return cast("NDArray[np.float32]", outputs[0])


_: type[Engine] = OnnxRuntimeEngine
