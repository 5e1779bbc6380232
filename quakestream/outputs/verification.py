"""From answers to numbers: totals with intervals, and the map restated by them.

Nothing here reads a pixel. The numbers speak of the buildings that the map assesses; those that it
does not assess have a line of their own where some of them were checked.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
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
    INTACT,
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
from quakestream.outputs.restated import restate
from quakestream.outputs.spot_sample import NOT_ASSESSED, SpotSample, assessed
from quakestream.outputs.units import named_id
from quakestream.reduce.survey import survey_total

BOUNDS = {"destroyed": "if all of these are destroyed", "intact": "if all of these are intact"}
BEYOND = "beyond_interval"
"""Key of `bounds`: true where they lie outside the interval of the total."""

NUMBERS_AT_ONCE = 2_000_000
"""Draws times districts: fewer draws for very many districts, which would not fit in memory."""
LEAST_DRAWS = 250
WEAK_ORDER = 0.5
"""The map's order says little where a standard deviation of its score adds less log-odds."""

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
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of districts; none for squares."""

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
    restated, threshold = restate(checked.rows, checked.answer_N, seen, drawn)
    shares = _shares(drawn, checked, restated, count.answered) | {
        "label": classes[-1].label,
        "threshold": threshold,
    }
    record = {
        "sample": {"snapshot": sample.snapshot, **asdict(sample.request)},
        "answers": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(count).items()},
        "annotators": _annotators(answers),
        "level": LEVEL,
        "buildings": len(seen.p_N),
        "declared": _declared(checked.rows, classes),
        **_numbers(checked, seen, drawn, draws),
        "not_assessed": _not_assessed(checked, sample),
        "districts": _districts(drawn, checked, seen),
        "restated": {
            "threshold": round(threshold, 6),
            "declared": _declared(restated, classes),
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


def _numbers(
    checked: CheckedRows, seen: CheckedMap, drawn: CountDraws, draws: int
) -> dict[str, Any]:
    """The figures of the assessed buildings, and what to say of them first."""
    plain = survey_total(
        seen.p_N,
        np.unique(seen.stratum_N, return_inverse=True)[1],
        seen.answer_N != UNKNOWN,
        seen.answer_N == DESTROYED,
    )
    total_UC = drawn.total_UC()
    totals = _totals(total_UC)
    bounds = _bounds(checked, seen, draws, totals["destroyed"])
    fell = bool((seen.answer_N == DESTROYED).any())
    return {
        "totals": totals,
        "warnings": [
            *_bounds_warning(bounds, seen, totals),
            *_one_class_warning(seen),
            *_order_warning(drawn, seen),
        ],
        "share_destroyed": _rounded(Estimate.of(total_UC[:, DESTROYED] / len(seen.p_N)), 4),
        "by_design_alone": None if plain is None else _rounded_of(asdict(plain)),
        "precision": _rounded(Estimate.of(drawn.precision_U()), 3),
        "recall": _rounded(Estimate.of(drawn.recall_U() if fell else np.full(1, np.nan)), 3),
        "bounds": bounds,
    }


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
        named_id(name, checked.names)
        | _expected(destroyed_UR[:, r], int(size_R[r]), int(declared_R[r]))
        for r, name in enumerate(checked.districts)
        if size_R[r]
    ]
    whole = _expected(destroyed_UR.sum(axis=1), int(size_R.sum()), int(declared_R.sum()))
    return {"mode": "verified", "prior": {"checks": checks}, "run": whole, "areas": areas}


def _expected(destroyed_U: NDArray[np.int64], buildings: int, declared: int) -> dict[str, Any]:
    told = Estimate.of(destroyed_U)
    told = Estimate(value=round(told.value), low=round(told.low), high=round(told.high))
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


def _declared(rows: gpd.GeoDataFrame, classes: tuple[ScaleClass, ...]) -> dict[str, int]:
    """Verdicts of each class, the most severe one first."""
    return {c.label: int((rows["damage_label"] == c.label).sum()) for c in reversed(classes)}


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


def _totals(total_UC: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Whole numbers that add up to all buildings: medians, and for intact what they leave."""
    left = int(total_UC[0].sum())
    told = {}
    for name, answer in ANSWERS.items():
        one = Estimate.of(total_UC[:, answer])
        value = left if answer == INTACT else min(round(one.value), left)
        low, high = min(round(one.low), value), max(round(one.high), value)
        told[name] = {"value": value, "low": low, "high": high}
        left -= value
    return told


def _bounds_warning(
    bounds: Mapping[str, Any] | None, seen: CheckedMap, totals: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """What to say first where the buildings that nobody could tell may change the number."""
    if bounds is None or not bounds[BEYOND]:
        return []
    told = int((seen.answer_N != UNKNOWN).sum())
    low, high = bounds[BOUNDS["intact"]]["low"], bounds[BOUNDS["destroyed"]]["high"]
    return [
        f"Only {told:,} of {told + bounds['buildings']:,} checks say what state a building is in. "
        f"If the others differ, the number is {low:,} to {high:,}: do not quote "
        f"{totals['destroyed']['value']:,} without this."
    ]


def _one_class_warning(seen: CheckedMap) -> list[str]:
    known = seen.answer_N[seen.answer_N != UNKNOWN]
    if len(np.unique(known)) > 1:
        return []
    name = next(word for word, answer in ANSWERS.items() if answer == known[0])
    return [
        f"Every answer is {name} ({len(known):,} of {len(known):,}): answers of one class cannot "
        "say whether the map's order is right."
    ]


def _order_warning(drawn: CountDraws, seen: CheckedMap) -> list[str]:
    """What to say where the answers contradict the order of the map's scores."""
    steepest = float(np.quantile(drawn.curve.slope_U, (1 + LEVEL) / 2))
    if steepest * float(logit(seen.p_N).std()) >= WEAK_ORDER or (seen.answer_N != UNKNOWN).all():
        return []
    return [
        "The answers do not follow the map's score: buildings with a high one fell hardly more "
        "often. The total rests on the answers; do not trust which buildings the map names."
    ]


def _bounds(
    checked: CheckedRows, seen: CheckedMap, draws: int, total: Mapping[str, int]
) -> dict[str, Any] | None:
    """The destroyed, if all buildings that nobody could tell were destroyed, or intact."""
    unsure_N = checked.unsure_N[checked.seen_N]
    if not unsure_N.any():
        return None
    told: dict[str, Any] = {"buildings": int(unsure_N.sum())}
    for name, text in BOUNDS.items():
        answer_N = np.where(unsure_N, ANSWERS[name], seen.answer_N)
        drawn = count_draws(replace(seen, answer_N=answer_N), draws=draws)
        told[text] = _rounded(Estimate.of(drawn.total_UC()[:, DESTROYED]), 0)
    most, least = (told[text]["value"] for text in BOUNDS.values())
    told[BEYOND] = most > total["high"] or least < total["low"]
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
            **({"name": checked.names[name]} if name in checked.names else {}),
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
