"""Law 6 on Ray: the backend gives what the local loop gives. One cluster for all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quakestream.config import open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import Result, map_run
from quakestream.testing import make_world
from tests.helpers import cropping
from tests.properties.test_laws import same

pytest.importorskip("ray")

from quakestream.pipeline.backends.ray_backend import RayBackend


@pytest.fixture(scope="module")
def backend() -> Iterator[RayBackend]:
    with RayBackend() as opened:
        yield opened


def commits(folder: Path, out: str) -> list[str]:
    return sorted(p.name for p in (folder / out / "_ledger" / "cells").iterdir())


def mapped(folder: Path, out: str, where: Any, **execution: Any) -> Result:
    return cropping.mapped(folder, out, where, **execution)


@pytest.mark.parametrize(
    "world",
    [
        lambda folder: make_world(folder, seed=11, execution={"cell_windows": 1}),
        lambda folder: cropping.crop_world(folder, hazard=("dpm", "vs30_m_s")),
    ],
    ids=["windows", "crops"],
)
def test_ray_gives_what_the_loop_gives(
    tmp_path: Path, backend: RayBackend, world: Callable[[Path], object]
) -> None:
    world(tmp_path)
    local = mapped(tmp_path, "local", LocalBackend(), group_cells=4)
    result = mapped(tmp_path, "ray", backend, group_cells=4)
    same(local.buildings, result.buildings)
    assert commits(tmp_path, "ray") == commits(tmp_path, "local")
    assert result.run["backend"] == "ray"


def test_more_workers_than_cores_are_opened_all_the_same(
    tmp_path: Path, backend: RayBackend
) -> None:
    execution = {"cell_windows": 1, "group_cells": 4}
    world = make_world(tmp_path, seed=15, execution=execution)
    many = RayBackend(engines=(os.cpu_count() or 1) + 1)  # on the same cluster
    assert many.name == backend.name
    result = map_run(open_run(world.run_file), backend=many)
    assert result.run["counts"]["cells_scored"] == result.run["counts"]["cells"] > 4
