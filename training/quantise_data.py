"""What the gate of a quantised graph gets: samples, and an evaluation of engines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.engines import Engine
from training.graphs import Arrays


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineResult:
    """Scores of an engine on the evaluation buildings."""

    auc: float
    """AUC over buildings or pixels; for several classes the mean of each against the rest."""
    severe_N: NDArray[np.bool_]
    """True for buildings declared severely damaged at the balanced threshold, or for pixels
    declared a landslide."""
    f1: float | None = None
    """F1 over pixels at the balanced threshold; None for buildings."""

    def changed(self, before: "EngineResult") -> float:
        """Share of verdicts that differ: of all buildings, or of pixels that either declares.

        Most ground is plainly no slide. Over all pixels a change of every slide would look small.
        """
        differ_N = self.severe_N != before.severe_N
        if self.f1 is None:
            return float(differ_N.mean())
        declared = int((self.severe_N | before.severe_N).sum())
        return float(differ_N.sum() / max(declared, 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationData:
    """Samples to calibrate on, and an evaluation on other buildings."""

    samples: Sequence[Arrays]
    judge: Callable[[Engine], EngineResult]
    about: dict[str, Any]
    """Origin of both, for the manifest."""
