"""Verdicts against a reference: the figures, their intervals, and the baselines beside them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain import ScaleClass
from quakestream.domain.damage_words import SEVERITY
from quakestream.errors import RequestError
from quakestream.outputs.matching import Matched, match, overlapping, utm_of
from quakestream.outputs.truth import Truth
from quakestream.reduce import metrics
from quakestream.reduce.metrics import ClassScore, Interval

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """How footprints and reference meet, and how intervals are drawn."""

    distance_m: float = 5.0
    resamples: int = 1000
    block_m: float = 200.0
    """Side of the squares that the bootstrap draws whole; 0 draws single buildings."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What became of the reference; nothing in here is ever counted as undamaged."""

    items: int
    items_unmatched: int
    footprints_conflicting: int
    footprints_ignored: int
    """Matched, but graded as neither severe nor harmless (`Possibly damaged`, minor)."""
    footprints_not_assessed: int
    """Matched and graded, but the map has no verdict for them."""
    footprints_not_assessed_severe: int
    """Those of them that the reference calls severe."""
    footprints_compared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The mean pre/post difference on the same buildings: what a model must beat."""

    n: int
    """Compared buildings that have a difference."""
    auc: Interval
    auc_gain: Interval
    """The model's AUC less the difference's, on the same resamples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Everything `quakestream score` says."""

    positive: str
    negative: str
    how: str
    block_m: float
    blocks: int
    """Squares the intervals rest on; a handful gives wide and uncertain ones."""
    coverage: Coverage
    n_positive: int
    n_negative: int
    auc: Interval
    average_precision: Interval
    f1: Interval
    severe: ClassScore
    """Verdicts as declared: the class is a severe one."""
    calibration_error: float
    brier: float
    baseline: Baseline | None
    prior_auc: float
    prior_average_precision: float
    """Of a score that knows nothing: the share of positives."""
    labels: tuple[str, ...]
    classes: tuple[ClassScore, ...]
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    """Counts (reference, verdict) over footprints whose reference names a class of the bundle."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; figures that the data cannot give are null."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def score(
    buildings: gpd.GeoDataFrame,
    classes: Sequence[ScaleClass],
    truth: Truth,
    options: ScoreOptions | None = None,
    positives: gpd.GeoDataFrame | None = None,
) -> Score:
    """Verdicts against reference items.

    Args:
        buildings: rows of buildings.parquet.
        classes: the map's damage scale.
        truth: reference items.
        options: distance and intervals.
        positives: polygons that alone say what is severe; `truth` then gives only the
            harmless ones, and a footprint in both is left out as conflicting.

    Raises:
        RequestError: if no footprint can be compared.
    """
    options = options or ScoreOptions()
    matched = match(truth, buildings, options.distance_m)
    if positives is not None:
        matched = _with_positives(matched, positives, buildings)
    graded = matched.rows["severe"].isin((0, 1)).to_numpy()
    assessed = (buildings["status"] == "assessed").to_numpy()
    used = graded & assessed
    if not used.any():
        raise RequestError(
            f"nothing to compare: {matched.items} reference items, {int(graded.sum())} graded "
            f"footprints ({matched.how}), none of them assessed"
        )
    known = assessed & (matched.rows["class_index"].fillna(-1) >= 0).to_numpy()
    by_class = _by_class(buildings[known], matched.rows[known], classes)
    severe = _severe(buildings[used], matched.rows[used], classes, options)
    return Score(
        positive="polygons of the positive file" if positives is not None else _values(truth, 1),
        negative=_values(truth, 0),
        how=matched.how,
        block_m=options.block_m,
        coverage=_coverage(matched, assessed),
        labels=tuple(c.label for c in classes),
        **by_class,
        **severe,
    )


def _coverage(matched: Matched, assessed_N: NDArray[np.bool_]) -> Coverage:
    severe = matched.rows["severe"]
    graded_N = severe.isin((0, 1)).to_numpy()
    return Coverage(
        items=matched.items,
        items_unmatched=matched.items_unmatched,
        footprints_conflicting=matched.conflicting_footprints,
        footprints_ignored=int((severe == -1).sum()),
        footprints_not_assessed=int((graded_N & ~assessed_N).sum()),
        footprints_not_assessed_severe=int(((severe == 1).to_numpy() & ~assessed_N).sum()),
        footprints_compared=int((graded_N & assessed_N).sum()),
    )


def severe_probability(rows: pd.DataFrame, classes: Sequence[ScaleClass]) -> F64:
    """Probability of major damage or worse, per row."""
    names = [f"p_{c.label}" for c in classes if SEVERITY[c.xbd] == 1]
    p_N: F64 = rows[names].to_numpy(dtype=np.float64).sum(axis=1)
    return p_N


