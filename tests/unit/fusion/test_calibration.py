"""Calibration of a building's score."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from quakestream.domain.calibration import Calibration
from quakestream.errors import ShapeError
from quakestream.fusion.calibration import log_ratio, score_logit

PLAIN = Calibration(
    share=0.2,
    features=("score_logit", "log_area_m2"),
    weights=(2.0, -0.5),
    intercept=-1.0,
    covariance=((0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1)),
    region_sd=0.5,
    fitted_on="two towns",
    centres=(0.0, 5.0),
)


def test_the_ratio_is_the_logistic_model_less_the_log_odds_of_its_share() -> None:
    got_N = log_ratio(
        PLAIN, {"score_logit": np.array([0.0, 1.0]), "log_area_m2": np.array([5.0, 7.0])}
    )
    # -1 - ln(0.2 / 0.8) = 0.386294; then + 2·1 - 0.5·2.
    assert got_N.tolist() == pytest.approx([0.386294, 1.386294], abs=1e-6)


def test_a_missing_score_has_no_ratio_and_another_missing_value_counts_as_typical() -> None:
    got_N = log_ratio(
        PLAIN, {"score_logit": np.array([np.nan, 0.0]), "log_area_m2": np.array([5.0, np.nan])}
    )
    assert np.isnan(got_N[0])
    assert got_N[1] == pytest.approx(0.386294, abs=1e-6)


def test_the_logit_of_a_score_is_bounded() -> None:
    got_N = score_logit(np.array([0.0, 0.5, 0.8, 1.0, np.nan], np.float32))
    assert got_N[:4].tolist() == pytest.approx([-6.906755, 0.0, 1.386294, 6.906755], abs=1e-5)
    assert np.isnan(got_N[4])


def test_a_calibration_survives_json() -> None:
    assert Calibration.from_json(json.loads(json.dumps(asdict(PLAIN)))) == PLAIN


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 1.0},
        {"features": ("log_area_m2", "score_logit")},
        {"features": ("score_logit", "colour")},
        {"weights": (0.0, 1.0)},
        {"weights": (1.0,)},
        {"covariance": ((1.0,),)},
        {"region_sd": -1.0},
        {"centres": (1.0,)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_calibration_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match="calibration"):
        replace(PLAIN, **wrong)  # type: ignore[arg-type]


def test_a_feature_that_is_not_given_is_named() -> None:
    with pytest.raises(ShapeError, match="log_area_m2"):
        log_ratio(PLAIN, {"score_logit": np.zeros(2)})
