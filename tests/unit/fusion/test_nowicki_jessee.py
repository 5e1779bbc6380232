"""The landslide prior's formula, worked out by hand, and its laws."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakestream.fusion.nowicki_jessee import PriorTerms, SlideCoverage, slide_coverage


def terms(**changed: float) -> PriorTerms:
    given_terms = {
        "pgv_cm_s": 40.0,
        "slope_deg": 20.0,
        "lithology": -1.87,
        "landcover": 1.5,
        "cti": 5.0,
        "stddev": 0.04,
        "sigma_ln_pgv": 0.3,
    }
    return PriorTerms(**{k: np.array([v]) for k, v in (given_terms | changed).items()})


def one(**changed: float) -> tuple[float, float]:
    found = slide_coverage(terms(**changed))
    return float(found.coverage[0]), float(found.std[0])


def test_one_place_worked_out_by_hand() -> None:
    x = -6.30 + 1.65 * log(40) + 0.06 * 20 - 1.87 + 0.03 * 5 + 1.5 + 0.01 * log(40) * 20
    p = 1 / (1 + exp(-x))
    assert p == pytest.approx(0.8183, abs=1e-4)
    coverage, std = one()
    expected = exp(-7.592 + 5.237 * p - 3.042 * p**2 + 4.035 * p**3)
    assert coverage == pytest.approx(expected, rel=1e-12)
    assert coverage == pytest.approx(0.0436, abs=2e-4)
    variance = ((0.01 * 20 + 1.65) ** 2 * 0.3**2 + 0.04**2) * (exp(-x) / (1 + exp(-x)) ** 2) ** 2
    slope = expected * (5.237 - 2 * 3.042 * p + 3 * 4.035 * p**2)
    assert std == pytest.approx(slope * variance**0.5, rel=1e-12)


def test_the_published_range_is_that_of_the_polynomial() -> None:
    assert one(pgv_cm_s=211, slope_deg=60, lithology=0, landcover=3)[0] == pytest.approx(
        exp(-7.592 + 5.237 - 3.042 + 4.035), rel=1e-3
    )  # 0.256


def test_no_shaking_is_no_infinity() -> None:
    coverage, std = one(pgv_cm_s=0)
    assert coverage == pytest.approx(exp(-7.592), rel=1e-3)  # the least of the polynomial
    assert 0 <= std < 1e-8
    assert one(pgv_cm_s=211) == one(pgv_cm_s=400)


@pytest.mark.parametrize(("slope", "level"), [(0, True), (2, True), (2.01, False), (90.5, True)])
def test_level_ground_has_no_coverage_and_still_a_deviation(slope: float, level: bool) -> None:
    coverage, std = one(slope_deg=slope)
    assert (coverage == 0) == level
    assert std > 0


def test_unconsolidated_rock_counts_as_another_and_indices_are_clipped() -> None:
    assert one(lithology=-3.22) == one(lithology=-1.36)
    assert one(lithology=-3.2) != one(lithology=-1.36)
    assert one(cti=25) == one(cti=19)
    assert one(cti=-0.5) == one(cti=0)


@pytest.mark.parametrize("name", ["pgv_cm_s", "slope_deg", "lithology", "landcover", "cti"])
def test_a_missing_input_is_a_missing_coverage(name: str) -> None:
    assert np.isnan(one(**{name: float("nan")})).all()


def test_a_missing_deviation_leaves_the_coverage() -> None:
    coverage, std = one(stddev=float("nan"))
    assert coverage > 0
    assert np.isnan(std)


@given(
    pgv=st.floats(0.5, 200),
    slope=st.floats(2.5, 60),
    rock=st.floats(-3.2, 0),
    more=st.floats(1.001, 1.5),
)
def test_more_shaking_and_steeper_ground_never_slide_less(
    pgv: float, slope: float, rock: float, more: float
) -> None:
    base = one(pgv_cm_s=pgv, slope_deg=slope, lithology=rock)[0]
    assert one(pgv_cm_s=pgv * more, slope_deg=slope, lithology=rock)[0] >= base
    if log(pgv) > -6:
        assert one(pgv_cm_s=pgv, slope_deg=slope * more, lithology=rock)[0] >= base


@given(pgv=st.floats(1, 150), slope=st.floats(2.5, 60), rock=st.floats(-3, 0))
def test_the_deviation_is_the_formulas_own_derivative(
    pgv: float, slope: float, rock: float
) -> None:
    """For a small σ of ln(PGV) the deviation is σ times d coverage / d ln(PGV)."""
    here = terms(pgv_cm_s=pgv, slope_deg=slope, lithology=rock, sigma_ln_pgv=1.0, stddev=0.0)
    step = 1e-5

    def at(factor: float) -> SlideCoverage:
        return slide_coverage(replace(here, pgv_cm_s=here.pgv_cm_s * factor))

    numeric = (at(exp(step)).coverage - at(exp(-step)).coverage) / (2 * step)
    np.testing.assert_allclose(at(1.0).std, numeric, rtol=1e-5)
