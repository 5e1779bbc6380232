"""Compares verdicts with a reference: figures, intervals and baselines."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain import ScaleClass
from quakestream.domain.damage_rules import SEVERE
from quakestream.domain.damage_words import SEVERITY
from quakestream.errors import RequestError
from quakestream.outputs.buildings import SCORE
from quakestream.outputs.matching import MatchResult, match, overlapping, utm_of
from quakestream.outputs.notebook import facts_html
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.truth import Truth, TruthRequest, read_reference, read_truth
from quakestream.reduce import metrics
from quakestream.reduce.metrics import ClassScore, Interval
from quakestream.storage import Store

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """Options for matching footprints with a reference, and for intervals."""

    distance_m: float = 5.0
    resamples: int = 1000
    block_m: float = 200.0
    """Side of the squares that the bootstrap resamples; 0: single buildings."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCoverage:
    """Counts of reference items and footprints. None of them counts as undamaged."""

    items: int
    items_unmatched: int
    footprints_conflicting: int
    footprints_ignored: int
    """MatchResult footprints with a grade in between (`Possibly damaged`, minor)."""
    footprints_not_assessed: int
    """MatchResult and graded footprints without a verdict in the map."""
    footprints_not_assessed_severe: int
    """Footprints without a verdict that are severe in the reference."""
    footprints_compared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The mean pre/post difference on the same buildings, which a model must beat."""

    n: int
    """Compared buildings with a difference."""
    auc: Interval
    auc_gain: Interval
    """AUC of the model minus AUC of the difference, on the same resamples."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Score:
    """The result of `quakestream score`."""

    positive: str
    negative: str
    rule: str
    """What counts as severe damage, of the reference and of the map, in a sentence."""
    how: str
    block_m: float
    blocks: int
    """Squares behind the intervals; with few squares the intervals are wide and uncertain."""
    coverage: ReferenceCoverage
    n_positive: int
    n_negative: int
    n_declared: int
    """Compared buildings that the map declares severe."""
    n_expected: float | None
    """Sum of their probabilities of severe damage, in maps of calibrated bundles."""
    auc: Interval
    average_precision: Interval
    f1: Interval
    severe: ClassScore
    """Figures of the declared verdicts, severe against harmless."""
    calibration_error: float
    brier: float
    baseline: Baseline | None
    prior_auc: float
    prior_average_precision: float
    """Average precision of a random score: the share of positives."""
    labels: tuple[str, ...]
    classes: tuple[ClassScore, ...]
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    """Counts (reference, verdict) over footprints whose reference is a class of the bundle."""

    def __repr__(self) -> str:
        return (
            f"<score of {self.coverage.footprints_compared:,} buildings: ROC-AUC "
            f"{self.auc.as_text()}, F1 {self.f1.as_text()}>"
        )

    def _repr_html_(self) -> str:
        return facts_html(
            f"{self.positive} against {self.negative}",
            [
                ("buildings compared", self.coverage.footprints_compared),
                ("severe in the reference", self.n_positive),
                ("not assessed", self.coverage.footprints_not_assessed),
                ("ROC-AUC", self.auc.as_text()),
                ("F1", self.f1.as_text()),
                ("precision", f"{self.severe.precision:.3f}"),
                ("recall", f"{self.severe.recall:.3f}"),
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """The result as plain values; figures that the data cannot give are null."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return plain


def score_stored(
    store: Store,
    request: TruthRequest,
    options: ScoreOptions | None = None,
    positive_polygons: TruthRequest | None = None,
) -> Score:
    """Compares the finished map in a store with reference files, read with its settings.

    Args:
        request: the reference.
        positive_polygons: polygons of severe damage; `request` then gives harmless buildings only.

    Raises:
        RequestError: if there is no finished map, or a reference is unusable.
    """
    run = current_run(store)
    classes = scale_of(run)
    severe = positive_polygons
    return score(
        current_buildings(store, run),
        classes,
        read_truth(request, classes, store.options),
        options,
        read_reference(severe.uri, severe.layer, store.options) if severe else None,
    )


def score(
    buildings: gpd.GeoDataFrame,
    classes: Sequence[ScaleClass],
    truth: Truth,
    options: ScoreOptions | None = None,
    positives: gpd.GeoDataFrame | None = None,
) -> Score:
    """Compares verdicts with reference items.

    Args:
        buildings: rows of buildings.parquet.
        classes: the map's damage scale.
        truth: reference items.
        options: distance and intervals.
        positives: polygons of severe damage. `truth` then gives the harmless buildings only,
            and a footprint in both is left out as conflicting.

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
            "nothing to compare: no graded footprint is assessed",
            "reference",
            got=f"{matched.items} reference items, {int(graded.sum())} graded footprints "
            f"({matched.how})",
        )
    known = assessed & (matched.rows["class_index"].fillna(-1) >= 0).to_numpy()
    by_class = _by_class(buildings[known], matched.rows[known], classes)
    severe = _severe(buildings[used], matched.rows[used], classes, options)
    return Score(
        positive="polygons of the positive file" if positives is not None else _values(truth, 1),
        negative=_values(truth, 0),
        rule=SEVERE.words,
        how=matched.how,
        block_m=options.block_m,
        coverage=_coverage(matched, assessed),
        labels=tuple(c.label for c in classes),
        **by_class,
        **severe,
    )


def _coverage(matched: MatchResult, assessed_N: NDArray[np.bool_]) -> ReferenceCoverage:
    severe = matched.rows["severe"]
    graded_N = severe.isin((0, 1)).to_numpy()
    return ReferenceCoverage(
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
    names = [f"p_{c.label}" for c in classes if SEVERITY[c.grade] == 1]
    p_N: F64 = rows[names].to_numpy(dtype=np.float64).sum(axis=1)
    return p_N


def ground_blocks(rows: gpd.GeoDataFrame, block_m: float) -> NDArray[np.int64]:
    """Index of the square of side `block_m` that holds each row; with 0, one per row."""
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
    """Figures of severe against harmless."""
    truth_N = (answers["severe"] == 1).to_numpy()
    p_N = severe_probability(rows, classes)
    severe_classes = [c.index for c in classes if SEVERITY[c.grade] == 1]
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
        "n_declared": int(declared_N.sum()),
        "n_expected": float(p_N.sum()) if SCORE in rows.columns else None,
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
    """The baseline; None where the map has no differences (post-only models)."""
    if "pre_post_difference" not in rows.columns:
        return None
    difference_N = rows["pre_post_difference"].to_numpy(dtype=np.float64, na_value=np.nan)
    has = np.isfinite(difference_N)
    if not has.any():
        return None
    truth, p, difference = truth_N[has], p_N[has], difference_N[has]

    # Row numbers are resampled, so that both scores use the same resample.
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
    """Figures per class, where the reference is a class of the bundle."""
    counts_CC = metrics.confusion(
        answers["class_index"].to_numpy(dtype=np.int64),
        rows["damage"].to_numpy(dtype=np.int64),
        len(classes),
    )
    return {
        "classes": metrics.class_scores(counts_CC),
        "macro_f1": metrics.macro_f1(counts_CC),
        "confusion": tuple(tuple(int(v) for v in row) for row in counts_CC),
    }


def _with_positives(
    matched: MatchResult, positives: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame
) -> MatchResult:
    """Severe footprints from positive polygons, harmless ones from the reference."""
    items = positives.reset_index(drop=True)
    pairs = overlapping(items, buildings)
    hit = buildings.index.isin(pairs["building"])
    harmless = (matched.rows["severe"] == 0).to_numpy()
    severe = pd.Series(np.nan, index=buildings.index)
    severe[harmless & ~hit] = 0
    severe[hit & ~harmless] = 1
    rows = pd.DataFrame({"severe": severe, "class_index": np.nan})
    return MatchResult(
        rows=rows,
        how=f"positives: overlap with {len(items)} polygons; negatives: {matched.how}",
        items=matched.items + len(items),
        items_unmatched=matched.items_unmatched + len(items) - int(pairs["item"].nunique()),
        conflicting_footprints=matched.conflicting_footprints + int((harmless & hit).sum()),
    )


def _f1_of_declared(truth_N: NDArray[np.bool_], declared_N: F64) -> float:
    return metrics.binary_scores(truth_N, declared_N > 0.5).f1


def _values(truth: Truth, severe: int) -> str:
    """The values of the reference for one side of the comparison."""
    words = truth.items.loc[truth.items["severe"] == severe, "value"]
    return " + ".join(sorted(set(words))) or "none"


def without_nan(value: Any) -> Any:
    """Plain values with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
