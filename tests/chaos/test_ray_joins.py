"""Machines that join a Ray cluster late, each in processes of its own on this machine."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from quakestream.config import open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import map_run
from quakestream.testing import make_world, write_stand_in_bundle
from tests.helpers.ray_heads import Head, ray_head, ray_worker
from tests.helpers.running import CLI, ROOT, assert_same_map, read_map

pytest.importorskip("ray")
pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(900)]

EXECUTION = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 1}
WINDOW_S = 1.5
"""Time of a cell: one machine alone would take minutes, without work for the processor."""
PATIENCE_S = 400
CPUS = 2
"""Of a machine: all that one worker takes, so that no second one fits."""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head without CPUs, and nothing else."""
    with ray_head(cpus=0) as started:
        yield started


def until(there: Callable[[], bool], process: "subprocess.Popen[bytes]", what: str) -> None:
    """Waits, as long as a process runs."""
    end = time.monotonic() + PATIENCE_S
    while not there():
        assert process.poll() is None, f"ended before {what}"
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


def end_raylet(machine: "subprocess.Popen[bytes]") -> None:
    for process in psutil.Process(machine.pid).children(recursive=True):
        if "raylet/raylet" in (process.cmdline() or [""])[0]:
            process.kill()


def test_a_cluster_without_cpus_is_refused_after_a_wait(head: Head) -> None:
    code = (
        "import sys\n"
        "from quakestream.pipeline.backends.cluster import ray_cluster\n"
        "from quakestream.pipeline.backends.ray_machines import wait_for_cpus\n"
        "with ray_cluster(sys.argv[1]):\n"
        "    wait_for_cpus(2, print)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, head.address],
        env=head.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = "no machine of the cluster offers a CPU"
    assert done.stdout == f"{said}; waiting 2 s for one at most\n"
    assert f"ClusterError: {said}, after a wait of 2 s; start a worker" in done.stderr


def test_machines_that_join_are_waited_for_and_used(head: Head, tmp_path: Path) -> None:
    """The first machine joins when the run waits, the second one later; then the first is lost.

    What is committed after that is the work of the machine that came late.
    """
    world = make_world(tmp_path, seed=21, side_px=700, buildings=90, execution=EXECUTION)
    write_stand_in_bundle(tmp_path / "bundle", window_s=WINDOW_S)
    out, log = tmp_path / "ray", tmp_path / "log"

    def commits() -> int:
        return len(list((out / "_ledger" / "cells").glob("*.parquet")))

    command = [*CLI, "map", str(world.run_file), "--out", str(out), "--address", head.address]
    with ExitStack() as stack:
        sink = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(command, env=head.env, cwd=ROOT, stdout=sink, stderr=sink)
        stack.callback(process.kill)
        until(lambda: "offers a CPU; waiting 300 s" in log.read_text(), process, "the notice")
        first = stack.enter_context(ray_worker(head, cpus=CPUS))
        until(lambda: commits() >= 2, process, "two commits")
        stack.enter_context(ray_worker(head, cpus=CPUS))
        until(lambda: "machines joined" in log.read_text(), process, "the second machine")
        before = commits()
        until(lambda: commits() >= before + 4, process, "four more commits")
        end_raylet(first)
        alone = commits()
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert commits() - alone >= 10, "the late machine did the rest"
    map_run(open_run(world.run_file), backend=LocalBackend(), out=str(tmp_path / "local"))
    assert_same_map(read_map(out), read_map(tmp_path / "local"))
