"""Compares models with the random forest of Yu et al. 2024, on the same folds.

Outer folds are used for evaluation alone. Settings, the choice between models and the temperature
come from inner folds of the training points of each outer fold.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from training.data.splits import FIELD_BLOCK_DEG, Fold, random_split
from training.hazard.encoders import EncoderClassifier, Loss, groups_of
from training.hazard.families import (
    CANDIDATES,
    FAMILIES,
    SHIPPED,
    Family,
    forest,
    logistic,
)
from training.hazard.judging import DRAWS, Predictions, figures, macro_auc, rounded
from training.hazard.nested import (
    OUTER,
    Recipe,
    TuningResult,
    blend,
    choose,
    folds_of,
    gathered,
    mean_probabilities,
    tempered,
    tune,
)
from training.hazard.points import HazardPoints
from training.metrics import Statistic, block_interval, blocks_of, difference

OnProgress = Callable[[str], None]
CHOSEN, BUNDLE, FOREST = "chosen on inner folds", "bundle", "forest"
ENCODERS = ("hazard_mlp", "hazard_resnorm", "hazard_deepmlp")
LOSSES: tuple[Loss, ...] = ("cross_entropy", "focal")
CONTEXT_M = 200.0
"""Radius of a context window, metres. Windows at both ends of the buffer (441 m) share no point."""
SERIOUS = 2
"""First of the classes that the paper joins into one."""
RANDOM_SEEDS = 2


@dataclass(slots=True, kw_only=True)
class ModelResults:
    """Predictions by model, with settings and processor time."""

    held: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    """Probabilities of the held-out points of each fold, by model."""
    tempered: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    settings: dict[str, list[Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(
        self, name: str, p_NC: NDArray[np.float64], settings: Any = None, began: float | None = None
    ) -> None:
        self.held.setdefault(name, []).append(p_NC)
        self.settings.setdefault(name, []).append(settings)
        if began is not None:
            took = time.process_time() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + took

    def add_tuned(
        self, name: str, p_NC: NDArray[np.float64], tuned: TuningResult, began: float
    ) -> None:
        about = {
            "model": tuned.recipe.name,
            **tuned.recipe.settings,
            "inner_auc": round(tuned.inner_auc, 4),
            "temperature": round(tuned.temperature, 3),
        }
        self.add(name, p_NC, about, began)
        self.tempered.setdefault(name, []).append(tempered(p_NC, tuned.temperature))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Extent of the comparison."""

    families: Mapping[str, Family] = field(default_factory=lambda: FAMILIES)
    """By the names of `FAMILIES`."""
    encoders: tuple[str, ...] = ENCODERS
    """Metadata encoders; each is trained with every loss."""
    context: bool = True
    """Also fit models with the means of the layers around a point."""
    seed: int = 0
    """Seed for dealing blocks to folds."""
    draws: int = DRAWS
    """Bootstrap draws of an interval."""


def compare(points: HazardPoints, scope: Scope, on_progress: OnProgress) -> dict[str, Any]:
    """All figures of the table, ready for JSON.

    Args:
        points: points to train and to evaluate on.
        scope: extent of the comparison.
        on_progress: takes a line after each step.
    """
    random_rows = random_figures(points, on_progress)
    folds = folds_of(points, OUTER, scope.seed)
    rows = ModelResults()
    for number, fold in enumerate(folds):
        train = points.take(fold.train_N)
        held_NM = points.values_NM[fold.held_N]
        _classical(rows, scope, train, held_NM)
        _encoders(rows, scope, train, held_NM)
        on_progress(f"blocks: fold {number + 1} of {OUTER} done")
    shifted = _shifted(points, scope, on_progress)
    if scope.context:
        _with_context(rows, scope, points, folds)
        on_progress("blocks: layers around a point done")
    return {
        "points": len(points),
        "support": np.bincount(points.label_N).tolist(),
        "shared_places": _shared_places(points),
        "random": random_rows,
        "folds": [
            {
                "train": int(f.train_N.sum()),
                "held": int(f.held_N.sum()),
                "held_per_class": np.bincount(
                    points.label_N[f.held_N], minlength=len(points.classes)
                ).tolist(),
            }
            for f in folds
        ],
        "blocks": _figures(rows, points, folds, scope.draws),
        "shifted_blocks": _figures(shifted.rows, shifted.points, shifted.folds, scope.draws),
        "both_minus_forest": _both(rows, folds, shifted, points, scope.draws),
        "settings": {n: s for n, s in rows.settings.items() if any(v is not None for v in s)},
    }


