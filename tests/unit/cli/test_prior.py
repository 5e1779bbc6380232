"""`quakestream prior`, as a person calls it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import typer
from typer.testing import CliRunner

from quakestream.cli.prior import prior
from quakestream.errors import RequestError
from quakestream.hazard.landslide_prior import PriorInputs
from tests.helpers.prior_case import ROCK, PriorWorld, make_prior_world

APP = typer.Typer()
APP.command()(prior)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PriorWorld:
    return make_prior_world(tmp_path_factory.mktemp("prior"))


def call(inputs: PriorInputs, out: Path, *more: str) -> Any:
    arguments = ["-o", str(out), *more]
    for shakemap in inputs.shakemaps:
        arguments += ["--shakemap", shakemap]
    for name in ("gradient", "lithology", "cti", "landcover"):
        arguments += [f"--{name}", str(getattr(inputs, name))]
    return CliRunner().invoke(APP, arguments)


def test_one_line_says_how_much_may_slide(made: PriorWorld, tmp_path: Path) -> None:
    result = call(made.inputs, tmp_path / "prior.tif")
    assert result.exit_code == 0
    line = result.stdout.strip()
    assert "\n" not in line
    assert line.startswith(f"{tmp_path / 'prior.tif'}: coverage up to 0.0")
    assert "km² above 1%" in line
    assert "km² expected to slide" in line
    with rasterio.open(tmp_path / "prior.tif") as raster:
        assert raster.descriptions == ("coverage", "std")
        assert raster.crs.to_epsg() == 4326


def test_a_folder_that_was_missing_is_named(made: PriorWorld, tmp_path: Path) -> None:
    note = f"note: the folder {tmp_path / 'new' / 'one'} was missing, and was made\n"
    first = call(made.inputs, tmp_path / "new" / "one" / "prior.tif")
    assert first.exit_code == 0
    assert " ".join(first.stderr.split()) + "\n" == note
    assert call(made.inputs, tmp_path / "new" / "one" / "prior.tif").stderr == ""
    assert call(made.inputs, tmp_path / "two" / "prior.tif", "--quiet").stderr == ""


def test_json_for_machines(made: PriorWorld, tmp_path: Path) -> None:
    result = call(made.inputs, tmp_path / "prior.tif", "--json", "--quiet")
    found = json.loads(result.stdout)
    assert set(found["above_km2"]) == {"0.01", "0.05", "0.1"}
    assert found["bounds"] == pytest.approx([36.0, 37.0, 36.2, 37.1], abs=0.01)
    assert found["assessed_km2"] == pytest.approx(found["above_km2"]["0.01"])
    assert found["issues"] == []


def test_unknown_classes_are_exit_code_1_with_the_map_made(
    made: PriorWorld, tmp_path: Path
) -> None:
    values = np.full((96, 144), ROCK, np.float32)
    values[40:50, 60:70] = 99
    inputs = replace(made, folder=tmp_path).with_layer("lithology", values)
    result = call(inputs, tmp_path / "prior.tif")
    assert result.exit_code == 1
    assert "unknown lithology in 100 shaken pixels" in result.stderr
    assert (tmp_path / "prior.tif").exists()


def test_a_file_that_cannot_be_used_is_a_wrong_request(made: PriorWorld, tmp_path: Path) -> None:
    for inputs in (
        replace(made.inputs, cti=str(tmp_path / "none.tif")),
        replace(made.inputs, shakemaps=(str(tmp_path / "none.xml"),)),
        replace(made.inputs, lithology=made.inputs.shakemaps[0]),
    ):
        result = call(inputs, tmp_path / "prior.tif")
        assert isinstance(result.exception, RequestError), result.output
        assert not (tmp_path / "prior.tif").exists()


def test_a_layer_that_is_cut_is_a_wrong_request_and_no_crash(
    made: PriorWorld, tmp_path: Path
) -> None:
    random = np.random.default_rng(1).random((96, 144)).astype(np.float32)
    inputs = replace(made, folder=tmp_path).with_layer("cti", random, tiled=False)
    path = Path(inputs.cti)
    path.write_bytes(path.read_bytes()[:20_000])
    result = call(inputs, tmp_path / "prior.tif")
    assert isinstance(result.exception, RequestError), result.output
    assert "cannot be read as a raster" in str(result.exception)
    assert str(path) in str(result.exception)
