"""`python -m training.post_only BUNDLE...`: building bundles on the real crops of İslahiye.

The crops show one city after the event and have no coordinates, so only bundles that take no image
from before can be judged on them. Hazard values are missing. "Not destroyed" is the absence of a
tag. Beside each model stand the size of the footprint alone and the spread of brightness inside it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from quakestream.bundles import load_bundle
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import first_severe
from training.data.islahiye import PostCrop, islahiye_crops
from training.data.turkiye import default_data_dir
from training.metrics import block_interval, stratified_auc
from training.models import BATCH, Model, bundle_model

F64 = NDArray[np.float64]


def severe_scores(model: Model, crops: Sequence[PostCrop]) -> F64:
    """Probability of severe damage of each crop, with all hazard values missing.

    Crops are scaled to the model's GSD and cut, or padded with the mean colour, to its window. The
    mean and the deviation are those of all crops together, since no scene is known.

    Raises:
        RequestError: if the model needs an image from before the event.
    """
    spec = model.spec
    if spec.task != "building" or spec.epochs != ("post",):
        raise RequestError(
            "cannot be judged on crops after the event",
            spec.name,
            expected="a building bundle that takes the image after the event alone",
            got=f"task {spec.task}, epochs {', '.join(spec.epochs) or 'none'}",
        )
    small = [crop.resized(spec.gsd_m) for crop in crops]
    colour_BP = np.concatenate([c.pixels_BYX.reshape(3, -1) for c in small], axis=1)
    mean_B, std_B = colour_BP.mean(axis=1), colour_BP.std(axis=1)
    window_NBYX = np.stack([_window(c.pixels_BYX, mean_B, spec.window_px) for c in small])
    first, parts = first_severe(spec.classes), []
    for start in range(0, len(small), BATCH):
        part_NBYX = window_NBYX[start : start + BATCH]
        arrays: dict[str, NDArray[Any]] = {
            "post": part_NBYX,
            "post_mean_NB": np.tile(mean_B.astype(np.float32), (len(part_NBYX), 1)),
            "post_std_NB": np.tile(std_B.astype(np.float32), (len(part_NBYX), 1)),
        }
        if spec.hazard:
            arrays["hazard"] = np.full((len(part_NBYX), len(spec.hazard)), np.nan, np.float32)
        parts.append(model.probabilities(arrays)[:, first:].sum(axis=1))
    return np.concatenate(parts)


def size_aware_figures(
    score_N: F64, crops: Sequence[PostCrop], *, draws: int = 1000
) -> dict[str, Any]:
    """ROC area, plain and among buildings of one size, with a 95 % interval over blocks."""
    destroyed_N = np.array([crop.destroyed for crop in crops])
    size_N = np.array([crop.inside_YX.sum() for crop in crops], np.float64)
    block_N = np.array([crop.block for crop in crops])

    def auc(weight_N: F64) -> float:
        if not 0 < weight_N[destroyed_N].sum() < weight_N.sum():
            return float("nan")
        return float(roc_auc_score(destroyed_N, score_N, sample_weight=weight_N))

    return {
        "destroyed": int(destroyed_N.sum()),
        "others": int((~destroyed_N).sum()),
        "auc": asdict(block_interval(auc, block_N, draws=draws)),
        "auc_within_sizes": stratified_auc(score_N, destroyed_N, size_N),
    }


def standing_scores_of(crops: Sequence[PostCrop]) -> dict[str, F64]:
    """Scores that need no training."""
    return {
        "footprint area alone": np.array([crop.inside_YX.sum() for crop in crops], np.float64),
        "spread of brightness inside": np.array(
            [crop.pixels_BYX.mean(axis=0)[crop.inside_YX].std() for crop in crops], np.float64
        ),
    }


def _window(pixels_BYX: NDArray[np.uint8], mean_B: F64, side: int) -> NDArray[np.uint8]:
    """The middle of a crop in a square; the rest has the mean colour."""
    window_BYX = np.empty((3, side, side), np.uint8)
    window_BYX[:] = np.rint(mean_B)[:, None, None]
    height, width = (min(side, s) for s in pixels_BYX.shape[1:])
    y, x = (pixels_BYX.shape[1] - height) // 2, (pixels_BYX.shape[2] - width) // 2
    top, left = (side - height) // 2, (side - width) // 2
    window_BYX[:, top : top + height, left : left + width] = pixels_BYX[
        :, y : y + height, x : x + width
    ]
    return window_BYX


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one JSON object per row. Returns 0 when done, 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m training.post_only", description=__doc__)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    options = parser.parse_args(arguments)
    try:
        crops = list(islahiye_crops(default_data_dir()))
        scores = standing_scores_of(crops)
        for place in options.bundles:
            scores[place] = severe_scores(bundle_model(load_bundle(place)), crops)
        for name, score_N in scores.items():
            print(json.dumps({"row": name, **size_aware_figures(score_N, crops)}), flush=True)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
