"""What a quantised graph is calibrated on, and the buildings it has to tell apart as before.

Both are training data: of pairs, one part of the regions calibrates and the others judge; of a
store, rows of the training part calibrate and those of the validation part judge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec, Window
from quakestream.engines import Batch, Engine
from quakestream.errors import RequestError
from quakestream.tiling.lattice import Lattice
from training.calibrate import first_severe
from training.config import TrainConfig, from_json
from training.data.pairs import LabelledPair, outlined_by_bounds
from training.data.synthetic import HELD_SEEDS, TRAINING_SEEDS, region_of, synthetic_pairs
from training.data.turkiye import default_data_dir, turkiye_pairs
from training.graphs import Arrays
from training.metrics import arrays, class_figures, figures
from training.models import Model
from training.rows import Part, held_out
from training.scoring import BuildingLogits, cut_out, score_windows, windows_over

SAMPLES = 48
"""Windows that activations' ranges are taken from; of crops as many times eight."""
SYNTHETIC_TOWNS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What an engine says of the buildings that judge."""

    auc: float
    """Per building; of several classes the mean over them, each against the rest."""
    severe_N: NDArray[np.bool_]
    """Whether each is declared severely damaged, at the balanced threshold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """Samples to calibrate on, and a judge that never saw them."""

    samples: Sequence[Arrays]
    judge: Callable[[Engine], Answers]
    about: dict[str, Any]
    """Where both come from, for the manifest."""


def material_of(bundle: Bundle, *, calibrate: str = "", samples: int = SAMPLES) -> Material:
    """Calibration and judgement for a bundle, from what its recipe was trained on.

    Args:
        bundle: of pairs or of buildings, exported from a checkpoint.
        calibrate: of pairs: regions to calibrate on, by comma; left out: all but the one with
            most destroyed buildings, or of synthetic towns the training ones. Of buildings: the
            folder of the store.
        samples: how many windows.

    Raises:
        RequestError: if the bundle names no recipe, or its data are not there.
    """
    if "config" not in bundle.spec.training or bundle.spec.task == "hazard":
        raise RequestError(
            f"{bundle.uri}: expected a bundle of images exported from a checkpoint, whose manifest "
            "says what it was trained on"
        )
    config = from_json(bundle.spec.training["config"])
    if bundle.spec.task == "building":
        return _of_store(bundle.spec, config, calibrate, samples)
    pairs, regions = _pairs(config, calibrate)
    return pair_material(bundle.spec, config, pairs, regions, samples)


def pair_material(
    spec: BundleSpec,
    config: TrainConfig,
    pairs: Sequence[LabelledPair],
    regions: frozenset[str],
    samples: int = SAMPLES,
) -> Material:
    """Windows of some regions calibrate, buildings of all others judge.

    Raises:
        RequestError: if either side has nothing.
    """
    seen = [outlined_by_bounds(p) if config.judge_bounds else p for p in pairs]
    judged = [pair for pair in seen if pair.region not in regions]
    windows = [(p, w) for p in seen if p.region in regions for w in _windows(spec, p)]
    states = {building.destroyed for pair in judged for building in pair.buildings}
    if not windows or len(states) < 2:
        known = ", ".join(sorted({pair.region for pair in pairs}))
        raise RequestError(
            f"calibrating on {', '.join(sorted(regions)) or 'nothing'} leaves no buildings of "
            f"both states to judge by, or nothing to calibrate on; regions are {known}"
        )
    chosen_N = np.linspace(0, len(windows) - 1, min(samples, len(windows))).round().astype(int)
    chosen = [_inputs(spec, *windows[n]) for n in chosen_N]

    def judge(engine: Engine) -> Answers:
        scored = [s for pair in judged for s in engine_logits(engine, spec, pair)]
        p_N, destroyed_N = arrays(scored, temperature=spec.temperature)
        auc = float(figures(p_N, destroyed_N).auc)
        return Answers(auc=auc, severe_N=p_N >= spec.thresholds.balanced)

    buildings = [building.destroyed for pair in judged for building in pair.buildings]
    return Material(
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
    """Logits inside each building of a pair, by an engine, window by window as in a run."""

    def logits(window: Window) -> NDArray[np.float32]:
        logits_NKYX = engine.score(Batch.of(_inputs(spec, pair, window), spec))
        scored: NDArray[np.float32] = logits_NKYX[0, 0]
        return scored

    return score_windows(logits, pair, pair.buildings, _lattice(spec, pair))


def _pairs(config: TrainConfig, calibrate: str) -> tuple[list[LabelledPair], frozenset[str]]:
    """The recipe's pairs and which of their regions calibrate."""
    named = frozenset(name.strip() for name in calibrate.split(",") if name.strip())
    if config.source == "synthetic":
        seeds = TRAINING_SEEDS[:SYNTHETIC_TOWNS]
        return synthetic_pairs(seeds + HELD_SEEDS), named or frozenset(map(region_of, seeds))
    pairs = turkiye_pairs(default_data_dir())
    destroyed: dict[str, int] = {}
    for pair in pairs:
        count = sum(building.destroyed for building in pair.buildings)
        destroyed[pair.region] = destroyed.get(pair.region, 0) + count
    richest = max(destroyed, key=lambda region: destroyed[region])
    return pairs, named or frozenset(destroyed) - {richest}


def _of_store(spec: BundleSpec, config: TrainConfig, store: str, samples: int) -> Material:
    if not store:
        raise RequestError(f"{spec.name}: give the store it was trained on with --calibrate STORE")
    held = held_out(replace(config, source=store))
    rows = held.some("train", samples * 8, np.random.default_rng(0))
    inputs = rows.inputs(spec, "train")
    part: Part = "validation" if len(held.rows["validation"]) else "test"

    def judge(engine: Engine) -> Answers:
        def logits(given: Arrays) -> NDArray[np.float32]:
            return engine.score(Batch.of(given, spec))

        model = Model(spec=spec, logits=logits)
        judged = held.judged(model.as_probabilities(held.logits(model, part)), part)
        severe_N = judged.p_NC[:, first_severe(spec.classes) :].sum(axis=1)
        return Answers(
            auc=float(class_figures(judged.p_NC, judged.label_N).macro_auc),
            severe_N=severe_N >= spec.thresholds.balanced,
        )

    count = len(rows.rows["train"])
    return Material(
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
    """A window as the graph takes it."""
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
