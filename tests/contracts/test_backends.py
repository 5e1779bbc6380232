"""Each backend keeps the contract of backends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quakestream.bundles import Bundle
from quakestream.catalog import scene_extent
from quakestream.config import Profile, open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.planning.plan import make_plan
from quakestream.pipeline.planning.tasks import TaskMaker, keyed_groups, worker_spec
from quakestream.pipeline.work.prepare import PrepareStep, prepare, steps_for
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.storage import open_store
from quakestream.testing import BackendContract, make_world


class TestLocal(BackendContract):
    @pytest.fixture(autouse=True)
    def _run(self, tmp_path: Path) -> None:
        world = make_world(tmp_path, seed=3, execution={"cell_windows": 1, "group_cells": 4})
        self.plan = plan = make_plan(open_run(world.run_file))
        options = plan.run.storage_options
        views = dict.fromkeys((u.view, u.cell.epsg) for u in plan.units)
        self.prepare_steps = steps_for(
            [(plan.views[v], epsg) for v, epsg in views], options, scene_extent
        )
        store = open_store(str(tmp_path / "prepared"), options)
        self.made = TaskMaker(
            plan=plan,
            prepared=prepare(self.prepare_steps, store, LocalBackend().each),
            spec=worker_spec(plan, str(tmp_path / "out")),
            hazard_NM=np.empty((len(plan.footprints.table), 0), np.float32),
        )

    def backend(self) -> Backend:
        return LocalBackend()

    def spec(self) -> WorkerSpec:
        return self.made.spec

    def groups(self) -> Sequence[GroupTask]:
        return [self.made.group(group) for group in keyed_groups(self.plan, self.made.hazard_NM)]

    def steps(self) -> list[PrepareStep]:
        return self.prepare_steps

    def bundle_and_settings(self) -> tuple[Bundle, Profile]:
        return self.plan.bundle, self.plan.run.profile_settings


@pytest.mark.alone
class TestRay(TestLocal):
    @pytest.fixture(autouse=True)
    def _cluster(self, ray_backend: Any) -> None:
        self.ray = ray_backend

    def backend(self) -> Backend:
        return self.ray
