"""Figures of an adapted model on blocks that its heads did not see, beside the model before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from quakestream.domain import Thresholds
from quakestream.domain.calibration import SCORE_LOGIT, Calibration, ScoreShape
from quakestream.fusion.calibration import logit
from quakestream.reduce.metrics import Interval, average_precision, calibration_error, roc_auc
from training.adapt.head import F64, FOLDS, Examples, folds, left_out_logits
from training.adapt.scores import log_odds

BLOCK_M = 100.0
"""Side of the blocks of ground that are left out together, metres."""
DRAWS = 500
BINS = 10
MOST_WEIGHT = 10.0
CALIBRATION_DRAWS = 200
PRECISION = 0.9
RECALL = 0.95
PLATT_STEPS = 20
PLATT_PENALTY = 1.0
"""Ridge that holds the slope near 1 and the offset near 0 while labels are few."""

MOVED_INTACT, MOVED_WIDTH, MOVED_DESTROYED = 0.4, 0.2, 0.6
"""Standard deviations of what labels of the event say of the peaks and of the width's logarithm."""
LEAST_WIDTH = 0.5
LEAST_APART = 1.0
"""Least distance of the peaks of the two states, in log-ratios."""

Mask = NDArray[np.bool_]
Figure = Callable[[Mask, F64], float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """What left-out labels say of an adapted model."""

    truth_N: Mask
    block_N: NDArray[np.int64]
    p_N: F64
    """Calibrated probability of each labelled building, by heads that saw nothing of its block."""
    platt: tuple[float, float]
    """Slope and offset that make the head's log-odds calibrated ones."""
    figures: dict[str, Any]
    gain: Interval
    """AUC of the adapted model minus AUC of the model before it, on the same buildings.

    Buildings are weighted so that their scores are distributed as those of the whole map.
    """

    @property
    def better(self) -> bool:
        """True if the interval of the gain lies above 0."""
        return self.gain.low > 0


def judge(examples: Examples, old_N: F64, event_N: F64 | None = None) -> Judgement:
    """Judges heads on left-out blocks.

    Args:
        examples: labelled buildings.
        old_N: score of each labelled building in the map; NaN where it has none.
        event_N: scores of all buildings of the map, whose share of destroyed is stated; None
            states the share among the labels.
    """
    logit_N, truth_N = left_out_logits(examples), examples.destroyed_N
    p_N = np.empty(len(examples))
    for held_N in folds(examples.block_N, truth_N, FOLDS):
        p_N[held_N] = _moved(logit_N[held_N], fit_platt(logit_N[~held_N], truth_N[~held_N]))
    known_N = np.isfinite(old_N)
    block_N = examples.block_N[known_N]
    new, old, truth = p_N[known_N], old_N[known_N], truth_N[known_N]
    weight = score_weights(old, event_N)
    gain = _gain(truth, logit_N[known_N], old, weight, block_N)
    figures = {
        "labels": len(examples),
        "destroyed": int(truth_N.sum()),
        "blocks": len(np.unique(examples.block_N)),
        "block_m": BLOCK_M,
        "split": f"each of {FOLDS} parts of {BLOCK_M:g} m blocks left out in turn",
        "adapted": _figures(truth_N, p_N, examples.block_N),
        "before": _figures(truth, old, block_N) if known_N.any() else None,
        "gain_auc": _plain(gain),
        "event_auc": _event_aucs(truth, logit_N[known_N], old, weight),
        "gain_average_precision": _plain(_paired(average_precision, truth, new, old, block_N)),
        "compared": int(known_N.sum()),
        "share": round(event_share(truth, old, event_N), 4)
        if event_N is not None and known_N.any()
        else round(float(truth_N.mean()), 4),
    }
    return Judgement(
        truth_N=truth_N,
        block_N=examples.block_N,
        p_N=p_N,
        platt=fit_platt(logit_N, truth_N),
        figures=figures,
        gain=gain,
    )


def score_weights(old_N: F64, event_N: F64 | None) -> F64:
    """Weights of labelled buildings that give their scores the distribution of the event's.

    Labels that were asked for where the map is unsure make any map look bad. Within a tenth of the
    event's scores, labelled buildings stand for the others.
    """
    if event_N is None or not len(old_N):
        return np.ones(len(old_N))
    known_N = event_N[np.isfinite(event_N)]
    edges = np.quantile(known_N, np.arange(1, BINS) / BINS)
    count_G = np.bincount(np.searchsorted(edges, known_N), minlength=BINS) / len(known_N)
    bin_N = np.searchsorted(edges, old_N)
    mine_G = np.bincount(bin_N, minlength=BINS) / len(old_N)
    weight_N: F64 = np.minimum(count_G[bin_N] / mine_G[bin_N], MOST_WEIGHT)
    weight_N /= weight_N.mean()
    return weight_N


def weighted_auc(truth_N: Mask, score_N: F64, weight_N: F64) -> float:
    """ROC-AUC of weighted buildings; NaN with one state only."""
    place_N = np.unique(score_N, return_inverse=True)[1]
    hit, miss = (np.bincount(place_N, weight_N * s) for s in (truth_N, ~truth_N))
    total = float(hit.sum() * miss.sum())
    below = np.cumsum(miss) - miss
    return float((hit * (below + 0.5 * miss)).sum() / total) if total else float("nan")


def event_share(truth_N: Mask, old_N: F64, event_N: F64) -> float:
    """Share of destroyed buildings of the event that calibrated probabilities assume.

    Labels that were chosen by the map's score have another share than the event, but the same
    share at each score. So the score is calibrated on the labels, and averaged over all buildings.
    """
    slope, offset = fit_platt(log_odds(old_N), truth_N)
    known_N = event_N[np.isfinite(event_N)]
    share = float(expit(slope * log_odds(known_N) + offset).mean())
    return min(max(share, 0.001), 0.999)


def shape_of(ratio_N: F64, truth_N: Mask) -> ScoreShape:
    """Where the log-ratios of labelled buildings of each state lie.

    The map of the same event has its peaks there, so they may move by less than those of a bundle
    for any event. A head that cannot tell the states apart has no such shape; the default one is
    wide.
    """
    intact_at, intact_width = _peak(ratio_N[~truth_N])
    destroyed_at, destroyed_width = _peak(ratio_N[truth_N])
    if destroyed_at - intact_at < LEAST_APART:
        return ScoreShape()
    return ScoreShape(
        intact_at=intact_at,
        intact_at_sd=MOVED_INTACT,
        intact_width=intact_width,
        intact_width_log_sd=MOVED_WIDTH,
        destroyed_at=destroyed_at,
        destroyed_at_sd=MOVED_DESTROYED,
        destroyed_width=destroyed_width,
    )


def _peak(ratio_N: F64) -> tuple[float, float]:
    """Median, and the standard deviation that the middle half of a normal peak would have."""
    low, middle, high = np.quantile(ratio_N, (0.25, 0.5, 0.75))
    return float(middle), max(float(high - low) / 1.349, LEAST_WIDTH)


def calibration_of(judgement: Judgement, event: str) -> Calibration:
    """What the manifest says of the scores: they are calibrated, and how surely."""
    logit_N, truth_N = log_odds(judgement.p_N), judgement.truth_N
    members = [np.flatnonzero(judgement.block_N == b) for b in np.unique(judgement.block_N)]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(CALIBRATION_DRAWS):
        blocks = rng.integers(0, len(members), len(members))
        row_N = np.concatenate([members[b] for b in blocks])
        slope, offset = fit_platt(logit_N[row_N], truth_N[row_N])
        drawn.append((offset, slope))
    covariance = np.cov(np.array(drawn).T)
    figures = judgement.figures
    return Calibration(
        share=figures["share"],
        features=(SCORE_LOGIT,),
        weights=(1.0,),
        intercept=0.0,
        covariance=tuple(tuple(float(v) for v in row) for row in covariance),
        region_sd=0.0,
        fitted_on=f"{event} alone: {figures['labels']} labelled buildings, "
        f"{figures['destroyed']} destroyed, on left-out blocks",
        shape=shape_of(logit_N - logit(figures["share"]), truth_N),
    )


def fit_platt(logit_N: F64, truth_N: Mask) -> tuple[float, float]:
    """Slope and offset with the least log-loss (Platt 1999), held near 1 and 0 by a ridge."""
    slope, offset = 1.0, 0.0
    for _ in range(PLATT_STEPS):
        p_N = expit(slope * logit_N + offset)
        weight_N = p_N * (1 - p_N) + 1e-9
        g = np.array([((p_N - truth_N) * logit_N).sum(), (p_N - truth_N).sum()])
        g += PLATT_PENALTY * np.array([slope - 1.0, offset])
        cross = (weight_N * logit_N).sum()
        h = np.array([[(weight_N * logit_N**2).sum(), cross], [cross, weight_N.sum()]])
        step = np.linalg.solve(h + PLATT_PENALTY * np.eye(2), g)
        slope, offset = slope - step[0], offset - step[1]
        if np.abs(step).max() < 1e-9:
            break
    return max(float(slope), 0.05), float(offset)


def recall_at_precision(truth_N: Mask, score_N: F64, precision: float = PRECISION) -> float:
    """Largest recall of a threshold whose precision is at least this; 0 if none is."""
    order = np.argsort(-score_N, kind="stable")
    hits = np.cumsum(truth_N[order])
    last = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1)
    enough = hits[last] / (last + 1.0) >= precision
    return float(hits[last][enough].max(initial=0) / max(int(truth_N.sum()), 1))


