"""Scores chips: the bundles that are offered, each with one open engine."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle, load_bundle
from quakestream.config.profiles import profile_settings
from quakestream.domain import BundleSpec
from quakestream.engines import Batch, Engine, probabilities
from quakestream.engines.parity import check_golden
from quakestream.engines.runtimes import runtime_named
from quakestream.errors import RequestError
from quakestream.pipeline.planning.engine import open_picked
from quakestream.raster.statistics import statistics_of
from serving.chips import fit_to


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chip:
    """One chip pair, or one row of hazard values."""

    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Counts by epoch, shape (band, y, x)."""
    hazard: Mapping[str, float] = field(default_factory=dict)
    """Hazard values by the names of the bundle; names that are left out are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Class probabilities of one chip."""

    bundle: str
    digest: str
    engine: str
    probabilities: dict[str, float]
    """By label, sum 1. Of a bundle that scores pixels, the mean over the chip without its halo."""
    statistics: str
    """Where the normalisation of the chip comes from: `chip`, or `bundle` for fixed values."""


class OpenBundle:
    """A bundle with its engine. Several threads may use it, one at a time.

    Raises:
        RequestError: there is no such bundle, or it does not run here.
    """

    def __init__(self, name: str, runtime: str = "auto", threads: int = 0) -> None:
        self.bundle: Bundle = load_bundle(name)
        settings = profile_settings("rapid", {"runtime": runtime, "threads": threads})
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
        p_NC = np.stack([_mean_probabilities(one, spec) for one in logits])
        return [
            Prediction(
                bundle=spec.name,
                digest=self.bundle.digest,
                engine=self.engine.name,
                probabilities={a: float(p) for a, p in zip(spec.labels, p_C, strict=True)},
                statistics="chip" if spec.normalisation == "per_scene" else "bundle",
            )
            for p_C in p_NC
        ]


@lru_cache(maxsize=32)
def spec_of(name: str) -> BundleSpec:
    """The manifest of a bundle that is offered; its files are read once."""
    return load_bundle(name).spec


def checked_chip(chip: Chip, spec: BundleSpec) -> Chip:
    """The chip, which has what a bundle takes: a wrong one must not spoil those beside it.

    Raises:
        RequestError: an epoch is missing or too many, a chip has another size, or a hazard value
            is unknown.
    """
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
    return chip


def batch_of(chips: Sequence[Chip], spec: BundleSpec) -> Batch:
    """Chips as a graph takes them.

    A chip has no scene around it: where a bundle wants the statistics of the scene, those of the
    chip stand in.
    """
    images = {epoch: np.stack([chip.images[epoch] for chip in chips]) for epoch in spec.epochs}
    statistics: dict[str, NDArray[np.float32]] = {}
    if spec.normalisation == "per_scene":
        for epoch, pixels_NBYX in images.items():
            valid_YX = np.ones(pixels_NBYX.shape[2:], np.bool_)
            figures = [statistics_of(pixels_BYX, valid_YX) for pixels_BYX in pixels_NBYX]
            statistics[f"{epoch}_mean_NB"] = np.array([f.mean_B for f in figures], np.float32)
            statistics[f"{epoch}_std_NB"] = np.array([f.std_B for f in figures], np.float32)
    hazard_NM = None
    if spec.hazard:
        names = [value.name for value in spec.hazard]
        rows = [[chip.hazard.get(name, np.nan) for name in names] for chip in chips]
        hazard_NM = np.array(rows, np.float32)
    return Batch(images=images, statistics=statistics, hazard_NM=hazard_NM)


def bundle_statement(bundle: Bundle) -> dict[str, Any]:
    """What a bundle takes and gives, for clients of `/predict`."""
    spec = bundle.spec
    return {
        "name": spec.name,
        "version": spec.version,
        "digest": bundle.digest,
        "task": spec.task,
        "epochs": list(spec.epochs),
        "bands": list(spec.bands),
        "gsd_m": spec.gsd_m,
        "chip_px": spec.window_px,
        "hazard": [{"name": value.name, "unit": value.unit} for value in spec.hazard],
        "classes": list(spec.labels),
        "threshold": spec.thresholds.balanced,
    }


def _mean_probabilities(logits: NDArray[np.float32], spec: BundleSpec) -> NDArray[np.float32]:
    """Class probabilities of one chip: of (K,) as they are, of (K, y, x) the mean over the core."""
    if logits.ndim == 1:
        return probabilities(logits[:, np.newaxis], spec)[:, 0]
    core = slice(spec.halo_px, spec.halo_px + spec.core_px)
    p_CP = probabilities(logits[:, core, core].reshape(len(logits), -1), spec)
    return np.asarray(p_CP.mean(axis=1), np.float32)
