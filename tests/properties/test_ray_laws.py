"""Law 6 on Ray: the backend gives what the local loop gives."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quakestream.pipeline.backends.local import LocalBackend
from quakestream.testing import make_world
from tests.helpers.cropping import crop_world
from tests.helpers.cutting import in_tiles
from tests.helpers.mapping import map_file, mapped, same
from tests.helpers.running import commits
from tests.helpers.sliding import sliding_world

pytest.importorskip("ray")

from quakestream.pipeline.backends.ray_backend import RayBackend

pytestmark = pytest.mark.alone  # one Ray for all that uses it, not one for each of pytest's workers


@pytest.mark.parametrize(
    "world",
    [
        lambda folder: make_world(folder, seed=11, execution={"cell_windows": 1}),
        lambda folder: crop_world(folder, hazard=("dpm", "vs30_m_s")),
        pytest.param(
            lambda folder: in_tiles(make_world(folder, seed=11, execution={"cell_windows": 1})),
            marks=pytest.mark.slow,  # tiles are one view before Ray sees them
        ),
        lambda folder: sliding_world(folder, execution={"cell_windows": 1}),
    ],
    ids=["windows", "crops", "tiles", "landslides"],
)
def test_ray_gives_what_the_loop_gives(
    tmp_path: Path, ray_backend: RayBackend, world: Callable[[Path], object]
) -> None:
    world(tmp_path)
    local = mapped(tmp_path, "local", LocalBackend(), group_cells=4)
    result = mapped(tmp_path, "ray", ray_backend, group_cells=4)
    same(local.buildings, result.buildings)
    assert commits(tmp_path / "ray") == commits(tmp_path / "local")
    one, other = (tmp_path / name / "landslides.parquet" for name in ("ray", "local"))
    assert one.exists() == other.exists()
    assert not one.exists() or one.read_bytes() == other.read_bytes()
    assert result.run["backend"] == "ray"


@pytest.mark.slow
def test_more_workers_than_cores_are_opened_all_the_same(
    tmp_path: Path, ray_backend: RayBackend
) -> None:
    execution = {"cell_windows": 1, "group_cells": 4}
    world = make_world(tmp_path, seed=15, execution=execution)
    many = RayBackend(engines=(os.cpu_count() or 1) + 1)  # on the same cluster
    assert many.name == ray_backend.name
    result = map_file(world.run_file, backend=many)
    assert result.run["counts"]["cells_scored"] == result.run["counts"]["cells"] > 4
