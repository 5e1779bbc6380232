"""Data that a quantised landslide graph is calibrated and judged on: windows of chips.

Training chips calibrate, test chips judge. Chips are laid side by side until they fill the
bundle's window, what lies beyond it is cut off, and values are in physical units, as the graph
takes them.
"""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from quakestream.domain import BundleSpec
from quakestream.engines import Batch, Engine
from quakestream.errors import RequestError
from training.data.slide_chips import ChipSetInfo, Part, SlideChips, open_chips_of
from training.graphs import Arrays
from training.metrics.scores import ScoreCounts
from training.quantise_data import CalibrationData, EngineResult

U8 = NDArray[np.uint8]


def slide_calibration_data(spec: BundleSpec, root: Path, samples: int) -> CalibrationData:
    """Windows of training chips calibrate; pixels of test chips judge.

    Raises:
        RequestError: if the set has other bands, does not state its units, or is too small.
    """
    train = open_chips_of(root, "train", spec.bands)
    judged = list(windows(spec, root, "test"))
    wanted = min(samples, len(train) // chips_per_window(spec, train))
    if not judged or not wanted:
        raise RequestError(
            "too few chips for a window",
            str(root),
            expected=f"at least {chips_per_window(spec, train)} in train and in test",
        )
    every = list(windows(spec, root, "train", first=wanted))

    def judge(engine: Engine) -> EngineResult:
        counts, declared = ScoreCounts(), []
        for inputs, mask_YX in judged:
            p_YX = expit(np.asarray(engine.score(Batch.of(inputs, spec)))[0, 0])
            counts += ScoreCounts.of(p_YX, mask_YX)
            declared.append((p_YX >= spec.thresholds.balanced).ravel())
        return EngineResult(
            auc=counts.ranking()["auc"],
            severe_N=np.concatenate(declared),
            f1=counts.figures_at(spec.thresholds.balanced)["f1"],
        )

    pixels = sum(mask.size for _, mask in judged)
    return CalibrationData(
        samples=[inputs for inputs, _ in every],
        judge=judge,
        about={
            "calibrated_on": f"{len(every)} windows of training chips",
            "judged_on": f"test part of {train.info.description}",
            "pixels": pixels,
            "landslide_pixels": int(sum(int(mask.sum()) for _, mask in judged)),
        },
    )


def windows(
    spec: BundleSpec, root: Path, part: Part, *, first: int | None = None
) -> Iterator[tuple[Arrays, U8]]:
    """Inputs and masks of whole windows, chips side by side; the rest of the chips is left out.

    Args:
        spec: gives bands, side of the window and type of the values.
        root: folder of the set.
        part: part of the set.
        first: number of windows, evenly spread over the chips; all if None.
    """
    chips = open_chips_of(root, part, spec.bands)
    each = chips_per_window(spec, chips)
    count = len(chips) // each
    chosen = range(count) if first is None else np.linspace(0, count - 1, first).round().astype(int)
    factor_B = _factors(spec, chips.info, root)
    for number in chosen:
        image_NBYX, mask_NYX = chips.read(range(int(number) * each, int(number + 1) * each))
        values_BYX = _side_by_side(image_NBYX, spec.window_px) * factor_B[:, None, None]
        if spec.dtype == "uint8":
            values_BYX = np.clip(np.rint(values_BYX), 0, 255)
        post = np.ascontiguousarray(values_BYX[None]).astype(spec.dtype)
        yield {"post": post}, _side_by_side(mask_NYX[:, None], spec.window_px)[0]


def chips_per_window(spec: BundleSpec, chips: SlideChips) -> int:
    """Number of chips that fill a window."""
    _, mask_NYX = chips.read([0])
    return int(ceil(spec.window_px / min(mask_NYX.shape[1:])) ** 2)


def _side_by_side(chip_NBYX: NDArray[Any], side: int) -> NDArray[Any]:
    """Chips of a square, row by row, cut to a side, (B, y, x)."""
    per_side = round(len(chip_NBYX) ** 0.5)
    rows = [
        np.concatenate(list(chip_NBYX[n : n + per_side]), axis=2)
        for n in range(0, len(chip_NBYX), per_side)
    ]
    return np.concatenate(rows, axis=1)[:, :side, :side]


def _factors(spec: BundleSpec, info: ChipSetInfo, root: Path) -> NDArray[np.float32]:
    if not info.physical_per_stored:
        raise RequestError(
            "the set does not say in what units its values are",
            str(root),
            expected="physical_per_stored for each band in about.json",
        )
    place = [info.bands.index(band) for band in spec.bands]
    return np.asarray([info.physical_per_stored[n] for n in place], np.float32)