def random_figures(points: HazardPoints, on_progress: OnProgress) -> list[dict[str, Any]]:
    """Figures on random splits, as in the papers, which put neighbours on both sides.

    The forest with default settings is nearest to the published one. The repository of the
    paper's data says that it had three classes, with heavy damage and worse as one.
    """
    three = replace(
        points,
        label_N=np.minimum(points.label_N, SERIOUS),
        classes=(*points.classes[:SERIOUS], "serious"),
    )
    cases: tuple[tuple[str, HazardPoints, Callable[[], Any]], ...] = (
        ("forest, defaults", points, lambda: forest(1, trees=100)),
        ("forest, defaults", three, lambda: forest(1, trees=100)),
        ("forest, leaves of 50", points, lambda: forest(50, trees=100)),
        ("logistic", points, lambda: logistic(2, 1e-3)),
    )
    rows = []
    for name, of, model in cases:
        for share in (0.7, 0.8):
            aucs = [random_auc(model(), of, share, s) for s in range(RANDOM_SEEDS)]
            rows.append(
                {
                    "model": name,
                    "classes": len(of.classes),
                    "train_share": share,
                    "macro_auc": round(float(np.mean(aucs)), 4),
                    "lowest": round(min(aucs), 4),
                    "highest": round(max(aucs), 4),
                }
            )
    on_progress("random splits done")
    return rows


def random_auc(model: Any, points: HazardPoints, share: float, seed: int) -> float:
    """Macro AUC of a model on the held-out points of a random split."""
    fold = random_split(len(points), share, seed)
    model.fit(points.values_NM[fold.train_N], points.label_N[fold.train_N])
    p_NC = mean_probabilities([model], points.values_NM[fold.held_N])
    predicted: Predictions = gathered(points, [fold], [p_NC])
    return macro_auc(predicted, points.label_N)(np.ones(len(points)))


