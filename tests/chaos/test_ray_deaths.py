"""`kill -9` of Ray's workers during a run: the run goes on, and its map is the same."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from quakestream.config import open_run
from quakestream.events import Event, OutputNotice
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import map_run
from quakestream.testing import make_world, write_stand_in_bundle
from tests.helpers.mapping import same

pytest.importorskip("ray")

from quakestream.pipeline.backends.ray_backend import RayBackend

pytestmark = pytest.mark.alone
PATIENCE_S = 60
WINDOW_S = 0.12


class Killer(threading.Thread):
    """Kills one worker of this process's Ray, found by its name, after the first commits."""

    def __init__(self, ledger: Path, title: str) -> None:
        super().__init__(daemon=True)
        self._ledger, self._title = ledger, title
        self.killed: int | None = None

    def run(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while self.killed is None and time.monotonic() < until:
            if len(list(self._ledger.glob("*.parquet"))) >= 2:
                self.killed = self._kill()
            time.sleep(0.01)

    def _kill(self) -> int | None:
        for process in psutil.Process().children(recursive=True):
            try:
                if any(self._title in part for part in process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    return process.pid
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return None


def test_a_killed_worker_changes_nothing_and_is_one_line(
    tmp_path: Path, ray_backend: RayBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    execution = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 2}
    world = make_world(tmp_path, seed=21, side_px=300, buildings=30, execution=execution)
    write_stand_in_bundle(tmp_path / "bundle", window_s=WINDOW_S)
    run = open_run(world.run_file)
    out = tmp_path / "out"
    killer = Killer(out / "_ledger" / "cells", "RayWorker")
    killer.start()
    told: list[Event] = []
    made = map_run(run, backend=ray_backend, out=str(out), observers=[told.append])
    killer.join()
    assert killer.killed is not None, "no worker was running"
    assert made.run["counts"]["cells_scored"] == made.run["counts"]["cells"] > 10
    said = capfd.readouterr()
    assert said.out == ""  # where `--json` prints
    assert "raylet" not in said.err
    notices = [event.text for event in told if isinstance(event, OutputNotice)]
    assert len(notices) == 1
    assert notices[0].startswith("a worker of Ray died (1 so far)")
    whole = map_run(run, backend=LocalBackend(), out=str(tmp_path / "whole"))
    same(made.buildings, whole.buildings)
