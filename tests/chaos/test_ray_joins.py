"""Machines that join a Ray cluster late, simulated on one by Ray: each is processes of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster

from quakestream.config import open_run
from quakestream.errors import ClusterError
from quakestream.events import Event, GroupCommitted, OutputNotice
from quakestream.pipeline.backends import ray_machines
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.run import map_run
from quakestream.testing import make_world, write_stand_in_bundle
from tests.helpers.mapping import same

pytestmark = [pytest.mark.alone, pytest.mark.slow]
EXECUTION = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 1}
CPUS = 2


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without CPUs, and nothing else."""
    ray.shutdown()  # the one that other tests share
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=made.address, include_dashboard=False, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


class Machines:
    """Adds a machine when a run waits for one, and another later; then takes the first away.

    What is committed after that is the work of the machine that came late.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._first: Any = None
        self.notices: list[str] = []
        self.commits = 0
        self._joined_at: int | None = None
        self.alone_since: int | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, OutputNotice):
            self._notice(event.text)
        if isinstance(event, GroupCommitted):
            self.commits += 1
            if self.commits == 2:
                self._add()
            if self.alone_since is None and self.commits - (self._joined_at or self.commits) >= 6:
                self._cluster.remove_node(self._first, allow_graceful=False)
                self.alone_since = self.commits

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        if "no machine of the cluster offers a CPU" in text:
            self._first = self._add()
        if "machines joined" in text:
            self._joined_at = self.commits

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=CPUS, wait=False)


def test_machines_that_join_are_waited_for_and_used(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_machines, "LOOK_S", 1.0)
    world = make_world(tmp_path, seed=21, side_px=700, buildings=90, execution=EXECUTION)
    write_stand_in_bundle(tmp_path / "bundle", window_s=0.4)
    run = open_run(world.run_file)
    with (
        RayBackend(wait_s=1) as backend,
        pytest.raises(ClusterError, match=r"no machine .* offers a CPU, after a wait of 1 s"),
    ):
        map_run(run, backend=backend, out=str(tmp_path / "nowhere"))
    machines = Machines(cluster)
    with RayBackend(wait_s=60) as backend:
        made = map_run(run, backend=backend, out=str(tmp_path / "ray"), observers=[machines])
    assert machines.alone_since is not None, machines.notices
    assert machines.commits - machines.alone_since >= 10, "the late machine did the rest"
    assert machines.commits == made.run["counts"]["commits"]
    local = map_run(run, backend=LocalBackend(), out=str(tmp_path / "local"))
    same(made, local)
