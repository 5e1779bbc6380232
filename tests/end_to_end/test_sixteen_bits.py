"""A pair in 16 bits, as vendors deliver analytic scenes, gives the map of its 8-bit twin."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from quakestream.config import open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import map_run
from quakestream.synthetic import TINY, SyntheticEarthquake, make_earthquake
from tests.helpers.running import (
    Map,
    assert_accounted,
    assert_same_map,
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
def visual(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    return make_earthquake(tmp_path_factory.mktemp("visual"), seed=3, size=TINY)


@pytest.fixture(scope="module")
def analytic(
    visual: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory
) -> SyntheticEarthquake:
    """The same town and catalogue; every scene in 16 bits, with overviews, by another line."""
    there = tmp_path_factory.mktemp("analytic")
    shutil.copytree(visual.out, there, dirs_exist_ok=True)

    def moved(path: Path) -> Path:
        return there / path.relative_to(visual.out)

    for path in (*visual.pre, *visual.post):
        widened(path, moved(path), overviews=(2, 4), compress="zstd", predictor=2)
        with rasterio.open(moved(path)) as made:
            assert made.dtypes[0] == "uint16"
    scenes = {e: tuple(moved(p) for p in getattr(visual, e)) for e in ("pre", "post")}
    return replace(visual, out=there, catalogue=moved(visual.catalogue), **scenes)


def mapped(town: SyntheticEarthquake, out: Path, *, cell_windows: int = 2) -> Map:
    execution = {"runtime": "onnxruntime", "cell_windows": cell_windows, "group_cells": 2}
    run_file = write_run(out / "run.yaml", run_content(town, MODEL, execution=execution))
    map_run(open_run(run_file), backend=LocalBackend(), out=str(out))
    return read_map(out)


@pytest.fixture(scope="module")
def made(analytic: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory) -> Map:
    return mapped(analytic, tmp_path_factory.mktemp("made"))


def test_verdicts_are_those_of_eight_bits(
    visual: SyntheticEarthquake, made: Map, tmp_path: Path
) -> None:
    expected = mapped(visual, tmp_path).buildings.set_index("building_id")
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


def test_tiling_does_not_matter(analytic: SyntheticEarthquake, made: Map, tmp_path: Path) -> None:
    for cells in (1, 5):
        other = mapped(analytic, tmp_path / str(cells), cell_windows=cells)
        assert_same_map(replace(other, coverage=made.coverage), made, but=("run_id",))
