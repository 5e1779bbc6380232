"""`deploy/submit.sh` for real: a cluster of three processes with a token, and a worker killed."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from quakestream.testing import make_world, write_stand_in_bundle
from tests.helpers.deploying import DEPLOY, ROOT
from tests.helpers.ray_heads import Head, ray_head, ray_worker
from tests.helpers.running import assert_same_map, quakestream, read_map

pytest.importorskip("ray")
pytest.importorskip("aiohttp_cors", reason="the dashboard needs ray[default]")
pytestmark = [pytest.mark.alone, pytest.mark.slow]

SUBMIT = DEPLOY / "submit.sh"
EXECUTION = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 4}
CELLS = 200
WINDOW_S = 0.1
PATIENCE_S = 240
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCluster:
    """A head without CPUs, and two machines that work."""

    head: Head
    workers: tuple["subprocess.Popen[bytes]", ...]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with (
        ray_head({"PATH": PATH}, dashboard=True, cpus=0) as head,
        ray_worker(head) as one,
        ray_worker(head) as other,
    ):
        yield RunningCluster(head=head, workers=(one, other))


def submit(
    address: str, *arguments: object, env: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", str(SUBMIT), address, *map(str, arguments)],
        env=env | {"PYTHON": sys.executable},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Killer(threading.Thread):
    """Ends a process below each machine with `kill -9`, once some groups are committed.

    Of the first machine it ends the actor that scores, of the second one the whole raylet.
    """

    def __init__(self, cluster: RunningCluster, ledger: Path) -> None:
        super().__init__(daemon=True)
        self._machines, self._ledger = cluster.workers, ledger
        self.killed: list[str] = []
        self.commits = 0
        self.over = threading.Event()
        """Set when the run has ended: there is nothing left to wait for."""

    def run(self) -> None:
        for machine, title, commits in zip(
            self._machines, ("ray::RayWorker", "raylet/raylet"), (4, 12), strict=True
        ):
            until = time.monotonic() + PATIENCE_S
            while self._committed() < commits and time.monotonic() < until:
                if self.over.wait(0.02):
                    return
            for process in psutil.Process(machine.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if title in (process.cmdline() or [""])[0]:
                        process.send_signal(signal.SIGKILL)
                        self.killed.append(title)
        self.commits = self._committed()

    def _committed(self) -> int:
        return len(list(self._ledger.glob("*.parquet")))


def test_a_run_outlives_a_worker_and_a_raylet(cluster: RunningCluster, tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=23, side_px=1200, buildings=260, execution=EXECUTION)
    write_stand_in_bundle(tmp_path / "bundle", window_s=WINDOW_S)
    out = tmp_path / "out"
    killer = Killer(cluster, out / "_ledger" / "cells")
    killer.start()
    done = submit(cluster.head.dashboard, world.run_file, "--out", out, env=cluster.head.env)
    killer.over.set()
    killer.join()
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert killer.killed == ["ray::RayWorker", "raylet/raylet"]
    made = read_map(out)
    assert killer.commits < made.run["counts"]["commits"], "killed when all was done"
    assert made.run["backend"] == "ray"
    assert made.run["counts"]["cells_scored"] == made.run["counts"]["cells"] >= CELLS
    assert f"map: {out}/index.html" in said, "the log is shown"
    assert "published: " in said, "and the progress"
    local = quakestream("map", world.run_file, "--out", tmp_path / "local", "--quiet")
    assert local.code == 0, local.stderr
    assert_same_map(made, read_map(tmp_path / "local"))


def test_a_run_that_is_wrong_ends_the_job_with_one(cluster: RunningCluster, tmp_path: Path) -> None:
    done = submit(cluster.head.dashboard, tmp_path / "absent.yaml", env=cluster.head.env)
    assert done.returncode == 1
    assert "absent.yaml" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("token", "line"),
    [
        (None, "no token for the cluster; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH"),
        (secrets.token_hex(32), "the cluster refuses the token (40"),
    ],
    ids=["none", "wrong"],
)
def test_without_the_token_it_is_refused_in_one_line(
    cluster: RunningCluster, tmp_path: Path, token: str | None, line: str
) -> None:
    env = {n: v for n, v in cluster.head.env.items() if not n.startswith("RAY_")}
    env |= {"HOME": str(tmp_path)} | ({"RAY_AUTH_TOKEN": token} if token else {})
    done = submit(cluster.head.dashboard, "run.yaml", env=env)
    assert done.returncode == 3
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: {cluster.head.dashboard}: {line}")
    assert done.stdout == ""
