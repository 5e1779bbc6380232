"""Figures on real RGB scenes, scene by scene, beside a threshold on colour.

    python -m training.slides.photos SCENES CKPT CKPT -o OUT

Each checkpoint is judged on the scenes that its set left out (`left_out.txt`), with the
calibration and threshold that were locked on its validation part.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quakestream.errors import QuakestreamError, RequestError
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import SlidesConfig
from training.data.slide_photos import Photo, read_photos
from training.lessons.slides import SlidesLesson, open_slides
from training.metrics import PixelCounts
from training.metrics.scores import ScoreCounts
from training.slides.protocol import Trust, trust_of
from training.uncertain_graph import pass_logits

F32 = NDArray[np.float32]


def bareness(pixels_BYX: NDArray[np.uint8]) -> F32:
    """How bare the ground looks, 0 to 1: brightness times the lack of green.

    The excess-green index of plants (Woebbecke et al. 1995) taken from one; water and shadow are
    as little green as soil, but dark.
    """
    red, green, blue = pixels_BYX.astype(np.float32)
    total = np.maximum(red + green + blue, 1.0)
    excess = (2.0 * green - red - blue) / total
    bright = np.clip(total / (3 * 160.0), 0.0, 1.0)
    return np.asarray(np.clip((0.35 - excess) / 0.5, 0.0, 1.0) * bright, np.float32)


def colour_threshold(photos: Sequence[Photo]) -> float:
    """The bareness from which ground is called a landslide, of the best F1 on some scenes."""
    counts = ScoreCounts()
    for photo in photos:
        counts += ScoreCounts.of(bareness(photo.pixels_BYX), photo.mask_YX)
    return counts.best_threshold()


def judged(
    checkpoint: Checkpoint, photos: Sequence[Photo], left_out: Sequence[str]
) -> list[dict[str, Any]]:
    """F1 of each left-out scene, by the network and by colour.

    The colour threshold is chosen on the scenes that were not left out.
    """
    lesson = open_slides(checkpoint.config_as(SlidesConfig))
    trust = trust_of(checkpoint, lesson)
    seen = [p for p in photos if p.name not in left_out]
    limit = colour_threshold(seen)
    rows = []
    for photo in photos:
        if photo.name not in left_out:
            continue
        truth = photo.mask_YX > 0
        found = probabilities(lesson, trust, photo) >= trust.threshold
        network = PixelCounts.of(found, truth)
        colour = PixelCounts.of(bareness(photo.pixels_BYX) >= limit, truth)
        rows.append(
            {
                "scene": photo.name,
                "share": float(truth.mean()),
                "f1": network.figures(undefined=0.0)["f1"],
                "colour_f1": colour.figures(undefined=0.0)["f1"],
                "counts": network,
                "colour_counts": colour,
            }
        )
    return rows


def probabilities(lesson: SlidesLesson, trust: Trust, photo: Photo) -> F32:
    """Calibrated probability of each pixel of a scene, whose sides are multiples of 32."""
    z = lesson.scale(photo.pixels_BYX[None].astype(np.float32))
    with torch.inference_mode():
        logits = pass_logits(trust.network, torch.from_numpy(z), trust.passes)
    return np.asarray(trust.platt(logits.float().numpy()).mean(axis=1)[0], np.float32)


def report(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pooled figures, and F1 scene by scene."""
    pooled = sum((row["counts"] for row in rows), PixelCounts()).figures(undefined=0.0)
    colour = sum((row["colour_counts"] for row in rows), PixelCounts()).figures(undefined=0.0)
    return {
        "scenes": [{k: row[k] for k in ("scene", "share", "f1", "colour_f1")} for row in rows],
        "pooled": {k: pooled[k] for k in ("f1", "precision", "recall", "iou")},
        "colour_pooled": {k: colour[k] for k in ("f1", "precision", "recall", "iou")},
        "mean_f1": float(np.mean([row["f1"] for row in rows])),
        "colour_mean_f1": float(np.mean([row["colour_f1"] for row in rows])),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Judges checkpoints. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.slides.photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenes", type=Path, help="folder with images/ and masks/")
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CKPT")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    options = parser.parse_args(arguments)
    try:
        photos = read_photos(options.scenes)
        rows: list[dict[str, Any]] = []
        for path in options.checkpoints:
            checkpoint = load_checkpoint(path)
            rows += judged(checkpoint, photos, _left_out(checkpoint))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    content = report(rows)
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"pooled F1 {content['pooled']['f1']:.3f}, colour {content['colour_pooled']['f1']:.3f}")
    return 0


def _left_out(checkpoint: Checkpoint) -> list[str]:
    path = Path(checkpoint.config_as(SlidesConfig).source) / "left_out.txt"
    if not path.exists():
        raise RequestError(
            "the set says of no scene that it was left out",
            str(path),
            remedy="make the set with --half, so that scenes are left to judge on",
        )
    return path.read_text(encoding="utf-8").split()


if __name__ == "__main__":
    raise SystemExit(main())