def thresholds_of(truth_N: Mask, p_N: F64) -> Thresholds:
    """Operating points of calibrated probabilities.

    Balanced is one half. High precision is the lowest threshold from there on whose precision
    reaches 90 %, high recall the highest below it that finds 95 % of the destroyed.
    """
    candidates = np.unique(p_N)
    declared_TN = p_N >= candidates[:, None]
    precision_T = (declared_TN & truth_N).sum(1) / declared_TN.sum(1)
    recall_T = (declared_TN & truth_N).sum(1) / max(int(truth_N.sum()), 1)
    sure = candidates[(precision_T >= PRECISION) & (candidates >= 0.5)]
    found = candidates[(recall_T >= RECALL) & (candidates <= 0.5)]
    return Thresholds(
        high_precision=_rounded(float(sure.min(initial=1.0)) if len(sure) else 0.9),
        balanced=0.5,
        high_recall=_rounded(float(found.max(initial=0.0)) if len(found) else 0.05),
    )


def _figures(truth_N: Mask, p_N: F64, block_N: NDArray[np.int64]) -> dict[str, Any]:
    figures: dict[str, Figure] = {
        "auc": roc_auc,
        "average_precision": average_precision,
        "recall_at_90_precision": recall_at_precision,
        "calibration_error": calibration_error,
    }
    return {n: _plain(_interval(f, truth_N, p_N, block_N)) for n, f in figures.items()}


