"""A pair in 16 bits, as vendors deliver analytic scenes, gives the map of its 8-bit twin."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from quakestream.synthetic import TINY, SyntheticEarthquake
from tests.helpers.mapping import map_file
from tests.helpers.running import (
    Map,
    assert_accounted,
    assert_same_map,
    earthquake_in,
    read_map,
    run_content,
    write_run,
)
from tests.helpers.widening import widened

MODEL = "damage-synthetic"
SAME = 0.98
"""Verdicts of the twin's at least that are those of 8 bits."""
APART = 0.01
"""How far the probability of destruction may lie from that of 8 bits, on average."""


@pytest.fixture(scope="module")
def analytic(
    town: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory
) -> SyntheticEarthquake:
    """The same town and catalogue; every scene in 16 bits, with overviews, by another line."""
    folder = tmp_path_factory.mktemp("analytic") / "town"
    made = earthquake_in(shutil.copytree(town.out, folder), TINY)
    for epoch in ("pre", "post"):
        for path, wide in zip(getattr(town, epoch), getattr(made, epoch), strict=True):
            widened(path, wide, overviews=(2, 4), compress="zstd", predictor=2)
            with rasterio.open(wide) as written:
                assert written.dtypes[0] == "uint16"
    return made


def mapped(town: SyntheticEarthquake, out: Path, *, cell_windows: int = 2) -> Map:
    execution = {"runtime": "onnxruntime", "cell_windows": cell_windows, "group_cells": 2}
    run_file = write_run(out / "run.yaml", run_content(town, MODEL, execution=execution))
    map_file(run_file, out)
    return read_map(out)


@pytest.fixture(scope="module")
def made(analytic: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory) -> Map:
    return mapped(analytic, tmp_path_factory.mktemp("made"))


def test_verdicts_are_those_of_eight_bits(
    town: SyntheticEarthquake, made: Map, tmp_path: Path
) -> None:
    expected = mapped(town, tmp_path).buildings.set_index("building_id")
    found = made.buildings.set_index("building_id").loc[expected.index]
    assert_accounted(made)
    assert (found["reason"].fillna("") == expected["reason"].fillna("")).all()
    seen = expected["status"] == "assessed"
    assert seen.sum() > 50
    assert 0.1 < (expected["damage"][seen] > 0).mean() < 0.9
    assert (found["damage"][seen] == expected["damage"][seen]).mean() >= SAME
    probability = next(c for c in expected.columns if c.startswith("p_") and c != "p_intact")
    apart = np.abs(found[probability][seen] - expected[probability][seen])
    assert apart.mean() <= APART


def test_the_run_says_what_its_counts_were_brought_to_eight_bits_by(made: Map) -> None:
    assert any("2 scenes (post, pre) of 16 bits" in note for note in made.run["notes"])
    for scene in made.run["inputs"]["scenes"]:
        assert scene["stretch"]["shown"] == [32, 232]
        assert len(scene["stretch"]["low"]) == 3
    assert not any("read through GDAL" in note for note in made.run["notes"])


@pytest.mark.slow
def test_tiling_does_not_matter(analytic: SyntheticEarthquake, made: Map, tmp_path: Path) -> None:
    for cells in (1, 5):
        other = mapped(analytic, tmp_path / str(cells), cell_windows=cells)
        assert_same_map(replace(other, coverage=made.coverage), made, but=("run_id",))
