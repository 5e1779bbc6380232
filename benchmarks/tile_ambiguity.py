"""Do boundaries and likeness of classes go with the uncertainty of a landslide network, by tile?

    python -m benchmarks.tile_ambiguity --photos hokkaido-iburi-rgb-mini HALF0.pt HALF1.pt
    python -m benchmarks.tile_ambiguity --chips SET CKPT

With photos, each checkpoint is asked on the half of the scenes that it did not see, in tiles of
128 px. With chips, on the test part. BPR and MDF are those of `training.active`; uncertainty is the
mean over the pixels of a tile, from Monte Carlo dropout with fixed masks and raw probabilities.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from training.active import (
    bald,
    boundary_ratio,
    class_distance,
    correlate,
    entropy,
    margin,
)
from training.checkpoints import Checkpoint, load_checkpoint
from training.data.slide_chips import open_chips_of
from training.data.slide_photos import halves, read_photos
from training.networks import PixelNetwork
from training.uncertain_graph import pass_logits, with_fixed_masks

TILE_PX = 128
SCORES = {"entropy": entropy, "margin": margin, "bald": bald}
Tile = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
"""Pixels (band, y, x), truth (y, x), and probabilities of a slide (pass, y, x)."""


def tiles_of_photos(folder: Path, checkpoints: Sequence[Path], passes: int) -> Iterator[Tile]:
    """Tiles of the scenes that each checkpoint did not see."""
    for path, half in zip(checkpoints, halves(read_photos(folder)), strict=True):
        checkpoint = load_checkpoint(path)
        network = _masked(checkpoint, passes)
        for photo in half:
            pixels_BYX = photo.pixels_BYX.astype(np.float32)
            p_NYX = _probabilities(network, checkpoint, pixels_BYX, passes)
            for row in range(0, pixels_BYX.shape[1], TILE_PX):
                for col in range(0, pixels_BYX.shape[2], TILE_PX):
                    cut = (..., slice(row, row + TILE_PX), slice(col, col + TILE_PX))
                    yield pixels_BYX[cut], photo.mask_YX[cut] > 0, p_NYX[cut]


def tiles_of_chips(folder: Path, path: Path, passes: int) -> Iterator[Tile]:
    """The test chips of a set."""
    checkpoint = load_checkpoint(path)
    network = _masked(checkpoint, passes)
    chips = open_chips_of(folder, "test", checkpoint.facts["bands"])
    for image_NBYX, mask_NYX in chips.batches(1):
        p_NYX = _probabilities(network, checkpoint, image_NBYX[0], passes)
        yield image_NBYX[0], mask_NYX[0] > 0, p_NYX


def measured(tiles: Iterator[Tile]) -> dict[str, NDArray[np.float64]]:
    """Indices and uncertainties of each tile."""
    rows: list[dict[str, float]] = []
    for pixels_BYX, truth_YX, p_NYX in tiles:
        found_YX = p_NYX.mean(axis=0) >= 0.5
        flat = p_NYX.reshape(len(p_NYX), -1)
        p_TNC = np.stack([1 - flat, flat], axis=-1)
        row = {name: float(score(p_TNC).mean()) for name, score in SCORES.items()}
        row |= {"share": float(truth_YX.mean()), "share found": float(found_YX.mean())}
        for source, mask_YX in (("truth", truth_YX), ("prediction", found_YX)):
            row[f"BPR, {source}"] = boundary_ratio(mask_YX.astype(np.int8))
            row[f"MDF, {source}"] = class_distance(pixels_BYX, mask_YX)
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def table(found: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Correlations over all tiles, over tiles with both classes, and given the share of slides."""
    rows = []
    for source, share in (("truth", "share"), ("prediction", "share found")):
        both = (found[share] > 0) & (found[share] < 1)
        for index in ("BPR", "MDF"):
            values = found[f"{index}, {source}"]
            for score in SCORES:
                row = {"index": f"{index}, {source}", "score": score}
                row["all"] = asdict(correlate(values, found[score]))
                row["both"] = asdict(correlate(values[both], found[score][both]))
                row["given share"] = asdict(
                    given(values[both], found[score][both], found[share][both])
                )
                rows.append(row)
    return rows


def given(a_N: NDArray[np.float64], b_N: NDArray[np.float64], by_N: NDArray[np.float64]) -> Any:
    """The rank correlation of two values after the rank of a third is taken out of both."""
    known = np.isfinite(a_N) & np.isfinite(b_N)
    ranks = [rankdata(v[known]) for v in (a_N, b_N, by_N)]
    slope = np.stack([ranks[2], np.ones(len(ranks[2]))], axis=1)
    left = [r - slope @ np.linalg.lstsq(slope, r, rcond=None)[0] for r in ranks[:2]]
    return correlate(left[0], left[1])


def as_table(rows: Sequence[dict[str, Any]], count: int) -> str:
    """Spearman's correlations; p-values times the number of rows (Bonferroni)."""
    lines = ["| index | score | all tiles | tiles with both classes | given the share of slides |"]
    lines += ["|---|---|---|---|---|"]
    for row in rows:
        cells = []
        for part in ("all", "both", "given share"):
            p = min(1.0, row[part]["spearman_p"] * len(rows))
            cells.append(f"{row[part]['spearman']:+.2f} (p {p:.1g}, {row[part]['items']})")
        lines.append(f"| {row['index']} | {row['score']} | {' | '.join(cells)} |")
    return "\n".join([f"{count} tiles", *lines])


def _masked(checkpoint: Checkpoint, passes: int) -> PixelNetwork:
    network = checkpoint.network()
    assert isinstance(network, PixelNetwork)
    return with_fixed_masks(network, passes, seed=0)


def _probabilities(
    network: PixelNetwork, checkpoint: Checkpoint, pixels_BYX: NDArray[np.float32], passes: int
) -> NDArray[np.float32]:
    mean_B, std_B = (np.array(checkpoint.facts[k], np.float32) for k in ("mean", "std"))
    z_BYX = (pixels_BYX - mean_B[:, None, None]) / std_B[:, None, None]
    with torch.inference_mode():
        logits = pass_logits(network, torch.from_numpy(z_BYX[None]), passes)
    p_NYX: NDArray[np.float32] = torch.sigmoid(logits[0].float()).numpy()
    return p_NYX


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, metavar="DIR")
    parser.add_argument("--chips", type=Path, metavar="SET")
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CKPT")
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("-o", "--out", type=Path, metavar="JSON")
    options = parser.parse_args(arguments)
    if options.photos:
        tiles = tiles_of_photos(options.photos, options.checkpoints, options.passes)
    else:
        tiles = tiles_of_chips(options.chips, options.checkpoints[0], options.passes)
    found = measured(tiles)
    rows = table(found)
    print(as_table(rows, len(found["share"])))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