def _gain(
    truth_N: Mask, new_N: F64, old_N: F64, weight_N: F64, block_N: NDArray[np.int64]
) -> Interval:
    def gain(i: NDArray[np.int64]) -> float:
        new, old = (weighted_auc(truth_N[i], s[i], weight_N[i]) for s in (new_N, old_N))
        return new - old

    if not len(truth_N):
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))
    return _drawn(gain, block_N)


def _event_aucs(truth_N: Mask, new_N: F64, old_N: F64, weight_N: F64) -> dict[str, float | None]:
    """ROC-AUC over the event, from weighted labels."""
    aucs = (weighted_auc(truth_N, score_N, weight_N) for score_N in (old_N, new_N))
    plain = (round(auc, 4) if np.isfinite(auc) else None for auc in aucs)
    return dict(zip(("before", "adapted"), plain, strict=True))


def _interval(figure: Figure, truth_N: Mask, p_N: F64, block_N: NDArray[np.int64]) -> Interval:
    return _drawn(lambda i: figure(truth_N[i], p_N[i]), block_N)


def _paired(
    figure: Figure, truth_N: Mask, new_N: F64, old_N: F64, block_N: NDArray[np.int64]
) -> Interval:
    if not len(truth_N):
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))
    return _drawn(lambda i: figure(truth_N[i], new_N[i]) - figure(truth_N[i], old_N[i]), block_N)


def _drawn(figure: Callable[[NDArray[np.int64]], float], block_N: NDArray[np.int64]) -> Interval:
    """A figure of chosen rows, with its 95 % interval over blocks drawn with replacement."""
    members = [np.flatnonzero(block_N == b) for b in np.unique(block_N)]
    rng = np.random.default_rng(0)
    value_D = np.empty(DRAWS)
    for draw in range(DRAWS):
        blocks = rng.integers(0, len(members), len(members))
        value_D[draw] = figure(np.concatenate([members[b] for b in blocks]))
    known = value_D[np.isfinite(value_D)]
    value = figure(np.arange(len(block_N)))
    if len(members) < 2 or len(known) < DRAWS / 2:
        return Interval(value=value, low=float("nan"), high=float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value=value, low=float(low), high=float(high))


def _moved(logit_N: F64, platt: tuple[float, float]) -> F64:
    p_N: F64 = expit(platt[0] * logit_N + platt[1])
    return p_N


def _plain(interval: Interval) -> list[float | None]:
    """Value, low, high; None for what cannot be given."""
    values = (interval.value, interval.low, interval.high)
    return [round(v, 4) if np.isfinite(v) else None for v in values]


def _rounded(threshold: float) -> float:
    return float(np.floor(threshold * 1e4) / 1e4)
