"""From scores to probabilities: the share of destroyed buildings around each building.

A calibrated bundle says how many times likelier a score is of a destroyed building than of one that
stands. Together with the share of destroyed buildings in an area that gives a probability. Shares
are estimated in the units of summary.csv, or stated (`models.share`). All of this happens after
the commits, so that another share scores no pixel again (law 4).
"""

from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.config.shares import AUTO, ShareLayer
from quakestream.errors import ConfigError
from quakestream.fusion import HAZARD_FLOOR, prior_of
from quakestream.fusion.calibration import log_ratio, score_logit
from quakestream.fusion.shares import AreaShares, at_share
from quakestream.fusion.stated import (
    ScoredBuildings,
    share_by_scores,
    share_prior,
    shares_as_stated,
    shares_from_scores,
)
from quakestream.hazard import HazardTable
from quakestream.outputs.buildings import SCORE, SHARE_AREA, SHARE_COLUMNS
from quakestream.outputs.units import named_id, named_units, neighbours, unit_ids, unit_names
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.result.context import FootprintHazard
from quakestream.pipeline.result.evidence import HazardEvidence
from quakestream.pipeline.result.reduce import Reduced
from quakestream.reduce import Verdicts, image_probabilities

F64 = NDArray[np.float64]

THRESHOLD = 0.5
"""Probability from which a building is declared, once it is stated at the share of its area."""
NOTHING_KNOWN = "no knowledge of the event"
SHARE_KEYS = ("share", "low", "high")
"""Keys of run.json, in the order of `SHARE_COLUMNS`."""
LEAST_SHARE = 1e-3
"""Shares of a layer nearer to 0 or 1 count as this near."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunShares:
    """Shares and probabilities of the buildings of a run that were assessed, n of N."""

    place_n: NDArray[np.int64]
    """Their places among all footprints."""
    p_nC: F64
    """Class probabilities at the share around each."""
    score_n: F64
    area_n: NDArray[np.int64]
    """Place in `areas`."""
    areas: NDArray[np.object_]
    """Units of summary.csv that hold one of them."""
    names: dict[str, str]
    """Names of administrative units by unit; none for squares."""
    found: AreaShares
    prior: dict[str, Any]
    """What was assumed of shares, and `mode`."""

    def columns(self, footprints: int) -> dict[str, Any]:
        """Columns of buildings.parquet for all footprints, empty where one was not assessed."""
        share_3n = self.found.expected_share_G3[self.area_n].T
        values = {SCORE: self.score_n, **dict(zip(SHARE_COLUMNS, share_3n, strict=True))}
        out: dict[str, Any] = {}
        for name, value_n in values.items():
            out[name] = np.full(footprints, np.nan, np.float32)
            out[name][self.place_n] = value_n
        out[SHARE_AREA] = np.full(footprints, None, object)
        out[SHARE_AREA][self.place_n] = self.areas[self.area_n]
        return out

    def all_probabilities(self, image_NC: F64) -> F64:
        """Probabilities of all footprints; those that were not assessed keep the image's."""
        p_NC = image_NC.copy()
        p_NC[self.place_n] = self.p_nC
        return p_NC

    def record(self, declared_N: NDArray[np.bool_], label: str) -> dict[str, Any]:
        """`shares` of run.json.

        `share` is the expected number as a share of the buildings. The share that probabilities
        assume is `assumed` where it was estimated, and `stated` where the run was told.

        Args:
            declared_N: True where the most severe class was declared, of all footprints.
            label: that class.
        """
        declared_n, found = declared_N[self.place_n], self.found
        declared_G = np.bincount(self.area_n[declared_n], minlength=len(self.areas))
        numbers = ("buildings", "expected", "expected_low", "expected_high")
        columns = {
            **{name: getattr(found, f"{name}_G").tolist() for name in numbers},
            **dict(zip(SHARE_KEYS, found.expected_share_G3.T.tolist(), strict=True)),
            "assumed" if self.prior["mode"] == AUTO else "stated": found.share_G.tolist(),
            "declared": declared_G.tolist(),
        }
        return {
            **self.prior,
            "label": label,
            "threshold": THRESHOLD,
            "run": _rounded({**self._whole(), "declared": int(declared_n.sum())}),
            "areas": [
                _rounded(
                    named_id(area, self.names) | {name: one[n] for name, one in columns.items()}
                )
                for n, area in enumerate(self.areas.tolist())
            ],
        }

    def _whole(self) -> dict[str, Any]:
        """Figures of all assessed buildings together, as of an area."""
        found = self.found
        if not found.run.buildings:
            return {"buildings": 0}
        shares = dict(zip(SHARE_KEYS, found.run.share_3, strict=True))
        if self.prior["mode"] != AUTO:
            shares["stated"] = float(np.average(found.share_G, weights=found.buildings_G))
        return {**asdict(found.run), **shares}


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}


