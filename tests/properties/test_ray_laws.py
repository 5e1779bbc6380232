"""Law 6 on Ray, for both ways of reading: beside the engines (joined) or elsewhere (split)."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.config import open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.dispatch import worker_spec
from quakestream.pipeline.plan import make_plan
from quakestream.testing import make_world
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import map_file, mapped, same
from tests.helpers.running import commits

pytest.importorskip("ray")

from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.backends.wire import packed, unpacked

pytestmark = pytest.mark.usefixtures("no_pictures")
STREAMS = ["joined", "split"]


@pytest.mark.parametrize(
    "world",
    [
        lambda folder: make_world(folder, seed=11, execution={"cell_windows": 1}),
        lambda folder: crop_world(folder, hazard=("dpm", "vs30_m_s")),
    ],
    ids=["windows", "crops"],
)
def test_ray_gives_what_the_loop_gives(
    tmp_path: Path, ray_backend: RayBackend, world: Callable[[Path], object]
) -> None:
    world(tmp_path)
    local = mapped(tmp_path, "local", LocalBackend(), batch_cells=4)
    for stream in STREAMS:
        result = mapped(tmp_path, stream, ray_backend, batch_cells=4, stream=stream)
        same(local.buildings, result.buildings)
        assert commits(tmp_path / stream) == commits(tmp_path / "local")
        assert result.run["stream"] == stream


def test_an_engine_on_cpu_is_joined_with_its_readers(
    tmp_path: Path, ray_backend: RayBackend
) -> None:
    world = make_world(tmp_path, seed=14)
    spec = worker_spec(make_plan(open_run(world.run_file)), str(tmp_path / "out"))
    assert ray_backend.stream(spec) == "joined"
    assert ray_backend.stream(replace(spec, stream="split")) == "split"


@pytest.mark.parametrize("stream", ["joined", pytest.param("split", marks=pytest.mark.slow)])
def test_more_engines_than_cores_are_opened_all_the_same(
    tmp_path: Path, ray_backend: RayBackend, stream: str
) -> None:
    execution = {"cell_windows": 1, "batch_cells": 4, "stream": stream}
    world = make_world(tmp_path, seed=15, execution=execution)
    many = RayBackend(engines=(os.cpu_count() or 1) + 1)  # on the same cluster
    assert many.name == ray_backend.name
    result = map_file(world.run_file, backend=many)
    assert result.run["counts"]["cells_scored"] == result.run["counts"]["cells"] > 4


def test_arrays_cross_the_object_store_beside_their_pickle() -> None:
    rng = np.random.default_rng(0)
    value = {
        "pixels": rng.integers(0, 255, (2, 3, 5, 7), np.uint8),
        "odd": np.arange(3, dtype=np.int64),
        "empty": np.empty((0, 4), np.float32),
        "view": np.arange(24).reshape(4, 6)[:, ::2],
        "text": "name",
    }
    table = packed(value)
    assert table.num_rows == 1
    back = unpacked(table)
    assert back["text"] == "name"
    for name in ("pixels", "odd", "empty", "view"):
        assert back[name].dtype == value[name].dtype
        assert np.array_equal(back[name], value[name])
        assert back[name].flags.aligned
    assert unpacked(packed(None)) is None
