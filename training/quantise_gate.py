"""Data that a quantised graph is calibrated and evaluated on.

Both are training data. For pair models, some regions calibrate and the others evaluate. For
building models, training rows of a store calibrate and validation rows evaluate. For landslide
models see `training.quantise_slides`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec, Window
from quakestream.engines import Batch, Engine
from quakestream.errors import RequestError
from quakestream.tiling.lattice import Lattice
from training.calibrate import first_severe
from training.config import ChipsConfig, PairsConfig, SlidesConfig
from training.context import CONTEXT
from training.data.pairs import LabelledPair, outlined_by_bounds
from training.data.splits import SplitPart
from training.data.synthetic import (
    HELD_SEEDS,
    TRAINING_SEEDS,
    WIDE_HELD_SEEDS,
    WIDE_SEEDS,
    region_of,
    synthetic_pairs,
    wide_pairs,
)
from training.data.turkiye import default_data_dir, turkiye_pairs
from training.evaluation_set import evaluation_set
from training.graphs import Arrays
from training.metrics import arrays, class_figures, figures
from training.models import Model
from training.quantise_data import CalibrationData, EngineResult
from training.quantise_slides import slide_calibration_data
from training.scoring import BuildingLogits, cut_out, score_windows, windows_over
from training.settings import from_json

SAMPLES = 48
"""Windows that the ranges of activations are taken from; eight times as many crops."""
SYNTHETIC_TOWNS = 4
"""Synthetic training towns that calibrate."""
_TOWNS = {
    "synthetic": (synthetic_pairs, TRAINING_SEEDS, HELD_SEEDS),
    "synthetic_wide": (wide_pairs, WIDE_SEEDS, WIDE_HELD_SEEDS),
}
"""What makes the towns of a source, and the seeds that are trained on and held out."""


def calibration_data(
    bundle: Bundle, *, calibrate: str = "", samples: int = SAMPLES
) -> CalibrationData:
    """Calibration data of a bundle, from the data of its recipe.

    Args:
        bundle: a bundle of images that was exported from a checkpoint.
        calibrate: for pairs, comma-separated regions to calibrate on; if empty, all real regions
            but the one with most destroyed buildings, and training towns of synthetic data. For
            crops, the URI of the store. For landslides, the folder of the set.
        samples: number of windows.

    Raises:
        RequestError: if the bundle names no recipe, or its data are missing.
    """
    if "config" in bundle.spec.training and bundle.spec.task != "hazard":
        config = from_json(bundle.spec.training["config"])
        if isinstance(config, ChipsConfig):
            return _of_store(bundle.spec, config, calibrate, samples)
        if isinstance(config, PairsConfig):
            real = CONTEXT in bundle.spec.training  # its head has seen real cities
            pairs, regions = _pairs(config, calibrate, real=real)
            return pair_calibration_data(bundle.spec, config, pairs, regions, samples)
        if isinstance(config, SlidesConfig):
            root = Path(calibrate or config.source)
            return slide_calibration_data(bundle.spec, root, samples)
    raise RequestError(
        "manifest does not say what images the bundle was trained on",
        bundle.uri,
        expected="a bundle of images that was exported from a checkpoint",
    )


def pair_calibration_data(
    spec: BundleSpec,
    config: PairsConfig,
    pairs: Sequence[LabelledPair],
    regions: frozenset[str],
    samples: int = SAMPLES,
) -> CalibrationData:
    """Windows of some regions calibrate; buildings of all other regions evaluate.

    Raises:
        RequestError: if either side is empty.
    """
    seen = [outlined_by_bounds(p) if config.windows.judge_bounds else p for p in pairs]
    judged = [pair for pair in seen if pair.region not in regions]
    windows = [(p, w) for p in seen if p.region in regions for w in _windows(spec, p)]
    states = {building.destroyed for pair in judged for building in pair.buildings}
    if not windows or len(states) < 2:
        known = ", ".join(sorted({pair.region for pair in pairs}))
        raise RequestError(
            "regions cannot be split into calibration and evaluation",
            f"--calibrate {','.join(sorted(regions))}",
            expected=f"some of {known}, with buildings of both states in the others",
        )
    chosen_N = np.linspace(0, len(windows) - 1, min(samples, len(windows))).round().astype(int)
    chosen = [_inputs(spec, *windows[n]) for n in chosen_N]

    def judge(engine: Engine) -> EngineResult:
        scored = [s for pair in judged for s in engine_logits(engine, spec, pair)]
        p_N, destroyed_N = arrays(scored, temperature=spec.temperature)
        auc = float(figures(p_N, destroyed_N).auc)
        return EngineResult(auc=auc, severe_N=p_N >= spec.thresholds.balanced)

    buildings = [building.destroyed for pair in judged for building in pair.buildings]
    return CalibrationData(
        samples=chosen,
        judge=judge,
        about={
            "calibrated_on": sorted(regions),
            "samples": len(chosen),
            "judged_on": sorted({pair.region for pair in judged}),
            "destroyed": sum(buildings),
            "intact": len(buildings) - sum(buildings),
        },
    )


def engine_logits(engine: Engine, spec: BundleSpec, pair: LabelledPair) -> list[BuildingLogits]:
    """Logits of an engine inside each building of a pair, window by window as in a run."""

    def logits(window: Window) -> NDArray[np.float32]:
        logits_NKYX = engine.score(Batch.of(_inputs(spec, pair, window), spec))
        scored: NDArray[np.float32] = logits_NKYX[0, 0]
        return scored

    return score_windows(logits, pair, pair.buildings, _lattice(spec, pair))


def _pairs(
    config: PairsConfig, calibrate: str, *, real: bool
) -> tuple[list[LabelledPair], frozenset[str]]:
    """The recipe's pairs, and the regions that calibrate.

    Args:
        config: the recipe.
        calibrate: regions that calibrate, separated by commas.
        real: True to take the real pairs beside synthetic towns.
    """
    named = frozenset(name.strip() for name in calibrate.split(",") if name.strip())
    pairs, calibrating = [], frozenset[str]()
    if config.source in _TOWNS:
        made, trained, held = _TOWNS[config.source]
        seeds = trained[:SYNTHETIC_TOWNS]
        pairs += made(seeds + held)
        calibrating |= frozenset(map(region_of, seeds))
    if real or config.source not in _TOWNS:
        cities = turkiye_pairs(default_data_dir())
        pairs += cities
        destroyed: Counter[str] = Counter()
        for pair in cities:
            destroyed[pair.region] += sum(building.destroyed for building in pair.buildings)
        richest = max(destroyed, key=lambda region: destroyed[region])
        calibrating |= frozenset(destroyed) - {richest}
    return pairs, named or calibrating


def _of_store(spec: BundleSpec, config: ChipsConfig, store: str, samples: int) -> CalibrationData:
    if not store:
        raise RequestError(
            "no store named", spec.name, remedy="name its training store with --calibrate STORE"
        )
    held = evaluation_set(replace(config, source=(store,)))
    rows = held.some("train", samples * 8, np.random.default_rng(0))
    inputs = rows.inputs(spec, "train")
    part: SplitPart = "validation" if len(held.rows["validation"]) else "test"

    def judge(engine: Engine) -> EngineResult:
        def logits(given: Arrays) -> NDArray[np.float32]:
            return engine.score(Batch.of(given, spec))

        model = Model(spec=spec, logits=logits)
        scored = held.scored(model.as_probabilities(held.logits(model, part)), part)
        severe_N = scored.p_NC[:, first_severe(spec.classes) :].sum(axis=1)
        return EngineResult(
            auc=float(class_figures(scored.p_NC, scored.label_N).macro_auc),
            severe_N=severe_N >= spec.thresholds.balanced,
        )

    count = len(rows.rows["train"])
    return CalibrationData(
        samples=[{k: v[n : n + 1] for k, v in inputs.items()} for n in range(count)],
        judge=judge,
        about={
            "calibrated_on": f"{count} training rows",
            "judged_on": f"{part} rows, {held.name}",
            "buildings": len(held.rows[part]),
        },
    )


def _windows(spec: BundleSpec, pair: LabelledPair) -> list[Window]:
    """Windows that hold a building."""
    bounds_N4 = np.array([b.geometry.bounds for b in pair.buildings]).reshape(-1, 4)
    lattice = _lattice(spec, pair)
    return [lattice.window(row, col) for row, col in windows_over(bounds_N4, lattice)]


def _inputs(spec: BundleSpec, pair: LabelledPair, window: Window) -> Arrays:
    """Inputs of the graph for a window."""
    inputs: Arrays = {}
    for epoch in spec.epochs:
        image = pair.pre if epoch == "pre" else pair.post
        inputs[epoch] = cut_out(image, window)[None]
        for figure in ("mean", "std"):
            values = getattr(image.statistics, f"{figure}_B")
            inputs[f"{epoch}_{figure}_NB"] = np.asarray(values, np.float32)[None]
    return inputs


def _lattice(spec: BundleSpec, pair: LabelledPair) -> Lattice:
    return Lattice(grid=pair.grid, window_px=spec.window_px, halo_px=spec.halo_px, cell_windows=1)