def ground_blocks(rows: gpd.GeoDataFrame, block_m: float) -> NDArray[np.int64]:
    """Which square of `block_m` each row lies in; every row its own for 0."""
    if block_m <= 0:
        return np.arange(len(rows))
    points = rows.geometry.to_crs(utm_of(rows)).representative_point()
    squares = np.column_stack([points.x // block_m, points.y // block_m]).astype(np.int64)
    return np.unique(squares, axis=0, return_inverse=True)[1].reshape(-1)


def _severe(
    rows: gpd.GeoDataFrame,
    answers: pd.DataFrame,
    classes: Sequence[ScaleClass],
    options: ScoreOptions,
) -> dict[str, Any]:
    """The binary question: severe or harmless."""
    truth_N = (answers["severe"] == 1).to_numpy()
    p_N = severe_probability(rows, classes)
    severe_classes = [c.index for c in classes if SEVERITY[c.xbd] == 1]
    declared_N = rows["damage"].isin(severe_classes).to_numpy()
    block_N = ground_blocks(rows, options.block_m)

    def interval(metric: metrics.Metric, score_N: F64) -> Interval:
        return metrics.bootstrap(
            metric, truth_N, score_N, block_N, resamples=options.resamples, seed=options.seed
        )

    return {
        "blocks": len(np.unique(block_N)),
        "n_positive": int(truth_N.sum()),
        "n_negative": int((~truth_N).sum()),
        "auc": interval(metrics.roc_auc, p_N),
        "average_precision": interval(metrics.average_precision, p_N),
        "f1": interval(_f1_of_declared, declared_N.astype(np.float64)),
        "severe": metrics.binary_scores(truth_N, declared_N),
        "calibration_error": metrics.calibration_error(truth_N, p_N),
        "brier": metrics.brier(truth_N, p_N),
        "baseline": _baseline(rows, truth_N, p_N, block_N, options),
        "prior_auc": 0.5,
        "prior_average_precision": float(truth_N.mean()),
    }


def _baseline(
    rows: pd.DataFrame,
    truth_N: NDArray[np.bool_],
    p_N: F64,
    block_N: NDArray[np.int64],
    options: ScoreOptions,
) -> Baseline | None:
    """None where the map has no differences (post-only models)."""
    if "pre_post_difference" not in rows.columns:
        return None
    difference_N = rows["pre_post_difference"].to_numpy(dtype=np.float64, na_value=np.nan)
    has = np.isfinite(difference_N)
    if not has.any():
        return None
    truth, p, difference = truth_N[has], p_N[has], difference_N[has]

    # The rows themselves are what is resampled, so that both scores see the same draw.
    def gain(drawn_truth: NDArray[np.bool_], drawn: F64) -> float:
        i = drawn.astype(np.int64)
        return metrics.roc_auc(drawn_truth, p[i]) - metrics.roc_auc(drawn_truth, difference[i])

    def interval(metric: metrics.Metric, score_N: F64) -> Interval:
        return metrics.bootstrap(
            metric, truth, score_N, block_N[has], resamples=options.resamples, seed=options.seed
        )

    return Baseline(
        n=int(has.sum()),
        auc=interval(metrics.roc_auc, difference),
        auc_gain=interval(gain, np.arange(len(truth), dtype=np.float64)),
    )


def _by_class(
    rows: pd.DataFrame, answers: pd.DataFrame, classes: Sequence[ScaleClass]
) -> dict[str, Any]:
    """Per-class figures where the reference names a class of the bundle."""
    counts_KK = metrics.confusion(
        answers["class_index"].to_numpy(dtype=np.int64),
        rows["damage"].to_numpy(dtype=np.int64),
        len(classes),
    )
    return {
        "classes": metrics.class_scores(counts_KK),
        "macro_f1": metrics.macro_f1(counts_KK),
        "confusion": tuple(tuple(int(v) for v in row) for row in counts_KK),
    }


def _with_positives(
    matched: Matched, positives: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame
) -> Matched:
    """Severe where a positive polygon overlaps, harmless where the reference says so."""
    items = positives.reset_index(drop=True)
    pairs = overlapping(items, buildings)
    hit = buildings.index.isin(pairs["building"])
    harmless = (matched.rows["severe"] == 0).to_numpy()
    severe = pd.Series(np.nan, index=buildings.index)
    severe[harmless & ~hit] = 0
    severe[hit & ~harmless] = 1
    rows = pd.DataFrame({"severe": severe, "class_index": np.nan})
    return Matched(
        rows=rows,
        how=f"positives: overlap with {len(items)} polygons; negatives: {matched.how}",
        items=matched.items + len(items),
        items_unmatched=matched.items_unmatched + len(items) - int(pairs["item"].nunique()),
        conflicting_footprints=matched.conflicting_footprints + int((harmless & hit).sum()),
    )


def _f1_of_declared(truth_N: NDArray[np.bool_], declared_N: F64) -> float:
    return metrics.binary_scores(truth_N, declared_N > 0.5).f1


def _values(truth: Truth, severe: int) -> str:
    """The reference's own words for one side of the question."""
    words = truth.items.loc[truth.items["severe"] == severe, "value"]
    return " + ".join(sorted(set(words))) or "none"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
