"""Compares a runtime with the bundle's reference on its golden batch.

ONNX Runtime gave the reference logits of a golden batch when the bundle was exported. Runtimes of
lower precision cannot give the same logits, so probabilities are compared.
"""

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.engines.base import Batch, Engine, probabilities
from quakestream.errors import EngineError

ALLOWED = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.08, "int8": 0.35}
"""Largest difference of a calibrated probability, by precision.

Half precisions keep 11 or 8 bits of a logit. Activations of 8 bits move single pixels; training
judges their effect on buildings.
"""
ALLOWED_MEAN = {"fp32": 1e-4, "fp16": 1e-3, "bf16": 5e-3, "int8": 0.02}
"""Largest mean difference over the golden batch, by precision."""


def golden_shift(engine: Engine, bundle: Bundle) -> tuple[float, float]:
    """Largest and mean difference of a class probability from the golden reference.

    Raises:
        EngineError: if the logits do not have the reference's shape, or are not finite.
    """
    logits = engine.score(Batch.of(bundle.golden, bundle.spec))
    reference = bundle.golden["logits"]
    if logits.shape != reference.shape:
        raise EngineError(
            f"logits of {engine.name} for the golden batch have the wrong shape",
            bundle.uri,
            expected=str(reference.shape),
            got=str(logits.shape),
            remedy="export the bundle again",
        )
    if not np.isfinite(logits).all():
        raise EngineError(f"logits of {engine.name} are not finite", bundle.uri)
    shift = np.abs(_flat(logits, bundle) - _flat(reference, bundle))
    return float(shift.max(initial=0.0)), float(shift.mean()) if shift.size else 0.0


def within(precision: str, most: float, mean: float) -> bool:
    """Whether differences from the golden reference are those of one model."""
    return most <= ALLOWED[precision] and mean <= ALLOWED_MEAN[precision]


def check_golden(engine: Engine, bundle: Bundle, precision: str) -> float:
    """Checks an engine on the golden batch; returns the largest difference of a probability.

    Args:
        precision: `fp32`, `fp16`, `bf16` or `int8`.

    Raises:
        EngineError: if the engine is not the same model.
    """
    most, mean = golden_shift(engine, bundle)
    if within(precision, most, mean):
        return most
    raise EngineError(
        f"{engine.name} is not the same model as its reference: probabilities of the golden "
        "batch differ",
        bundle.uri,
        expected=f"at most {ALLOWED[precision]:g}, {ALLOWED_MEAN[precision]:g} on average",
        got=f"up to {most:.2g}, {mean:.2g} on average",
        remedy="use runtime onnxruntime",
    )


def _flat(logits: NDArray[np.float32], bundle: Bundle) -> NDArray[np.float32]:
    """Class probabilities, shape (C, items or pixels)."""
    outputs_first = np.moveaxis(logits, 1, 0)
    return probabilities(outputs_first.reshape(len(outputs_first), -1), bundle.spec)
