"""The map restated by answers: probabilities and verdicts that agree with the estimated number."""

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.fusion.check_counts import (
    ANSWERS,
    DESTROYED,
    INTACT,
    UNKNOWN,
    CheckedMap,
    CountDraws,
)
from quakestream.fusion.checks import Floats, Integers, logit
from quakestream.outputs.buildings import CHECKED
from quakestream.outputs.spot_sample import assessed

CURVE_DRAWS = 400
"""Draws of the curve that restated probabilities are the mean of."""
CURVE_STEP = 0.02
"""Steps of the map's log-odds in which the curve is evaluated."""
LEAST_SLOPE = 0.05
"""The map's order stays in restated probabilities, even where answers contradict it."""
TAIL_SLOPE = 0.01
"""Slope of log-odds beyond the largest that count, which keeps the map's order there."""
LEAST_LEFT = 0.4
"""Largest sum of the probabilities of unchecked buildings where the estimate leaves none of them.
Below one half, the sum of all still rounds to the estimate. The same holds where it leaves all."""


def restate(
    rows: gpd.GeoDataFrame, answer_N: Integers, seen: CheckedMap, drawn: CountDraws
) -> tuple[gpd.GeoDataFrame, float]:
    """Rows with probabilities by the curve of the answers, and the threshold of their verdicts.

    A building with an answer carries it. The order of the others within a district stays. All
    probabilities sum to the estimated number of destroyed, and as many buildings are declared.

    Args:
        rows: the map, with its labels in `attrs`.
        answer_N: answers of all rows, those that the map does not assess included.
        seen: the assessed rows.
        drawn: the estimate.
    """
    labels = list(rows.attrs["labels"])
    names = [f"p_{a}" for a in labels]
    seen_N, out = assessed(rows), rows.copy()
    p_N = _probabilities(seen, drawn).astype(np.float32)
    threshold = threshold_for(p_N, drawn.destroyed)
    new_NC = _classes(rows.loc[seen_N, names].to_numpy(np.float64), p_N, seen.answer_N)
    reaches_NC = new_NC[:, ::-1].cumsum(axis=1)[:, ::-1] >= threshold
    reaches_NC[:, -1] = p_N.astype(np.float64) >= threshold
    reaches_NC[:, 0] = True
    damage_N = len(labels) - 1 - reaches_NC[:, ::-1].argmax(axis=1)
    damage_N = np.where(seen.answer_N == UNKNOWN, damage_N, new_NC.argmax(axis=1))
    for k, name in enumerate(names):
        out.loc[seen_N, name] = new_NC[:, k].astype(np.float32)
    verdict = pd.array([pd.NA] * len(rows), dtype="Int8")
    verdict[seen_N] = damage_N.astype(np.int8)
    label_N = np.full(len(rows), None, object)
    label_N[seen_N] = np.array(labels, object)[damage_N]
    out["damage"], out["damage_label"] = verdict, label_N
    certain_N = new_NC[np.arange(len(new_NC)), damage_N].astype(np.float32)
    out.loc[seen_N, "confidence"] = certain_N
    out.loc[seen_N, "uncertainty"] = 1 - certain_N
    words = {answer: word for word, answer in ANSWERS.items()}
    out[CHECKED] = np.array([words.get(int(a)) for a in answer_N], object)
    return out, threshold


def _probabilities(seen: CheckedMap, drawn: CountDraws) -> Floats:
    """Probabilities of the most severe class: those of the answers, and of the curve elsewhere."""
    p_N: Floats = (seen.answer_N == DESTROYED).astype(np.float64)
    open_N = seen.answer_N == UNKNOWN
    if not open_N.any():
        return p_N
    found, total = int(p_N.sum()), drawn.total_UC()[:, DESTROYED]
    mean = float(total.mean()) - found
    least, most = min(LEAST_LEFT, mean), max(int(open_N.sum()) - LEAST_LEFT, mean)
    left = float(np.clip(drawn.destroyed - found, least, most))
    p_N[open_N] = _shifted(_curve_of(seen, drawn)[open_N], left)
    return p_N


def _classes(old_NC: Floats, p_N: NDArray[np.float32], answer_N: Integers) -> Floats:
    """Probabilities of all classes: milder ones keep their proportions among those left.

    The answers destroyed and intact are the ends of the scale, and damaged is what lies between.
    On a scale of two classes, damaged is not destroyed.
    """
    mild_NC = np.maximum(old_NC[:, :-1], 1e-9)
    mild_NC[answer_N == INTACT, 1:] = 0
    if mild_NC.shape[1] > 1:
        mild_NC[(answer_N != INTACT) & (answer_N != UNKNOWN), 0] = 0
    mild_NC *= (1 - p_N.astype(np.float64))[:, None] / mild_NC.sum(axis=1, keepdims=True)
    new_NC: Floats = np.column_stack([mild_NC, p_N])
    return new_NC


def _curve_of(seen: CheckedMap, drawn: CountDraws) -> Floats:
    """Mean probability of each building by its log-odds and its district."""
    curve = drawn.curve
    bounded_N = np.clip(seen.p_N, 1e-9, 1 - 1e-9)
    logit_N = logit(seen.p_N)
    logit_N = logit_N + TAIL_SLOPE * (np.log(bounded_N / (1 - bounded_N)) - logit_N)
    step_N = np.floor(logit_N / CURVE_STEP).astype(np.int64)
    keys, place_N = np.unique(
        np.column_stack([step_N, seen.district_N]), axis=0, return_inverse=True
    )
    take = slice(None, None, max(1, len(curve.level_U) // CURVE_DRAWS))
    slope_U = np.maximum(curve.slope_U[take, None], LEAST_SLOPE)
    mean_G2 = np.zeros((len(keys), 2))
    for at in range(0, len(keys), 2000):
        part = slice(at, at + 2000)
        for end in (0, 1):
            eta_UG = (
                curve.level_U[take, None]
                + slope_U * (keys[part, 0] + end) * CURVE_STEP
                + curve.district_UR[take][:, keys[part, 1]]
            )
            mean_G2[part, end] = (1 / (1 + np.exp(-eta_UG))).mean(axis=0)
    within_N = logit_N / CURVE_STEP - step_N
    low_N, high_N = mean_G2[place_N.reshape(-1)].T
    mean_N: Floats = low_N + within_N * (high_N - low_N)
    return mean_N


def _shifted(p_N: Floats, total: float) -> Floats:
    """Probabilities with one shift of their log-odds, so that they sum to `total`."""
    bounded_N = np.clip(p_N, 1e-9, 1 - 1e-9)
    logit_N = np.log(bounded_N / (1 - bounded_N))
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(logit_N + middle)))).sum() < total:
            low = middle
        else:
            high = middle
    shifted_N: Floats = 1 / (1 + np.exp(-(logit_N + low)))
    return shifted_N


def threshold_for(p_N: NDArray[np.float32], number: int) -> float:
    """The threshold that as many buildings reach; the nearest number where some are alike."""
    order_N = np.sort(p_N.astype(np.float64))[::-1]
    if 0 < number < len(order_N):
        alike = np.flatnonzero(order_N == order_N[number])
        first, after = int(alike[0]), int(alike[-1]) + 1
        number = first if number - first <= after - number else after
    if number <= 0:
        return float((order_N[0] + 1) / 2)
    if number >= len(order_N):
        return float(order_N[-1] / 2)
    return float((order_N[number - 1] + order_N[number]) / 2)
