"""Do 90 % intervals of `verify` hold the truth in 90 % of campaigns, and how wide are they?

Each campaign draws 100 checks from one map whose truth is known, and estimates the number of
destroyed buildings. Beside it: a simple random sample of as many checks (Beta-binomial interval
with Jeffreys's prior), and the design-based total of `reduce/survey.py`. Maps: synthetic scores
with shares from 2 to 60 %, with and without collapses that no image shows, stated at a share of
one half and at their own; scores that know nothing, that are certain and wrong, and whose order is
reversed; the judged buildings of Kahramanmaraş, as they are (30 checks of them) and resampled to
2,000; and the synthetic demo.

`bound` is the least width that a design-unbiased total can have on average, over that of a simple
random sample (Godambe and Joshi 1965): the true probability of each building is known before the
first check, and checks are in proportion to its standard deviation.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import data_dir, main, quakestream
from benchmarks.kahramanmaras import DEFAULT, write_run
from quakestream.fusion.check_counts import (
    DAMAGED,
    DESTROYED,
    INTACT,
    LEVEL,
    UNKNOWN,
    CheckedMap,
    Estimate,
    count_draws,
)
from quakestream.fusion.checks import fit_curve, logit
from quakestream.outputs.matching import match
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.truth import TruthRequest, read_truth
from quakestream.reduce.strata import (
    FREE_LEVELS,
    STATED_LEVELS,
    draw,
    strata_of,
    stratum_numbers,
)
from quakestream.reduce.survey import survey_total
from quakestream.storage import open_store

DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownMap:
    """A map whose truth is known."""

    p_N: NDArray[np.float64]
    destroyed_N: NDArray[np.bool_]
    true_p_N: NDArray[np.float64]
    """Probability of each building by all that its score can tell."""
    stated: bool = False
    """True where the map states the share of destroyed that it assumes."""

    @property
    def levels(self) -> tuple[float, ...]:
        return STATED_LEVELS if self.stated else FREE_LEVELS


def synthetic(
    buildings: int,
    share: float | NDArray[np.float64],
    seed: int,
    *,
    unseen: float = 0.0,
    stated_at: float = 0.5,
) -> KnownMap:
    """Scores of two normal distributions, AUC 0.93, flattened as those of footprints are.

    Args:
        unseen: part of the destroyed that look intact from above.
        stated_at: share of destroyed that the probabilities assume.
    """
    rng = np.random.default_rng(seed)
    destroyed_N = rng.random(buildings) < share
    shown_N = destroyed_N & (rng.random(buildings) >= unseen)
    apart = 2.1
    ratio_N = apart * (rng.standard_normal(buildings) + apart * shown_N) - apart**2 / 2
    logit_N = 0.7 * ratio_N + np.log(stated_at / (1 - stated_at))
    likely_N = share * ((1 - unseen) * np.exp(ratio_N) + unseen)
    return KnownMap(
        p_N=1 / (1 + np.exp(-logit_N)),
        destroyed_N=destroyed_N,
        true_p_N=likely_N / (likely_N + 1 - share),
        stated=stated_at != 0.5,
    )


def uninformed(buildings: int, share: float, seed: int, *, certain: bool = False) -> KnownMap:
    """Scores that know nothing of the destroyed.

    Args:
        certain: one building in ten has 0.97 and the others 0.02; else as of a map with 30 %.
    """
    rng = np.random.default_rng(seed)
    p_N = synthetic(buildings, 0.3, seed + 1).p_N
    if certain:
        p_N = np.where(rng.random(buildings) < 0.1, 0.97, 0.02) + rng.normal(0, 0.004, buildings)
    return KnownMap(
        p_N=p_N,
        destroyed_N=rng.random(buildings) < share,
        true_p_N=np.full(buildings, share),
        stated=certain,
    )


def bound(known: KnownMap, checks: int) -> float:
    """Least width of a design-unbiased total over that of a simple random sample."""
    variance_N = known.true_p_N * (1 - known.true_p_N)
    sd_N = np.sqrt(variance_N) + 1e-9
    inclusion_N = np.minimum(checks * sd_N / sd_N.sum(), 1.0)
    while abs(inclusion_N.sum() - checks) > 1e-6:
        open_N = inclusion_N < 1
        left = checks - (~open_N).sum()
        inclusion_N[open_N] = np.minimum(left * sd_N[open_N] / sd_N[open_N].sum(), 1.0)
    share, size = known.true_p_N.mean(), len(sd_N)
    simple = size**2 * share * (1 - share) / checks * (size - checks) / (size - 1)
    return float(np.sqrt((variance_N * (1 / inclusion_N - 1)).sum() / simple))


def campaigns(known: KnownMap, *, checks: int, number: int) -> dict[str, Any]:
    """Coverage and mean width of `number` campaigns, each with a seed of its own."""
    p_N, destroyed_N = known.p_N, known.destroyed_N
    nowhere_N = np.zeros(len(p_N), np.int64)
    strata = strata_of(p_N, nowhere_N, checks, known.levels)
    stratum_N = stratum_numbers(strata, p_N, nowhere_N)
    true = int(destroyed_N.sum())
    rows = []
    for seed in range(number):
        chosen = draw(strata, stratum_N, seed)
        answer_N = np.full(len(p_N), UNKNOWN)
        answer_N[chosen] = np.where(destroyed_N[chosen], DESTROYED, INTACT)
        answer_N[chosen[~destroyed_N[chosen]][::3]] = DAMAGED
        checked = CheckedMap(
            p_N=p_N,
            p_damaged_N=p_N,
            stratum_N=stratum_N,
            strata=len(strata),
            district_N=nowhere_N,
            districts=1,
            declared_N=p_N > 0.5,
            answer_N=answer_N,
        )
        told = Estimate.of(count_draws(checked, seed, DRAWS).total_UC()[:, DESTROYED])
        plain = survey_total(p_N, stratum_N, answer_N != UNKNOWN, answer_N == DESTROYED)
        assert plain is not None
        rows.append((told, plain, _simple(destroyed_N, checks, seed)))
    return {
        "buildings": len(p_N),
        "destroyed": true,
        "checks": checks,
        "campaigns": number,
        "bound": round(bound(known, checks), 3),
        **_figures(true, [r[0] for r in rows], [r[2] for r in rows]),
        "design_based": _figures(true, [r[1] for r in rows], [r[2] for r in rows]),
        "simple_random": _figures(true, [r[2] for r in rows], [r[2] for r in rows]),
    }


def town_campaigns(*, differ: bool, by_district: bool, number: int) -> dict[str, Any]:
    """Coverage in ten districts of a new town per campaign, 100 checks in all.

    Args:
        differ: shares of districts are drawn from 0.5 to 90 %, around 20 %; else all are 20 %.
    """
    held, total = [], []
    for seed in range(number):
        rng = np.random.default_rng(seed)
        district_N = rng.integers(0, 10, 5000)
        share_R = np.clip(rng.beta(1, 4, 10), 0.005, 0.9) if differ else np.full(10, 0.2)
        known = synthetic(5000, share_R[district_N], seed + 1)
        domain_N = district_N if by_district else np.zeros(5000, np.int64)
        strata = strata_of(known.p_N, domain_N, 100)
        stratum_N = stratum_numbers(strata, known.p_N, domain_N)
        chosen = draw(strata, stratum_N, seed)
        answer_N = np.full(5000, UNKNOWN)
        answer_N[chosen] = np.where(known.destroyed_N[chosen], DESTROYED, INTACT)
        checked = CheckedMap(
            p_N=known.p_N,
            p_damaged_N=known.p_N,
            stratum_N=stratum_N,
            strata=len(strata),
            district_N=district_N,
            districts=10,
            declared_N=known.p_N > 0.5,
            answer_N=answer_N,
        )
        drawn = count_draws(checked, seed, DRAWS)
        for r, true in enumerate(np.bincount(district_N, known.destroyed_N)):
            told = Estimate.of(drawn.count_UR2C[:, r, :, DESTROYED].sum(axis=1))
            held.append(told.low <= true <= told.high)
        whole = Estimate.of(drawn.total_UC()[:, DESTROYED])
        total.append(whole.low <= known.destroyed_N.sum() <= whole.high)
    return {
        "districts_differ": differ,
        "by_district": by_district,
        "campaigns": number,
        "coverage_of_districts": round(float(np.mean(held)), 4),
        "coverage_of_total": round(float(np.mean(total)), 4),
    }


def _simple(destroyed_N: NDArray[np.bool_], checks: int, seed: int) -> Estimate:
    """The interval of a simple random sample."""
    rng = np.random.default_rng(seed)
    found = int(destroyed_N[rng.permutation(len(destroyed_N))[:checks]].sum())
    share_U = rng.beta(found + 0.5, checks - found + 0.5, DRAWS)
    return Estimate.of(found + rng.binomial(len(destroyed_N) - checks, share_U))


def _figures(true: int, told: list[Any], simple: list[Estimate]) -> dict[str, float]:
    width = float(np.mean([one.high - one.low for one in told]))
    beside = float(np.mean([one.high - one.low for one in simple]))
    return {
        "coverage": round(float(np.mean([one.low <= true <= one.high for one in told])), 4),
        "mean": round(float(np.mean([one.value for one in told])), 1),
        "mean_width": round(width, 1),
        "width_over_simple": round(width / beside, 3),
    }


def _mapped(folder: Path) -> KnownMap:
    """The judged buildings of Kahramanmaraş."""
    source = data_dir() / "kahramanmaras-2023-main"
    done = quakestream(
        "map", str(write_run(source, folder, DEFAULT)), "--out", str(folder / "km"), "--quiet"
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    truth = source / "labels" / "EMSR648_AOI04_GRA_MONIT01_builtUpP_r1_v1.json"
    return _judged(folder / "km", truth)


def _demo(folder: Path) -> KnownMap:
    done = quakestream("demo", "--out", str(folder / "demo"), "--json")
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    truth = next((folder / "demo").rglob("truth.parquet"))
    return _judged(next((folder / "demo").rglob("run.json")).parent, truth)


def _judged(out: Path, truth: Path) -> KnownMap:
    store = open_store(str(out))
    run = current_run(store)
    rows, classes = current_buildings(store, run), scale_of(run)
    p_N = rows[f"p_{classes[-1].label}"].to_numpy(np.float64, na_value=np.nan)
    found = match(read_truth(TruthRequest(uri=str(truth)), classes), rows, 5.0).rows["severe"]
    judged_N = found.isin([0, 1]).to_numpy() & np.isfinite(p_N)
    p_N, destroyed_N = p_N[judged_N], (found == 1).to_numpy()[judged_N]
    stated = bool(rows["share"].notna().any()) if "share" in rows else False
    return KnownMap(
        p_N=p_N, destroyed_N=destroyed_N, true_p_N=_by_truth(p_N, destroyed_N), stated=stated
    )


def _by_truth(p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The curve of the score that the truth of all buildings gives."""
    nowhere_N = np.zeros(len(p_N), np.int64)
    curve = fit_curve(logit(p_N), nowhere_N, nowhere_N, destroyed_N, (1, 1), draws=DRAWS)
    return curve.p_UN(logit(p_N), nowhere_N, nowhere_N).mean(axis=0)


