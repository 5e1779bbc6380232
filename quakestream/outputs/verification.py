"""From answers to numbers: totals with intervals, and the map restated by them.

Nothing here reads a pixel. The numbers speak of the buildings that the map assesses; those that it
does not assess have a line of their own where some of them were checked.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain import ScaleClass
from quakestream.errors import RequestError
from quakestream.fusion.check_counts import (
    ANSWERS,
    DESTROYED,
    LEVEL,
    UNKNOWN,
    CheckedMap,
    CountDraws,
    Estimate,
    count_draws,
)
from quakestream.fusion.checks import DRAWS, logit
from quakestream.outputs.answers import CANNOT_TELL, SHOWN, Answers
from quakestream.outputs.buildings import SCORE, SHARE_AREA, SHARE_COLUMNS
from quakestream.outputs.spot_sample import NOT_ASSESSED, SpotSample, assessed
from quakestream.reduce.survey import survey_total

BOUNDS = {"destroyed": "if all of these are destroyed", "intact": "if all of these are intact"}
CURVE_DRAWS = 400
"""Draws of the curve that restated probabilities are the mean of."""
CURVE_STEP = 0.02
"""Steps of the map's log-odds in which the curve is evaluated."""

NUMBERS_AT_ONCE = 2_000_000
"""Draws times districts: fewer draws for very many districts, which would not fit in memory."""
LEAST_DRAWS = 250

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCount:
    """What became of the answers."""

    sampled: int
    answered: int
    """Buildings of the sample with an answer that says what state they are in."""
    cannot_tell: int
    """Buildings of the sample that nobody could tell, ties included."""
    missing: int
    """Buildings of the sample without any answer."""
    outside_sample: tuple[str, ...]
    """Ids with an answer that are not in the sample. They are set aside."""
    not_in_map: tuple[str, ...]
    """Those of them that are not in the map either."""
    gone: tuple[str, ...]
    """Sampled buildings that the map does not have any more."""
    saw_verdict: int
    """Answers that were given with the map's verdict in view."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckedRows:
    """The rows of a map, with what is known of each."""

    rows: gpd.GeoDataFrame
    stratum_N: NDArray[np.int64]
    """Stratum of the sample; the last one for buildings that the sample did not know."""
    district_N: NDArray[np.int64]
    districts: tuple[str, ...]
    answer_N: NDArray[np.int64]
    unsure_N: NDArray[np.bool_]
    """True for sampled buildings without an answer that tells."""

    @property
    def seen_N(self) -> NDArray[np.bool_]:
        return assessed(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verification:
    """The result of `quakestream verify`."""

    count: AnswerCount
    drawn: CountDraws
    record: dict[str, Any]
    """The content of verification.json."""
    shares: dict[str, Any]
    """`shares` of run.json: what summary.csv and pages say of the expected numbers."""
    restated: gpd.GeoDataFrame
    """Rows with restated probabilities and verdicts."""
    threshold: float


def join_answers(
    rows: gpd.GeoDataFrame,
    district_N: NDArray[np.object_],
    sample: SpotSample,
    stratum_by_id: Mapping[str, int],
    answers: Answers,
) -> tuple[CheckedRows, AnswerCount]:
    """The map with its answers.

    Raises:
        RequestError: if no answer is one of a building of the sample.
    """
    ids = rows["building_id"].astype(str).to_numpy()
    place = {name: n for n, name in enumerate(ids)}
    sampled = sample.table["building_id"].astype(str).tolist()
    known = set(sampled)
    outside = tuple(b for b, a in answers.settled.items() if b not in known and a)
    inside = [b for b in sampled if answers.settled.get(b)]
    if not inside:
        raise RequestError(
            "no answer is one of a building of the sample",
            f"{len(outside)} answers",
            expected=f"ids such as {sampled[0]!r}",
            got=", ".join(outside[:SHOWN]),
            remedy="give the answers to the sample under spot_checks/ of this map",
        )
    answer_N = np.full(len(ids), UNKNOWN)
    unsure_N = np.zeros(len(ids), np.bool_)
    for name in sampled:
        if name in place:
            answer = ANSWERS.get(answers.settled.get(name, ""), UNKNOWN)
            answer_N[place[name]] = answer
            unsure_N[place[name]] = answer == UNKNOWN
    names, district = np.unique(district_N.astype(str), return_inverse=True)
    stratum_N = np.array([stratum_by_id.get(name, len(sample.strata)) for name in ids], np.int64)
    said = [answers.settled.get(name, "") for name in sampled]
    count = AnswerCount(
        sampled=len(sampled),
        answered=sum(one in ANSWERS for one in said),
        cannot_tell=said.count(CANNOT_TELL),
        missing=said.count(""),
        outside_sample=outside,
        not_in_map=tuple(b for b in outside if b not in place),
        gone=tuple(b for b in sampled if b not in place),
        saw_verdict=sum(a.saw_verdict for a in answers.rows if a.building_id in known and a.answer),
    )
    checked = CheckedRows(
        rows=rows,
        stratum_N=stratum_N,
        district_N=district.reshape(-1),
        districts=tuple(names.tolist()),
        answer_N=answer_N,
        unsure_N=unsure_N,
    )
    return checked, count


def verified(
    checked: CheckedRows,
    sample: SpotSample,
    answers: Answers,
    count: AnswerCount,
    classes: tuple[ScaleClass, ...],
) -> Verification:
    """Totals, precision and recall, and the restated map.

    Raises:
        RequestError: if no building that the map assesses has an answer.
    """
    seen = _checked_map(checked, sample)
    if (seen.answer_N == UNKNOWN).all():
        raise RequestError(
            "no answer tells the state of an assessed building",
            f"{count.cannot_tell} cannot tell, {count.missing} missing",
        )
    draws = int(np.clip(NUMBERS_AT_ONCE // seen.districts, LEAST_DRAWS, DRAWS))
    drawn = count_draws(seen, draws=draws)
    plain = survey_total(
        seen.p_N,
        np.unique(seen.stratum_N, return_inverse=True)[1],
        seen.answer_N != UNKNOWN,
        seen.answer_N == DESTROYED,
    )
    restated, threshold = restate(checked, seen, drawn, classes)
    seen_N = checked.seen_N
    shares = _shares(drawn, checked, restated, count.answered) | {
        "label": classes[-1].label,
        "threshold": threshold,
    }
    declared = {
        label: int((checked.rows["damage_label"] == label).sum()) for label in _labels(classes)
    }
    record = {
        "sample": {"snapshot": sample.snapshot, **asdict(sample.request)},
        "answers": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(count).items()},
        "annotators": _annotators(answers),
        "level": LEVEL,
        "buildings": int(seen_N.sum()),
        "declared": declared,
        "totals": _totals(drawn.total_UC()),
        "share_destroyed": _rounded(Estimate.of(drawn.total_UC()[:, DESTROYED] / len(seen.p_N)), 4),
        "by_design_alone": None if plain is None else _rounded_of(asdict(plain)),
        "precision": _rounded(Estimate.of(drawn.precision_U()), 3),
        "recall": _rounded(Estimate.of(drawn.recall_U()), 3),
        "bounds": _bounds(checked, seen, draws),
        "not_assessed": _not_assessed(checked, sample),
        "districts": _districts(drawn, checked, seen),
        "restated": {
            "threshold": round(threshold, 6),
            "declared": {
                label: int((restated["damage_label"] == label).sum()) for label in _labels(classes)
            },
        },
    }
    return Verification(
        count=count,
        drawn=drawn,
        record=record,
        shares=shares,
        restated=_with_shares(restated, shares, checked),
        threshold=threshold,
    )


def _shares(
    drawn: CountDraws, checked: CheckedRows, restated: gpd.GeoDataFrame, checks: int
) -> dict[str, Any]:
    """Expected numbers of destroyed per unit and in all, as calibrated maps have them."""
    seen_N, worst = checked.seen_N, len(checked.rows.attrs["labels"]) - 1
    declared_N = (restated["damage"] == worst).to_numpy(bool, na_value=False)
    size_R = np.bincount(checked.district_N[seen_N], minlength=len(checked.districts))
    declared_R = np.bincount(checked.district_N[declared_N], minlength=len(checked.districts))
    destroyed_UR = drawn.count_UR2C[..., DESTROYED].sum(axis=2)
    areas = [
        {"id": name, **_expected(destroyed_UR[:, r], int(size_R[r]), int(declared_R[r]))}
        for r, name in enumerate(checked.districts)
        if size_R[r]
    ]
    whole = _expected(destroyed_UR.sum(axis=1), int(size_R.sum()), int(declared_R.sum()))
    return {"mode": "verified", "prior": {"checks": checks}, "run": whole, "areas": areas}


def _expected(destroyed_U: NDArray[np.int64], buildings: int, declared: int) -> dict[str, Any]:
    told = Estimate.of(destroyed_U)
    ends = {"expected": told.value, "expected_low": told.low, "expected_high": told.high}
    shares = {"share": told.value, "low": told.low, "high": told.high}
    return {
        "buildings": buildings,
        **{name: round(value / buildings, 5) for name, value in shares.items()},
        **ends,
        "declared": declared,
    }


def _with_shares(
    rows: gpd.GeoDataFrame, shares: Mapping[str, Any], checked: CheckedRows
) -> gpd.GeoDataFrame:
    """Rows whose columns of shares agree, in maps that have them."""
    if SCORE not in rows.columns:
        return rows
    seen_N = checked.seen_N
    unit_N = np.array(checked.districts, object)[checked.district_N]
    by_unit = pd.DataFrame(shares["areas"]).set_index("id")[["share", "low", "high"]]
    known = by_unit.reindex(unit_N[seen_N]).to_numpy(np.float32)
    for column, values in zip(SHARE_COLUMNS, known.T, strict=True):
        rows.loc[seen_N, column] = values
    area_N = np.full(len(rows), None, object)
    area_N[seen_N] = unit_N[seen_N]
    rows[SHARE_AREA] = area_N
    return rows


def _labels(classes: tuple[ScaleClass, ...]) -> list[str]:
    return [c.label for c in reversed(classes)]


def _checked_map(checked: CheckedRows, sample: SpotSample) -> CheckedMap:
    """The assessed buildings for the model."""
    rows, seen_N = checked.rows, checked.seen_N
    labels = rows.attrs["labels"]
    p_NC = rows[[f"p_{a}" for a in labels]].to_numpy(np.float64, na_value=np.nan)[seen_N]
    rest_N = np.maximum(1 - p_NC[:, -1], 1e-6)
    damaged_N = p_NC[:, 1:-1].sum(axis=1) / rest_N if len(labels) > 2 else p_NC[:, -1]
    return CheckedMap(
        p_N=p_NC[:, -1],
        p_damaged_N=damaged_N,
        stratum_N=checked.stratum_N[seen_N],
        strata=len(sample.strata) + 1,
        district_N=checked.district_N[seen_N],
        districts=len(checked.districts),
        declared_N=(rows["damage"] == len(labels) - 1).to_numpy(bool, na_value=False)[seen_N],
        answer_N=checked.answer_N[seen_N],
    )


def _totals(total_UC: NDArray[np.int64]) -> dict[str, dict[str, float | None]]:
    return {name: _rounded(Estimate.of(total_UC[:, answer]), 0) for name, answer in ANSWERS.items()}


def _bounds(checked: CheckedRows, seen: CheckedMap, draws: int) -> dict[str, Any] | None:
    """The destroyed, if all buildings that nobody could tell were destroyed, or intact."""
    unsure_N = checked.unsure_N[checked.seen_N]
    if not unsure_N.any():
        return None
    told: dict[str, Any] = {"buildings": int(unsure_N.sum())}
    for name, text in BOUNDS.items():
        answer_N = np.where(unsure_N, ANSWERS[name], seen.answer_N)
        drawn = count_draws(replace(seen, answer_N=answer_N), draws=draws)
        told[text] = _rounded(Estimate.of(drawn.total_UC()[:, DESTROYED]), 0)
    return told


def _not_assessed(checked: CheckedRows, sample: SpotSample) -> dict[str, Any]:
    """Buildings that the map does not assess: a simple random sample of them, or nothing."""
    unseen_N = ~checked.seen_N
    number = int(unseen_N.sum())
    told = checked.answer_N[unseen_N]
    known = told[told != UNKNOWN]
    result: dict[str, Any] = {
        "buildings": number,
        "checks": int((checked.unsure_N | (checked.answer_N != UNKNOWN))[unseen_N].sum()),
        "answered": len(known),
    }
    if len(known):
        found = int((known == DESTROYED).sum())
        rng = np.random.default_rng(0)
        share_U = rng.beta(found + 0.5, len(known) - found + 0.5, 4000)
        drawn_U = found + rng.binomial(number - len(known), share_U)
        result["destroyed"] = _rounded(Estimate.of(drawn_U), 0)
    return result


def _districts(drawn: CountDraws, checked: CheckedRows, seen: CheckedMap) -> list[dict[str, Any]]:
    size = np.bincount(seen.district_N, minlength=seen.districts)
    declared = np.bincount(seen.district_N, seen.declared_N, seen.districts)
    answered = np.bincount(seen.district_N, seen.answer_N != UNKNOWN, seen.districts)
    return [
        {
            "district": name,
            "buildings": int(size[r]),
            "checks": int(answered[r]),
            "declared": int(declared[r]),
            **_totals(drawn.count_UR2C[:, r].sum(axis=1)),
        }
        for r, name in enumerate(checked.districts)
        if size[r]
    ]


def _annotators(answers: Answers) -> dict[str, Any]:
    names = sorted({a.annotator for a in answers.rows})
    return {
        "names": names,
        "rule": "the answer of most annotators; a tie counts as cannot tell",
        "agreement": [
            {
                "annotators": list(one.annotators),
                "buildings": one.buildings,
                "agree": _finite(one.agree, 3),
                "kappa": _finite(one.kappa, 3),
            }
            for one in answers.agreement
        ],
        "conflicts": {name: list(said) for name, said in answers.conflicts.items()},
        "tied": list(answers.tied),
        "repeated_rows": answers.repeated,
    }


def restate(
    checked: CheckedRows, seen: CheckedMap, drawn: CountDraws, classes: tuple[ScaleClass, ...]
) -> tuple[gpd.GeoDataFrame, float]:
    """Rows with probabilities by the curve of the answers, and the threshold of their verdicts.

    The order of buildings within a district stays. The probabilities sum to the estimated number
    of destroyed, and the threshold is the one at which as many are declared.
    """
    total = float(drawn.total_UC()[:, DESTROYED].mean())
    p_N = _shifted(_curve_of(seen, drawn), total).astype(np.float32)
    threshold = threshold_for(p_N, round(total))
    rows, seen_N = checked.rows.copy(), checked.seen_N
    labels = [c.label for c in classes]
    names = [f"p_{a}" for a in labels]
    old_NC = rows.loc[seen_N, names].to_numpy(np.float64)
    mild_NC = np.maximum(old_NC[:, :-1], 1e-9)
    mild_NC *= (1 - p_N.astype(np.float64))[:, None] / mild_NC.sum(axis=1, keepdims=True)
    new_NC = np.column_stack([mild_NC, p_N]).astype(np.float32)
    reaches_NC = new_NC[:, ::-1].cumsum(axis=1)[:, ::-1] >= np.float32(threshold)
    reaches_NC[:, -1] = p_N >= np.float32(threshold)
    reaches_NC[:, 0] = True
    damage_N = len(labels) - 1 - reaches_NC[:, ::-1].argmax(axis=1)
    for k, name in enumerate(names):
        rows.loc[seen_N, name] = new_NC[:, k]
    verdict = pd.array([pd.NA] * len(rows), dtype="Int8")
    verdict[seen_N] = damage_N.astype(np.int8)
    label_N = np.full(len(rows), None, object)
    label_N[seen_N] = np.array(labels, object)[damage_N]
    rows["damage"], rows["damage_label"] = verdict, label_N
    certain_N = new_NC[np.arange(len(new_NC)), damage_N]
    rows.loc[seen_N, "confidence"] = certain_N
    rows.loc[seen_N, "uncertainty"] = 1 - certain_N
    return rows, threshold


def _curve_of(seen: CheckedMap, drawn: CountDraws) -> Floats:
    """Mean probability of each building by its log-odds and its district."""
    curve = drawn.curve
    step_N = np.round(logit(seen.p_N) / CURVE_STEP).astype(np.int64)
    keys, place_N = np.unique(
        np.column_stack([step_N, seen.district_N]), axis=0, return_inverse=True
    )
    take = slice(None, None, max(1, len(curve.level_U) // CURVE_DRAWS))
    mean_G = np.zeros(len(keys))
    for at in range(0, len(keys), 2000):
        part = slice(at, at + 2000)
        eta_UG = (
            curve.level_U[take, None]
            + curve.slope_U[take, None] * keys[part, 0] * CURVE_STEP
            + curve.district_UR[take][:, keys[part, 1]]
        )
        mean_G[part] = (1 / (1 + np.exp(-eta_UG))).mean(axis=0)
    return mean_G[place_N.reshape(-1)]


def _shifted(p_N: Floats, total: float) -> Floats:
    """Probabilities with one shift of their log-odds, so that they sum to `total`."""
    bounded_N = np.clip(p_N, 1e-6, 1 - 1e-6)
    logit_N = np.log(bounded_N / (1 - bounded_N))
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(logit_N + middle)))).sum() < total:
            low = middle
        else:
            high = middle
    shifted_N: Floats = 1 / (1 + np.exp(-(logit_N + low)))
    return shifted_N


def threshold_for(p_N: NDArray[np.float32], number: int) -> float:
    """The threshold that as many buildings reach; the next larger number where some are alike."""
    order_N = np.sort(p_N.astype(np.float64))[::-1]
    if number <= 0:
        return float((order_N[0] + 1) / 2)
    if number >= len(order_N):
        return float(order_N[-1] / 2)
    return float((order_N[number - 1] + order_N[number]) / 2)


def _rounded(estimate: Estimate, digits: int) -> dict[str, float | None]:
    return _rounded_of(asdict(estimate), digits)


def _rounded_of(values: Mapping[str, float], digits: int = 2) -> dict[str, float | None]:
    return {name: _finite(value, digits) for name, value in values.items()}


def _finite(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    return round(value, digits) if digits else round(value)


def unseen_sentence(record: Mapping[str, Any]) -> str:
    """What the totals say of buildings that the map does not assess."""
    unseen = record["not_assessed"]
    if not unseen["buildings"]:
        return "The map assesses all buildings."
    text = f"{unseen['buildings']:,} buildings that the map does not assess are not in these totals"
    if "destroyed" not in unseen:
        return f"{text}, and none of them was checked (stratum {NOT_ASSESSED!r})."
    told = unseen["destroyed"]
    return (
        f"{text}; by {unseen['answered']} checks, {told['value']:,} of them are destroyed "
        f"({told['low']:,} to {told['high']:,})."
    )
