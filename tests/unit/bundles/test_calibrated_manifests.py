"""Manifests with a calibration: written, read back, refused where they contradict themselves."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quakestream.bundles import load_bundle
from quakestream.cli.bundle import bundle_app
from quakestream.errors import BundleError
from quakestream.testing import write_bundle, write_hazard_bundle
from tests.helpers.calibrating import PLAIN, calibrate_bundle, edit_manifest
from training.cards import building_probability

TWO = replace(
    PLAIN,
    features=("score_logit", "log_area_m2"),
    weights=(2.0, -0.1),
    covariance=((0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1)),
    centres=(0.0, 5.0),
)


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(bundle_app, ["show", *arguments])
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("calibration", [PLAIN, TWO])
def test_what_is_written_is_read(tmp_path: Path, calibration: Any) -> None:
    folder = calibrate_bundle(write_bundle(tmp_path / "b"), calibration)
    assert load_bundle(str(folder)).spec.calibration == calibration
    assert json.loads((folder / "bundle.json").read_text())["format"] == 2


def test_a_manifest_from_before_the_format_was_stated_is_read(tmp_path: Path) -> None:
    folder = edit_manifest(write_bundle(tmp_path / "b"), format=None)
    assert load_bundle(str(folder)).spec.calibration is None


def test_bundle_show_says_whether_buildings_are_calibrated(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    assert "no calibration of buildings" in shown(str(folder))
    calibrate_bundle(folder, TWO)
    assert f"calibrated for buildings on {PLAIN.fitted_on}" in shown(str(folder))
    assert "by score_logit, log_area_m2" in shown(str(folder))
    assert json.loads(shown(str(folder), "--json"))["calibration"]["weights"] == [2.0, -0.1]
    assert "calibrat" not in shown(str(write_hazard_bundle(tmp_path / "h")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"share": 0.0}, "share is 0.0, expected above 0 and below 1"),
        ({"share": 1.0}, "share is 1.0"),
        ({"features": ["log_area_m2"]}, "score_logit first"),
        ({"features": ["score_logit", "rainfall"]}, "unknown features rainfall"),
        ({"weights": [-1.0]}, "weight of the score is -1.0, expected above 0"),
        ({"weights": [1.0, 2.0]}, "weights and centres do not match"),
        ({"covariance": [[1.0]]}, "covariance is not 2 × 2"),
        ({"region_sd": -0.1}, "region_sd is -0.1"),
        ({"intercept": float("nan")}, "finite numbers"),
        ({"weights": None}, "not a bundle manifest"),
        ({"weights": ["much"]}, "not a bundle manifest"),
    ],
)
def test_a_contradiction_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = calibrate_bundle(write_bundle(tmp_path / "b"))
    edit_manifest(folder, calibration=asdict(PLAIN) | changes)
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("version", "words"),
    [(3, "install a newer quakestream"), (0, "1 to 2"), ("2", "1 to 2"), (None, "format 1")],
)
def test_a_format_that_is_not_known_is_refused(tmp_path: Path, version: Any, words: str) -> None:
    folder = edit_manifest(calibrate_bundle(write_bundle(tmp_path / "b")), format=version)
    with pytest.raises(BundleError, match=words):
        load_bundle(str(folder))


def test_models_without_buildings_take_no_calibration(tmp_path: Path) -> None:
    folder = calibrate_bundle(write_hazard_bundle(tmp_path / "h"))
    with pytest.raises(BundleError, match="calibration is for models of buildings"):
        load_bundle(str(folder))


def test_the_card_says_how_a_building_got_its_probability(tmp_path: Path) -> None:
    spec = load_bundle(str(write_bundle(tmp_path / "b"))).spec
    assert "not calibrated as a building's probability" in building_probability(spec)
    text = building_probability(replace(spec, calibration=TWO))
    assert "a logistic curve of the score and the area of the footprint" in text.lower()
    assert f"fitted on {TWO.fitted_on}" in text
    assert "0.30 in log-odds" in text
