"""Small worlds mapped in this process, and maps that are compared with each other."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import yaml

from quakestream.config import open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.run import Result, map_run
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import CellTask, GroupTask, WorkerSpec


def edit(run_file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a run file in place."""
    content = yaml.safe_load(run_file.read_text())
    change(content)
    run_file.write_text(yaml.safe_dump(content))


def mapped(
    folder: Path, out: str, backend: Backend | None = None, **execution: int | str
) -> Result:
    """The world in `folder`, mapped with other execution settings."""
    edit(folder / "run.yaml", lambda content: content["execution"].update(execution))
    return map_file(folder / "run.yaml", folder / out, backend)


def map_file(run_file: Path, out: Path | None = None, backend: Backend | None = None) -> Result:
    """A run file mapped by the loop, or by another backend; `out` replaces its own."""
    run = open_run(run_file)
    return map_run(run, backend=backend or LocalBackend(), out=str(out or run.out))


class ShuffledBackend(LocalBackend):
    """The local loop, with its commit groups in another order."""

    def __init__(self, seed: int) -> None:
        super().__init__(readers=2)
        self._random = random.Random(seed)

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        shuffled = list(groups)
        self._random.shuffle(shuffled)
        return super().run(spec, shuffled)


class TasksOnly(LocalBackend):
    """Takes the tasks of a run and ends it before a cell is read."""

    spec: WorkerSpec
    cells: list[CellTask]

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        self.spec = spec
        self.cells = [cell for group in groups for cell in group.cells]
        raise StoppedError


class StoppedError(Exception):
    """A run was ended before its cells were read."""


def planned(run_file: Path) -> tuple[WorkerSpec, list[CellTask]]:
    """The specification that a run sends to its workers, and its cells."""
    backend = TasksOnly()
    with suppress(StoppedError):
        map_file(run_file, backend=backend)
    return backend.spec, backend.cells


def by_id(frame: gpd.GeoDataFrame) -> pd.DataFrame:
    """The rows of a map without their outlines, in the order of building ids."""
    return pd.DataFrame(frame.drop(columns="geometry")).set_index("building_id").sort_index()


def same(one: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> None:
    """Asserts that two maps are equal to the last bit, outlines too."""
    pd.testing.assert_frame_equal(by_id(one), by_id(other), check_exact=True)
    left, right = (f.set_index("building_id").geometry.sort_index() for f in (one, other))
    assert left.geom_equals_exact(right, 0).all()
