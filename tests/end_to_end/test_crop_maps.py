"""A user maps a town crop by crop, with the shaking, on the command line."""

import json
from pathlib import Path

import pytest

from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_building_bundle
from tests.helpers.running import (
    Map,
    assert_accounted,
    quakestream,
    read_map,
    run_content,
    write_run,
)

RUNNING = {"threads": 1, "cell_windows": 1, "group_cells": 1}


@pytest.fixture(scope="module")
def run_file(town: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that gives no imagery before the event."""
    folder = tmp_path_factory.mktemp("crops")
    hazard = ("mmi", "pga_g", "vs30_m_s")
    bundle = write_building_bundle(folder / "b", window_px=64, epochs=("post",), hazard=hazard)
    content = run_content(town, bundle, execution=RUNNING)
    del content["imagery"]["pre"]
    return write_run(folder / "run.yaml", content)


@pytest.fixture(scope="module")
def made(run_file: Path) -> Map:
    out = run_file.parent / "out"
    done = quakestream("map", run_file, "--out", out, "--quiet", from_start=True)
    assert done.code == 0, done.stderr
    return read_map(out)


def test_the_plan_says_what_the_run_then_does(run_file: Path, made: Map) -> None:
    done = quakestream("plan", run_file, "--json")
    assert done.code == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["windows"] == plan["coverage"]["covered"] > 20
    assert plan["km2"] == made.run["rates"]["km2"] > 0
    for key in ("aoi_km2", "covered_km2"):
        assert plan[key] == made.run["rates"][key] > 0
    assert plan["mpx"] == pytest.approx(made.run["rates"]["mpx_read"], abs=0.1)
    assert plan["cells"] == made.run["counts"]["cells"]
    assert made.run["memory"]["peak_rss_mb"] < made.run["memory"]["planned_peak_mb"]


def test_every_building_is_answered_from_image_and_shaking(made: Map) -> None:
    assert_accounted(made)
    rows = made.buildings
    assessed = rows[rows["status"] == "assessed"]
    assert len(assessed) > 20
    assert set(assessed["evidence"]) == {"image+hazard"}
    assert assessed[["mmi", "pga_g", "vs30_m_s"]].notna().all(axis=None)
    assert assessed["scene_pre"].isna().all()
    assert made.run["bundle"]["name"] == "small-building"