def run_shares(
    plan: Plan,
    reduced: Reduced,
    hazard: FootprintHazard,
    image: Verdicts,
    assessed_N: NDArray[np.bool_],
) -> RunShares | None:
    """Shares and probabilities by a calibrated bundle; None where it has no calibration.

    Args:
        image: verdicts from the image alone, for what a calibration takes besides the score.
        assessed_N: buildings with a verdict. The others tell nothing about a share.
    """
    calibration = plan.bundle.spec.calibration
    if calibration is None:
        return None
    place_n = np.flatnonzero(assessed_N)
    image_NC = image_probabilities(reduced.tally)
    unit_n, named = _units(plan, place_n)
    areas, area_n = np.unique(unit_n.astype(str), return_inverse=True)
    areas = areas.astype(object)
    buildings = ScoredBuildings(
        log_ratio_N=log_ratio(
            calibration, _features(plan, reduced, image, place_n, image_NC[place_n, -1])
        ),
        hazard_N=_hazard_ratio(hazard.evidence, place_n),
        area_N=area_n.reshape(-1).astype(np.int64),
        areas=len(areas),
        neighbour_A2=neighbours(areas, named),
        calibration=calibration,
        of_event=plan.bundle.spec.adapted_to == plan.run.event.id,
    )
    found, share_n, prior = _shares(plan, hazard.table, buildings, place_n)
    fused_NC = image_NC
    if hazard.evidence is not None:
        fused_NC = hazard.evidence.revised(image_NC, prior_of(plan.bundle.spec))
    return RunShares(
        place_n=place_n,
        p_nC=with_worst(fused_NC[place_n], at_share(found.log_ratio_N, share_n)),
        score_n=image_NC[place_n, -1],
        area_n=buildings.area_N,
        areas=areas,
        names=unit_names(named),
        found=found,
        prior=prior,
    )


def _shares(
    plan: Plan, table: HazardTable, buildings: ScoredBuildings, place_n: NDArray[np.int64]
) -> tuple[AreaShares, F64, dict[str, Any]]:
    """Shares of areas, the share around each building, and what was assumed."""
    stated = plan.run.models.share
    if isinstance(stated, ShareLayer):
        share_n = layer_shares(table, stated.layer)[place_n]
        found = shares_as_stated(buildings, share_n, everywhere=False)
        told = {"mode": "layer", "prior": {"layer": stated.layer}}
        return found, share_n, told | _by_scores(buildings, found)
    if stated != AUTO:
        share_n = np.full(len(place_n), float(stated))
        found = shares_as_stated(buildings, share_n, everywhere=True)
        told = {"mode": "number", "prior": {"share": float(stated)}}
        return found, share_n, told | _by_scores(buildings, found)
    prior = share_prior(buildings)
    if not len(place_n):  # no share can be estimated, and none is needed
        found = shares_as_stated(buildings, np.empty(0), everywhere=True)
        return found, np.empty(0), {"mode": AUTO, "prior": {}}
    found = shares_from_scores(buildings)
    source = "hazard values" if np.isfinite(buildings.hazard_N).any() else NOTHING_KNOWN
    assumed = {
        "from": "labels of this event" if buildings.of_event else source,
        "share": round(float(prior.share_G[buildings.area_N].mean()), 5),
        "buildings": prior.strength,
    }
    return found, found.share_G[buildings.area_N], {"mode": AUTO, "prior": assumed}


def _by_scores(buildings: ScoredBuildings, found: AreaShares) -> dict[str, Any]:
    """`by_scores` of run.json: the share that `auto` would find by the scores alone, and whether
    the stated one lies outside of its interval."""
    if not found.run.buildings:
        return {}
    figures = dict(zip(SHARE_KEYS, share_by_scores(buildings).share_3, strict=True))
    stated = float(np.average(found.share_G, weights=found.buildings_G))
    contradict = not figures["low"] <= stated <= figures["high"]
    return {"by_scores": _rounded(figures) | {"contradict": contradict}}


