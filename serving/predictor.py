"""Scores chips: the bundles that are offered, each with one open engine."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely import Polygon

from quakestream.bundles import Bundle, load_bundle
from quakestream.config.profiles import profile_settings
from quakestream.domain import BundleSpec
from quakestream.domain.calibration import SCORE_LOGIT
from quakestream.engines import Batch, Engine, probabilities
from quakestream.engines.parity import check_golden
from quakestream.engines.runtimes import runtime_named
from quakestream.errors import RequestError
from quakestream.fusion.calibration import log_ratio, score_logit
from quakestream.fusion.shares import at_share
from quakestream.pipeline.planning.engine import open_picked
from quakestream.raster.statistics import STATISTICS_GSD_M, SceneStatistics, statistics_of
from serving.chips import fit_to

CROPS_AT_ONCE = 8
"""Crops of one run of an engine. A run of fewer takes as long as a full one."""
CHIP_BANDS = 3
"""Bands of a chip: red, green and blue."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chip:
    """One chip pair, or one row of hazard values."""

    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Counts by epoch, shape (band, y, x)."""
    hazard: Mapping[str, float] = field(default_factory=dict)
    """Hazard values by the names of the bundle; names that are left out are missing."""
    footprint: Polygon | None = None
    """Outline of the building in pixels of the chip, from its top left corner."""
    share: float | None = None
    """Share of destroyed buildings that `p` assumes; None: that of the calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Class probabilities of one chip."""

    bundle: str
    digest: str
    engine: str
    probabilities: dict[str, float]
    """By label, sum 1, before calibration. Of a bundle that scores pixels, the mean over the
    footprint, or over the chip without its halo."""
    score: float
    """Probability of the most severe class, before calibration."""
    p: float | None
    """Calibrated probability of the most severe class at `share`; None where the bundle has no
    calibration, or scores pixels and no footprint says which are the building's."""
    share: float | None
    """Share of destroyed buildings that `p` assumes."""
    statistics: str
    """Where the normalisation of the chip comes from: `chip`, or `bundle` for fixed values."""


class OpenBundle:
    """A bundle with its engine. Several threads may use it, one at a time.

    Raises:
        RequestError: there is no such bundle, or it does not run here.
    """

    def __init__(self, name: str, runtime: str = "auto", threads: int = 0) -> None:
        self.bundle: Bundle = load_bundle(name)
        batch = CROPS_AT_ONCE if self.spec.task == "building" else 0
        wanted = {"runtime": runtime, "threads": threads, "batch": batch}
        settings = profile_settings("rapid", wanted)
        facts, engine = open_picked(self.bundle, settings)
        self.engine: Engine = engine
        self._precision = runtime_named(facts.spec.runtime).precision
        self._turn = threading.Lock()

    @property
    def spec(self) -> BundleSpec:
        return self.bundle.spec

    def check(self) -> None:
        """Scores the golden batch.

        Raises:
            EngineError: the engine is not the bundle's model.
        """
        with self._turn:
            check_golden(self.engine, self.bundle, self._precision)

    def predict(self, chips: Sequence[Chip]) -> list[Prediction]:
        """Scores chips together; the result of one does not depend on the others.

        Raises:
            EngineError: the runtime fails.
        """
        spec, batch = self.spec, batch_of(chips, self.spec)
        with self._turn:
            logits = self.engine.score(batch)
        return [
            self._prediction(chip, _mean_probabilities(one, chip, spec))
            for chip, one in zip(chips, logits, strict=True)
        ]

    def _prediction(self, chip: Chip, p_C: NDArray[np.float32]) -> Prediction:
        spec, score = self.spec, float(p_C[-1])
        p, share = calibrated(score, chip, spec)
        return Prediction(
            bundle=spec.name,
            digest=self.bundle.digest,
            engine=self.engine.name,
            probabilities={a: float(p) for a, p in zip(spec.labels, p_C, strict=True)},
            score=score,
            p=p,
            share=share,
            statistics="chip" if spec.normalisation == "per_scene" else "bundle",
        )


def calibrated(score: float, chip: Chip, spec: BundleSpec) -> tuple[float | None, float | None]:
    """Probability that the building of a chip is destroyed, and the share that it assumes.

    None for a bundle without calibration, and where the score is not that of a building. Values
    of the calibration that a chip does not have, such as the area, count as typical.
    """
    calibration = spec.calibration
    if calibration is None or (spec.scores_pixels and chip.footprint is None):
        return None, None
    share = chip.share or calibration.share
    values = {name: np.array([np.nan]) for name in calibration.features}
    values[SCORE_LOGIT] = score_logit(np.array([score]))
    p_N = at_share(log_ratio(calibration, values), share)
    return float(p_N[0]), share


class BundleSpecs:
    """Manifests of the bundles that are offered; the files of each are read once."""

    def __init__(self) -> None:
        self._known: dict[str, BundleSpec] = {}

    async def of(self, name: str) -> BundleSpec:
        """The manifest of a bundle.

        Raises:
            BundleError: there is none of that name.
        """
        if name not in self._known:
            self._known[name] = (await asyncio.to_thread(load_bundle, name)).spec
        return self._known[name]


