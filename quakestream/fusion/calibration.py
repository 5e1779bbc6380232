"""Applies the calibration of a bundle to the scores of buildings."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quakestream.domain.calibration import SCORE_LOGIT, Calibration
from quakestream.errors import ShapeError

F64 = NDArray[np.float64]

LEAST_SCORE = 1e-3
"""Scores nearer to 0 or 1 count as this near: one building is no proof to a thousand to one."""


def score_logit(score_N: NDArray[np.floating]) -> F64:
    """Logit of scores, which are bounded away from 0 and 1; NaN stays NaN."""
    bounded_N = np.clip(np.asarray(score_N, np.float64), LEAST_SCORE, 1.0 - LEAST_SCORE)
    return np.asarray(np.log(bounded_N) - np.log1p(-bounded_N))


def log_ratio(calibration: Calibration, features: Mapping[str, NDArray[np.floating]]) -> F64:
    """Logarithm of how many times likelier a building's values are if it is destroyed.

    It depends on no share of destroyed buildings. It is NaN where the score is missing. Another
    missing value counts as the typical one.

    Args:
        calibration: of the bundle that made the scores.
        features: values of N buildings by the names of the calibration's features.

    Raises:
        ShapeError: if a feature is missing, or features differ in length.
    """
    if missing := sorted(set(calibration.features) - features.keys()):
        raise ShapeError("features are missing", ", ".join(missing))
    centres = calibration.centres or (0.0,) * len(calibration.features)
    logit_N = np.full(len(features[SCORE_LOGIT]), calibration.intercept)
    for name, weight, centre in zip(
        calibration.features, calibration.weights, centres, strict=True
    ):
        value_N = np.asarray(features[name], np.float64) - centre
        if value_N.shape != logit_N.shape:
            raise ShapeError("features differ in length", name)
        logit_N += weight * (value_N if name == SCORE_LOGIT else np.nan_to_num(value_N))
    return logit_N - logit(calibration.share)


def logit(share: float) -> float:
    """Log-odds of a share."""
    return float(np.log(share) - np.log1p(-share))
