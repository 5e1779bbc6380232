"""Figures of pair models: by building, by pixel, and of the plain difference of the images."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from quakestream.domain import Thresholds
from training.calibrate import PixelCalibration, calibration_error, choose_thresholds
from training.data.pairs import LabelledPair
from training.metrics import (
    PixelCounts,
    arrays,
    auc_interval,
    batch_mean,
    blocks_of,
    figures,
    pooled,
)
from training.scoring import BuildingLogits, pixels_of

BOOTSTRAP_BLOCK_M = 150.0


COUNTED_PIXELS = (
    "inside labelled buildings alone; studies that count whole tiles are not comparable"
)


def report(
    scored: Sequence[BuildingLogits], pairs: Sequence[LabelledPair], calibration: PixelCalibration
) -> dict[str, Any]:
    """Figures of held-out buildings, and of the plain difference on the same buildings."""
    p_N, destroyed_N = arrays(scored, temperature=calibration.temperature)
    block_N = _blocks(scored, pairs)
    prior = calibration.prior
    thresholds = choose_thresholds(p_N, destroyed_N)
    difference_N = differences(scored, pairs)
    return {
        **asdict(figures(p_N, destroyed_N)),
        "auc_95": auc_interval(p_N, destroyed_N, block_N),
        "difference_auc": figures(difference_N, destroyed_N, probabilities=False).auc,
        "calibration_error": calibration_error(p_N, destroyed_N, prior=prior),
        "prior": prior,
        "operating_points": operating_points(p_N, destroyed_N, thresholds),
        "pixels": {"counted": COUNTED_PIXELS, **pixel_report(scored)},
    }


def pixel_report(scored: Sequence[BuildingLogits]) -> dict[str, Any]:
    """Figures of pixels inside held-out buildings at p = 0.5, as in segmentation studies.

    Ground without a known building does not count. `batch_mean` is the mean over pairs.
    """
    counts: dict[str, PixelCounts] = {}
    for item in scored:
        declared_P = expit(item.logit_P) >= 0.5
        truth_P = np.full(declared_P.shape, item.building.destroyed)
        counts.setdefault(item.pair, PixelCounts())
        counts[item.pair] += PixelCounts.of(declared_P, truth_P)
    return {"pooled": pooled(counts.values()), "batch_mean": batch_mean(counts.values())}


def differences(
    scored: Sequence[BuildingLogits], pairs: Sequence[LabelledPair]
) -> NDArray[np.float64]:
    """Mean |post - pre| in counts inside each building, the baseline that a model must beat."""
    by_name = {pair.name: pair for pair in pairs}
    values = []
    for item in scored:
        pair = by_name[item.pair]
        rows, cols, inside_YX = pixels_of(item.building, pair)
        pre, post = (i.pixels_BYX[:, rows, cols][:, inside_YX] for i in (pair.pre, pair.post))
        values.append(np.abs(post.astype(np.int16) - pre).mean())
    return np.array(values, np.float64)


def operating_points(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], thresholds: Thresholds
) -> dict[str, dict[str, float]]:
    """Recall, false alarms and precision at each threshold."""
    points = {}
    for name, threshold in asdict(thresholds).items():
        declared_N = p_N >= threshold
        points[name] = {
            "threshold": threshold,
            "recall": round(float(declared_N[destroyed_N].mean()), 3),
            "false_alarm_rate": round(float(declared_N[~destroyed_N].mean()), 3),
            "precision": round(float(destroyed_N[declared_N].mean()), 3),
        }
    return points


def _blocks(scored: Sequence[BuildingLogits], pairs: Sequence[LabelledPair]) -> NDArray[np.int64]:
    centres = [s.building.geometry.centroid for s in scored]
    zones = {pair.name: pair.grid.epsg for pair in pairs}
    return blocks_of(
        [c.x for c in centres],
        [c.y for c in centres],
        side_m=BOOTSTRAP_BLOCK_M,
        group_N=[zones[s.pair] for s in scored],
    )
