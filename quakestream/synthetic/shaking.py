"""Shaking, soil, and the fragility function that decides which buildings collapse.

A model with shaking and soil as inputs can learn the function:

    logit P(destroyed) = -1.3 + 1.6 (MMI - 8.2) - 1.3 ln(VS30 / 340) + 0.9 v

MMI is the intensity at the building, with soil amplification. VS30 is in m/s. v is the
vulnerability of the building, standard normal and in no input. The soil term stands for effects
that intensity does not contain (long shaking, settlement). The numbers are chosen, not fitted.

The same shaking damages buildings that stand. Their severity is 0.6 times a Beta variable with
mean 0.08 + 0.75 P(destroyed). It is visible from above as litter along the walls (plaster and
tiles), which tells heavy from slight damage nearly always to who knows what to look for. Shaking
and soil tell them apart, too, and small networks learn that sooner.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.synthetic.settings import stream
from quakestream.synthetic.world import SyntheticWorld

F64 = NDArray[np.float64]

INTERCEPT, PER_MMI, PER_LN_VS30, PER_VULNERABILITY = -1.3, 1.6, -1.3, 0.9
MMI_REFERENCE, VS30_REFERENCE_M_S = 8.2, 340.0
DAMAGE_BASE, DAMAGE_PER_P, DAMAGE_CONCENTRATION = 0.08, 0.75, 4.1
DESTROYED_FROM, HEAVY_FROM = 0.6, 0.2
GRADES = ("slight", "heavy", "destroyed")
"""Grades, mildest first: severity below 0.2, below 0.6, and above."""
MEASURES = ("PGA", "PGV", "MMI", "PSA03", "PSA10", "PSA30", "SVEL")
UNITS = {
    "PGA": "%g",
    "PGV": "cm/s",
    "MMI": "intensity",
    "PSA03": "%g",
    "PSA10": "%g",
    "PSA30": "%g",
    "SVEL": "m/s",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shaking:
    """Shaking and soil as smooth fields over the plane of the world."""

    magnitude: float
    depth_km: float
    epicentre_m: tuple[float, float]
    """World metres east and north."""
    fault_azimuth_rad: float
    pgv_rock_cm_s: float
    """PGV on rock (760 m/s) at the centre of the world."""
    soil_waves_J4: F64
    """Plane waves of ln VS30: east and north wave number (1/m), phase, amplitude."""
    path_waves_J4: F64
    """Plane waves of ln PGV, for directivity and basins, which attenuation lacks."""

    @classmethod
    def of(cls, seed: int, world: SyntheticWorld) -> "Shaking":
        rng = stream(seed, "shaking")
        azimuth, bearing = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        away_m = rng.uniform(4500.0, 6500.0)
        return cls(
            magnitude=round(float(rng.uniform(7.0, 7.6)), 1),
            depth_km=round(float(rng.uniform(8.0, 16.0)), 1),
            epicentre_m=(away_m * float(np.cos(bearing)), away_m * float(np.sin(bearing))),
            fault_azimuth_rad=azimuth,
            pgv_rock_cm_s=float(rng.uniform(26.0, 33.0)),
            soil_waves_J4=_waves(rng, deviation=0.36, shortest_m=700.0, longest_m=1600.0),
            path_waves_J4=_waves(rng, deviation=0.24, shortest_m=900.0, longest_m=2000.0),
        )

    def vs30_m_s(self, points_N2: F64) -> F64:
        ln_vs30 = np.log(VS30_REFERENCE_M_S) + _sum(self.soil_waves_J4, points_N2)
        return np.asarray(np.clip(np.exp(ln_vs30), 160.0, 760.0))

    def measures(self, points_N2: F64) -> dict[str, F64]:
        """All ShakeMap measures at world positions, in the units of `UNITS`."""
        vs30 = self.vs30_m_s(points_N2)
        soil = np.log(760.0 / vs30)
        path = np.exp(_sum(self.path_waves_J4, points_N2)) * self._attenuation(points_N2)
        pgv_rock = self.pgv_rock_cm_s * path
        pgv = pgv_rock * np.exp(0.6 * soil)
        pga = 0.85 * pgv_rock * np.exp(0.3 * soil)
        psa10 = 1.15 * pgv_rock * np.exp(0.7 * soil)
        return {
            "PGA": pga,
            "PGV": pgv,
            # Worden et al. 2012, doi 10.1785/0120110156, the branch of strong shaking.
            "MMI": np.clip(2.89 + 3.16 * np.log10(pgv), 1.0, 10.0),
            "PSA03": 2.1 * pga,
            "PSA10": psa10,
            "PSA30": 0.28 * psa10 * np.exp(0.1 * soil),
            "SVEL": vs30,
        }

    def _attenuation(self, points_N2: F64) -> F64:
        """Ground motion relative to the centre of the world, by distance to the fault."""
        normal = np.array([-np.sin(self.fault_azimuth_rad), np.cos(self.fault_azimuth_rad)])
        distance_km = np.abs((points_N2 - np.array(self.epicentre_m)) @ normal) / 1000.0
        centre_km = abs(float(np.array(self.epicentre_m) @ normal)) / 1000.0
        return np.asarray(((centre_km + 9.0) / (distance_km + 9.0)) ** 1.15)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildingDamage:
    """Damage of each building, shape (N,)."""

    destroyed: NDArray[np.bool_]
    severity: F64
    """0 (intact) to 1 (flattened); above 0.6 for destroyed buildings."""
    p_destroyed: F64
    vulnerability: F64
    mmi: F64
    vs30_m_s: F64

    @property
    def grade(self) -> NDArray[np.object_]:
        """One of `GRADES` per building."""
        place = np.searchsorted((HEAVY_FROM, DESTROYED_FROM), self.severity, side="right")
        return np.array(GRADES, object)[place]

    @classmethod
    def random(
        cls, seed: int, shaking: Shaking, centres_N2: F64, expected: float | None = None
    ) -> "BuildingDamage":
        """Damage by the shaking; with `expected`, odds are scaled to that share of destroyed."""
        rng = stream(seed, "damage")
        count = len(centres_N2)
        vulnerability = rng.standard_normal(count)
        mmi = shaking.measures(centres_N2)["MMI"]
        vs30 = shaking.vs30_m_s(centres_N2)
        p = fragility(mmi, vs30, vulnerability)
        if expected is not None:
            p = with_mean(p, expected)
        destroyed = rng.random(count) < p
        mean = DAMAGE_BASE + DAMAGE_PER_P * p
        spread = DAMAGE_CONCENTRATION * np.stack([mean, 1 - mean])
        standing = DESTROYED_FROM * rng.beta(*spread)
        fallen = rng.uniform(0.62, 1.0, count)
        return cls(
            destroyed=destroyed,
            severity=np.where(destroyed, fallen, standing),
            p_destroyed=p,
            vulnerability=vulnerability,
            mmi=mmi,
            vs30_m_s=vs30,
        )


def fragility(mmi: F64, vs30_m_s: F64, vulnerability: F64) -> F64:
    """Probability of destruction by the function at the head of this module."""
    logit = (
        INTERCEPT
        + PER_MMI * (mmi - MMI_REFERENCE)
        + PER_LN_VS30 * np.log(vs30_m_s / VS30_REFERENCE_M_S)
        + PER_VULNERABILITY * vulnerability
    )
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def with_mean(p_N: F64, mean: float) -> F64:
    """Probabilities with all odds scaled by one factor, so that their mean is the given one."""
    if mean <= 0 or mean >= 1 or not len(p_N):
        return np.full_like(p_N, min(max(mean, 0.0), 1.0))
    logit_N = np.log(p_N) - np.log1p(-p_N)
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        above = float((1.0 / (1.0 + np.exp(-logit_N - middle))).mean()) > mean
        low, high = (low, middle) if above else (middle, high)
    return np.asarray(1.0 / (1.0 + np.exp(-logit_N - low)))


def _waves(
    rng: np.random.Generator, *, deviation: float, shortest_m: float, longest_m: float
) -> F64:
    """Six plane waves whose sum has mean 0 and the given deviation."""
    count = 6
    bearing = rng.uniform(0, 2 * np.pi, count)
    number = 2 * np.pi / rng.uniform(shortest_m, longest_m, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    amplitude = np.full(count, deviation * np.sqrt(2.0 / count))
    return np.column_stack([number * np.cos(bearing), number * np.sin(bearing), phase, amplitude])


def _sum(waves_J4: F64, points_N2: F64) -> F64:
    phase_NJ = points_N2 @ waves_J4[:, :2].T + waves_J4[:, 2]
    total: F64 = np.sin(phase_NJ) @ waves_J4[:, 3]
    return total
