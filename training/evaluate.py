"""`python -m training.evaluate CKPT`: held-out figures, intervals and the difference baseline."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Thresholds
from quakestream.errors import QuakestreamError
from training.calibrate import Calibration, calibrate, calibration_error, choose_thresholds
from training.checkpoints import load_checkpoint
from training.data.pairs import LabelledPair
from training.data.sources import load_pairs
from training.loop import held_out_logits
from training.metrics import arrays, auc_interval, figures
from training.scoring import BuildingLogits, pixels_of

BOOTSTRAP_BLOCK_M = 150.0


def report(
    scored: Sequence[BuildingLogits], pairs: Sequence[LabelledPair], calibration: Calibration
) -> dict[str, Any]:
    """Figures of calibrated probabilities of held-out buildings, and of their difference."""
    p_N, destroyed_N = arrays(scored, temperature=calibration.temperature)
    block_N = _blocks(scored)
    prior = calibration.prior
    thresholds = choose_thresholds(p_N, destroyed_N)
    difference_N = differences(scored, pairs)
    return {
        **asdict(figures(p_N, destroyed_N)),
        "auc_95": auc_interval(p_N, destroyed_N, block_N),
        "difference_auc": figures(difference_N, destroyed_N, probabilities=False).auc,
        "calibration_error": calibration_error(p_N, destroyed_N, prior=prior),
        "prior": prior,
        "operating_points": _operating_points(p_N, destroyed_N, thresholds),
    }


def differences(
    scored: Sequence[BuildingLogits], pairs: Sequence[LabelledPair]
) -> NDArray[np.float64]:
    """Mean |post - pre| in counts inside each building: what any model must beat."""
    by_name = {pair.name: pair for pair in pairs}
    values = []
    for item in scored:
        pair = by_name[item.pair]
        rows, cols, inside_YX = pixels_of(item.building, pair)
        pre, post = (i.pixels_BYX[:, rows, cols][:, inside_YX] for i in (pair.pre, pair.post))
        values.append(np.abs(post.astype(np.int16) - pre).mean())
    return np.array(values, np.float64)


def _operating_points(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], thresholds: Thresholds
) -> dict[str, dict[str, float]]:
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


def _blocks(scored: Sequence[BuildingLogits]) -> NDArray[np.int64]:
    centres = [s.building.geometry.centroid for s in scored]
    keys = [(int(c.x // BOOTSTRAP_BLOCK_M), int(c.y // BOOTSTRAP_BLOCK_M)) for c in centres]
    place = {key: i for i, key in enumerate(sorted(set(keys)))}
    return np.array([place[key] for key in keys], np.int64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one JSON object a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    try:
        for path in options.checkpoints:
            checkpoint = load_checkpoint(path)
            pairs = load_pairs(checkpoint.config, held_only=True)
            scored = held_out_logits(checkpoint.config, pairs, checkpoint.network())
            values = report(scored, pairs, calibrate(scored))
            print(json.dumps({"checkpoint": str(path), "step": checkpoint.step, **values}))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