def context_means(points: HazardPoints, radius_m: float) -> HazardPoints:
    """Adds the mean of every value over the points around each point.

    It uses neither labels nor places, so the smoothed layer exists wherever the layer does.
    """
    epsg = 32600 + int((points.lon_N.mean() + 180) // 6) + 1
    to_metres = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    xy_N2 = np.stack(to_metres.transform(points.lon_N, points.lat_N), axis=1)
    around = cKDTree(xy_N2).query_ball_point(xy_N2, radius_m)
    mean_NM = np.array([np.nanmean(points.values_NM[rows], axis=0) for rows in around], np.float32)
    return replace(
        points,
        values_NM=np.concatenate([points.values_NM, mean_NM], axis=1),
        names=(*points.names, *(f"{n}_{radius_m:g}m" for n in points.names)),
    )


def _classical(
    rows: ModelResults, scope: Scope, train: HazardPoints, held_NM: NDArray[np.float32]
) -> None:
    """Fits the models of scikit-learn on one outer fold."""
    began = time.process_time()
    default = forest(1, trees=100).fit(train.values_NM, train.label_N)
    rows.add("forest, defaults", mean_probabilities([default], held_NM), None, began)
    tuned: dict[str, TuningResult] = {}
    p: dict[str, NDArray[np.float64]] = {}
    for name in dict.fromkeys((FOREST, *(n for names in CANDIDATES for n in names))):
        began = time.process_time()
        tuned[name] = tune(scope.families[name], train, seed=scope.seed)
        p[name] = _fitted(tuned[name].recipe, train, held_NM)
        rows.add_tuned(name, p[name], tuned[name], began)
    for names in CANDIDATES:
        if len(names) > 1:
            name, began = "+".join(names), time.process_time()
            tuned[name] = blend([tuned[n] for n in names], train)
            p[name] = np.mean([p[n] for n in names], axis=0)
            rows.add_tuned(name, p[name], tuned[name], began)
    best = max(("+".join(names) for names in CANDIDATES), key=lambda n: tuned[n].inner_auc)
    rows.add_tuned(CHOSEN, p[best], tuned[best], time.process_time())
    began = time.process_time()
    shipped = choose(train, (SHIPPED,), families=scope.families, masked=True, seed=scope.seed)
    models = shipped.recipe.fit(train.values_NM, train.label_N)
    rows.add_tuned(BUNDLE, mean_probabilities(models, held_NM), shipped, began)
    for label, known in _subsets(train.names).items():
        some_NM = np.where(np.isin(train.names, known), held_NM, np.nan)
        rows.add(f"{BUNDLE}, only {label}", mean_probabilities(models, some_NM))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShiftedBlocks:
    """The comparison on shifted blocks."""

    points: HazardPoints
    folds: tuple[Fold, ...]
    rows: ModelResults


def _shifted(points: HazardPoints, scope: Scope, on_progress: OnProgress) -> _ShiftedBlocks:
    """The comparison with blocks half a side further south-west: other folds of the same points."""
    half = FIELD_BLOCK_DEG / 2
    moved = replace(points, lon_N=points.lon_N + half, lat_N=points.lat_N + half)
    folds, rows = folds_of(moved, OUTER, scope.seed), ModelResults()
    for number, fold in enumerate(folds):
        _classical(rows, scope, moved.take(fold.train_N), moved.values_NM[fold.held_N])
        on_progress(f"shifted blocks: fold {number + 1} of {OUTER} done")
    return _ShiftedBlocks(points=moved, folds=folds, rows=rows)


def _both(
    rows: ModelResults,
    folds: Sequence[Fold],
    shifted: _ShiftedBlocks,
    points: HazardPoints,
    draws: int,
) -> dict[str, dict[str, float]]:
    """Macro AUC minus that of the tuned forest, mean of both lattices of blocks."""
    block_N = blocks_of(points.lon_N, points.lat_N, side_m=FIELD_BLOCK_DEG)

    def mean_auc(name: str) -> Statistic:
        here = macro_auc(gathered(points, folds, rows.held[name]), points.label_N)
        there = macro_auc(gathered(points, shifted.folds, shifted.rows.held[name]), points.label_N)
        return lambda weight_N: (here(weight_N) + there(weight_N)) / 2

    reference = mean_auc(FOREST)
    return {
        name: rounded(block_interval(difference(mean_auc(name), reference), block_N, draws=draws))
        for name in shifted.rows.held
        if name != FOREST
    }


def _subsets(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Values that a run may have: shaking arrives first, radar later."""
    radar = tuple(n for n in names if n.startswith(("adi", "dpm", "sar", "vv", "vh")))
    shaking = tuple(n for n in names if n.startswith("pga"))
    return {k: v for k, v in {"shaking": shaking, "radar": radar}.items() if v}


def _encoders(
    rows: ModelResults, scope: Scope, train: HazardPoints, held_NM: NDArray[np.float32]
) -> None:
    for network in scope.encoders:
        for loss in LOSSES:
            began = time.process_time()
            model = EncoderClassifier(network, groups_of(train.names), loss)
            p_NC = mean_probabilities([model.fit(train.values_NM, train.label_N)], held_NM)
            rows.add(f"{network}, {loss.replace('_', ' ')}", p_NC, None, began)


def _with_context(
    rows: ModelResults, scope: Scope, points: HazardPoints, folds: Sequence[Fold]
) -> None:
    wide = context_means(points, CONTEXT_M)
    for fold in folds:
        train = wide.take(fold.train_N)
        for name in ("logistic", FOREST):
            began = time.process_time()
            tuned = tune(_coarse(scope.families[name]), train, seed=scope.seed)
            p_NC = _fitted(tuned.recipe, train, wide.values_NM[fold.held_N])
            rows.add_tuned(f"{name}, means over {CONTEXT_M:g} m", p_NC, tuned, began)


def _coarse(one: Family) -> Family:
    """The family with every other setting, for models of less interest."""
    return replace(one, grid={k: v[1::2] or v for k, v in one.grid.items()})


def _fitted(
    recipe: Recipe, train: HazardPoints, held_NM: NDArray[np.float32]
) -> NDArray[np.float64]:
    return mean_probabilities(recipe.fit(train.values_NM, train.label_N), held_NM)


def _figures(
    rows: ModelResults, points: HazardPoints, folds: Sequence[Fold], draws: int
) -> dict[str, Any]:
    block_N = blocks_of(points.lon_N, points.lat_N, side_m=FIELD_BLOCK_DEG)
    reference = gathered(points, folds, rows.held[FOREST])
    table = {}
    for name, held in rows.held.items():
        predicted = gathered(points, folds, held)
        row = figures(
            predicted,
            points.label_N,
            block_N,
            reference=None if name == FOREST else reference,
            draws=draws,
        )
        if name in rows.tempered:
            calibrated = figures(
                gathered(points, folds, rows.tempered[name]), points.label_N, block_N, draws=0
            )
            row["calibration_error_tempered"] = calibrated["calibration_error"]
            row["log_loss_tempered"] = calibrated["log_loss"]
        if name in rows.seconds:
            row["seconds"] = round(rows.seconds[name], 1)
        table[name] = row
    return table


def _shared_places(points: HazardPoints) -> int:
    """Number of points that share their place with another: several buildings in a cell of 30 m."""
    _, place_N, count_P = np.unique(
        np.stack([points.lon_N, points.lat_N]), axis=1, return_inverse=True, return_counts=True
    )
    return int((count_P[place_N.reshape(-1)] > 1).sum())