def checked_chip(chip: Chip, spec: BundleSpec) -> Chip:
    """The chip, which has what a bundle takes: a wrong one must not spoil those beside it.

    Raises:
        RequestError: an epoch is missing or too many, a chip has another size, a hazard value is
            unknown, the footprint lies outside, or a share is stated of a bundle without
            calibration.
    """
    if spec.epochs and (spec.takes_reflectance or len(spec.bands) != CHIP_BANDS):
        raise RequestError("takes no chips of red, green and blue", spec.name, got=spec.dtype)
    if set(chip.images) != set(spec.epochs):
        raise RequestError(
            "takes other images",
            spec.name,
            expected=" and ".join(spec.epochs) or "no image",
            got=" and ".join(chip.images) or "none",
        )
    known = {value.name for value in spec.hazard}
    if unknown := sorted(set(chip.hazard) - known):
        raise RequestError(
            "takes no such hazard value",
            spec.name,
            expected=", ".join(sorted(known)) or "none",
            got=", ".join(unknown),
        )
    for epoch, pixels_BYX in chip.images.items():
        fit_to(pixels_BYX, spec, epoch)
    if chip.share is not None and spec.calibration is None:
        raise RequestError("has no calibration", spec.name, "no share", f"{chip.share:g}")
    if chip.footprint is not None:
        _pixels_of(chip.footprint, spec)
    return chip


def batch_of(chips: Sequence[Chip], spec: BundleSpec) -> Batch:
    """Chips as a graph takes them.

    A chip has no scene around it: where a bundle wants the statistics of the scene, those of the
    chip stand in, averaged to the same GSD.
    """
    images = {epoch: np.stack([chip.images[epoch] for chip in chips]) for epoch in spec.epochs}
    statistics: dict[str, NDArray[np.float32]] = {}
    if spec.normalisation == "per_scene":
        for epoch, pixels_NBYX in images.items():
            figures = [chip_statistics(pixels_BYX, spec.gsd_m) for pixels_BYX in pixels_NBYX]
            statistics[f"{epoch}_mean_NB"] = np.array([f.mean_B for f in figures], np.float32)
            statistics[f"{epoch}_std_NB"] = np.array([f.std_B for f in figures], np.float32)
    hazard_NM = None
    if spec.hazard:
        names = [value.name for value in spec.hazard]
        rows = [[chip.hazard.get(name, np.nan) for name in names] for chip in chips]
        hazard_NM = np.array(rows, np.float32)
    return Batch(images=images, statistics=statistics, hazard_NM=hazard_NM)


def chip_statistics(pixels_BYX: NDArray[np.uint8], gsd_m: float) -> SceneStatistics:
    """Statistics of a chip that is averaged as scenes are; what is left at its ends is dropped."""
    step = max(round(STATISTICS_GSD_M / gsd_m), 1)
    bands, height, width = pixels_BYX.shape
    rows, columns = height // step, width // step
    parts = pixels_BYX[:, : rows * step, : columns * step]
    blocks = parts.reshape(bands, rows, step, columns, step)
    sums_BYX = blocks.sum(axis=4, dtype=np.uint32).sum(axis=2, dtype=np.uint32)
    mean_BYX = np.rint(sums_BYX / step**2).astype(np.uint8)
    return statistics_of(mean_BYX, np.ones((rows, columns), np.bool_))


def _mean_probabilities(
    logits: NDArray[np.float32], chip: Chip, spec: BundleSpec
) -> NDArray[np.float32]:
    """Class probabilities of one chip: of (K,) as they are, of (K, y, x) the mean over pixels."""
    if logits.ndim == 1:
        return probabilities(logits[:, np.newaxis], spec)[:, 0]
    core = slice(spec.halo_px, spec.halo_px + spec.core_px)
    logits_KYX = logits[:, core, core]
    if chip.footprint is None:
        logits_KP = logits_KYX.reshape(len(logits), -1)
    else:
        logits_KP = logits_KYX[:, _pixels_of(chip.footprint, spec)]
    return np.asarray(probabilities(logits_KP, spec).mean(axis=1), np.float32)


def _pixels_of(footprint: Polygon, spec: BundleSpec) -> NDArray[np.bool_]:
    """Pixels of the core whose middle lies in a footprint, shape (y, x).

    Raises:
        RequestError: there is none.
    """
    if not spec.scores_pixels:
        raise RequestError(
            "takes no footprint", spec.name, "a chip with the building in its middle"
        )
    first, last = spec.halo_px, spec.halo_px + spec.core_px
    shape_YX = (spec.window_px, spec.window_px)
    inside_YX = np.zeros(shape_YX, np.bool_)
    if shapely.box(0, 0, *shape_YX).contains(footprint):
        inside_YX = rasterize([(footprint, 1)], out_shape=shape_YX, dtype="uint8").astype(np.bool_)
    inside_YX = inside_YX[first:last, first:last]
    if not inside_YX.any():
        raise RequestError(
            "holds no pixel that is scored", "footprint", f"pixels {first} to {last} of the chip"
        )
    return inside_YX