def _resampled(known: KnownMap, buildings: int, seed: int = 0) -> KnownMap:
    """Buildings drawn again and again, with scores that differ a little."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(known.p_N), buildings)
    logit_N = np.log(known.p_N[rows] / (1 - known.p_N[rows])) + rng.normal(0, 0.1, buildings)
    return KnownMap(
        p_N=1 / (1 + np.exp(-logit_N)),
        destroyed_N=known.destroyed_N[rows],
        true_p_N=known.true_p_N[rows],
        stated=known.stated,
    )


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    number = 40 if quick else 1000
    maps: dict[str, tuple[KnownMap, int]] = {}
    for share in (0.02, 0.1, 0.3, 0.6):
        maps[f"synthetic, {share:.0%} destroyed"] = (synthetic(5000, share, seed=1), 100)
    maps["synthetic, 2% destroyed, stated at 2%"] = (synthetic(5000, 0.02, 1, stated_at=0.02), 100)
    maps["synthetic, 10% destroyed, 15% of them not seen"] = (
        synthetic(5000, 0.1, seed=2, unseen=0.15),
        100,
    )
    maps["knows nothing, 10% destroyed"] = (uninformed(5000, 0.1, seed=4), 100)
    maps["knows nothing, 30% destroyed"] = (uninformed(5000, 0.3, seed=4), 100)
    maps["certain and wrong, 30% destroyed"] = (uninformed(5000, 0.3, seed=5, certain=True), 100)
    turned = synthetic(5000, 0.3, seed=7)
    maps["order reversed, 30% destroyed"] = (replace(turned, p_N=1 - turned.p_N), 100)
    with tempfile.TemporaryDirectory(prefix="quakestream-checks-") as name:
        real = _mapped(Path(name))
        maps["Kahramanmaraş, judged by EMS"] = (real, 30)
        maps["Kahramanmaraş, resampled to 2,000"] = (_resampled(real, 2000), 100)
        maps["demo"] = (_demo(Path(name)), 100)
    rows = [
        {"map": title, **campaigns(known, checks=checks, number=number)}
        for title, (known, checks) in maps.items()
    ]
    return {"campaigns": number, "level": LEVEL, "draws": DRAWS}, {
        "rows": rows,
        "districts": districts(50 if quick else 200),
    }


def districts(number: int) -> list[dict[str, Any]]:
    """Towns whose districts differ or do not, sampled by district or not."""
    return [
        town_campaigns(differ=differ, by_district=by_district, number=number)
        for differ in (True, False)
        for by_district in (True, False)
    ]


if __name__ == "__main__":
    main("spot_checks", run)