def layer_shares(table: HazardTable, layer: str) -> F64:
    """Shares of a layer at all footprints, away from 0 and 1; its mean where it has no value."""
    value_N = table.values[layer].to_numpy(np.float64)
    known_N = np.isfinite(value_N)
    mean = float(value_N[known_N].mean()) if known_N.any() else np.nan
    return np.clip(np.where(known_N, value_N, mean), LEAST_SHARE, 1 - LEAST_SHARE)


def check_share_layer(plan: Plan, table: HazardTable) -> None:
    """Does nothing if the layer of `models.share` holds shares at some footprint, or none is named.

    Raises:
        ConfigError: if it has no value there, or values that are no shares.
    """
    stated = plan.run.models.share
    if not isinstance(stated, ShareLayer):
        return
    value_N = table.values[stated.layer].to_numpy(np.float64)
    value_N = value_N[np.isfinite(value_N)]
    where = f"models.share.layer {stated.layer}: {plan.run.hazard.layers[stated.layer]}"
    if not len(value_N):
        raise ConfigError(
            "no value at any footprint",
            where,
            expected="shares of destroyed buildings, 0 to 1",
            remedy="name a raster that covers the buildings, or leave models.share out",
        )
    low, high = float(value_N.min()), float(value_N.max())
    if low < 0 or high > 1:
        per_cent = "; per cent are divided by 100" if low >= 0 and high <= 100 else ""
        raise ConfigError(
            "values that are no shares",
            where,
            expected="0 to 1",
            got=f"{low:g} to {high:g} at the footprints",
            remedy=f"give shares of destroyed buildings{per_cent}",
        )


def _features(
    plan: Plan,
    reduced: Reduced,
    image: Verdicts,
    place_n: NDArray[np.int64],
    score_n: F64,
) -> dict[str, F64]:
    """What a calibration may take of each building, by `domain.calibration.FEATURES`."""
    area_n = shapely.area(plan.polygon_N[place_n])
    return {
        "score_logit": score_logit(score_n),
        "log_area_m2": np.log(np.where(area_n > 0, area_n, np.nan)),
        "shift_quality": reduced.shift_quality_N[place_n].astype(np.float64),
        "shift_m": reduced.shift_m_N[place_n].astype(np.float64),
        "log_difference": np.log1p(image.difference_N[place_n].astype(np.float64)),
        "valid_fraction": image.valid_fraction_N[place_n].astype(np.float64),
    }


def _hazard_ratio(evidence: HazardEvidence | None, place_n: NDArray[np.int64]) -> F64:
    """Log-odds of the most severe class over those of the hazard bundle's own shares."""
    if evidence is None or not evidence.fuses:
        return np.full(len(place_n), np.nan)
    p_n = evidence.p_NC[place_n, -1].astype(np.float64)
    own = min(max(float(evidence.prior_C[-1]), HAZARD_FLOOR), 1 - HAZARD_FLOOR)
    bounded_n = np.clip(p_n, HAZARD_FLOOR, 1 - HAZARD_FLOOR)
    return np.asarray(np.log(bounded_n / (1 - bounded_n)) - np.log(own / (1 - own)))


def _units(
    plan: Plan, place_n: NDArray[np.int64]
) -> tuple[NDArray[np.object_], gpd.GeoDataFrame | None]:
    """Unit of summary.csv of some footprints, and the named units; None for squares."""
    admin = plan.admin
    named = None if admin is None else named_units(admin.table, admin.id_column, admin.code_column)
    return unit_ids(plan.footprints.table.iloc[place_n], named), named


def with_worst(p_nC: F64, worst_n: F64) -> F64:
    """Probabilities with another one of the last class; the others keep their proportions."""
    others_nC = p_nC[:, :-1].copy()
    total_n = others_nC.sum(axis=1)
    others_nC[total_n <= 0, -1] = 1.0  # a score of 1 says nothing of the others
    others_nC /= others_nC.sum(axis=1, keepdims=True)
    return np.concatenate([others_nC * (1 - worst_n)[:, None], worst_n[:, None]], axis=1)
