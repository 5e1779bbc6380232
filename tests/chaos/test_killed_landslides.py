"""`kill -9` of a run of damage and landslides at random moments, then the same command."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from quakestream.engines.fakes import STAND_IN_SERVICE
from quakestream.testing import write_stand_in_bundle
from tests.helpers.ending import map_process, wait_for_commits
from tests.helpers.mapping import edit
from tests.helpers.running import assert_same_map, quakestream, read_map
from tests.helpers.sliding import sliding_world, write_slide_bundle

pytestmark = [pytest.mark.alone, pytest.mark.slow]
WINDOW_S = 0.05
"""Time the engine takes for a window."""
KILLS = 4


def slow_world(folder: Path) -> Path:
    """The run file of a small world whose windows take a while, with a commit for every cell."""
    world = sliding_world(folder)
    service = {STAND_IN_SERVICE: {"window_s": WINDOW_S, "spin": False}}
    damage = write_stand_in_bundle(folder / "slow-damage", window_s=WINDOW_S)
    slides = write_slide_bundle(folder / "slow-slides", metrics=service)
    small = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 1}

    def change(content: dict[str, object]) -> None:
        content["models"] = {"damage": str(damage), "landslide": str(slides)}
        content["execution"] = small

    edit(world.run_file, change)
    return world.run_file


def ledger(out: Path) -> dict[str, int]:
    """Commits of both jobs, with their inodes."""
    return {
        f"{path.parent.name}/{path.name}": path.stat().st_ino
        for job in ("cells", "landslides")
        for path in (out / "_ledger" / job).glob("*.parquet")
    }


def kill_after(run_file: Path, out: Path, commits: int, delay_s: float) -> None:
    """Kills a run some time after it has so many new commits."""
    before = len(ledger(out))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = map_process(run_file, "--out", out, "--quiet", start_new_session=True, **quiet)
    try:
        wait_for_commits(process, lambda: len(ledger(out)), before + commits)
        time.sleep(delay_s)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_run_of_landslides_that_is_killed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    run_file = slow_world(tmp_path)
    whole = tmp_path / "whole"
    assert quakestream("map", run_file, "--out", whole, "--quiet").code == 0
    undisturbed = read_map(whole)
    total = len(ledger(whole))
    assert total > 30
    out = tmp_path / "out"
    rng = random.Random(os.environ.get("QUAKESTREAM_KILL_SEED", "20180906"))
    kept: dict[str, int] = {}
    for _ in range(KILLS):
        kill_after(run_file, out, rng.randint(1, 5), rng.uniform(0.0, 0.1))
        assert not (out / "run.json").exists(), "the run was over before it was killed"
        assert kept.items() <= ledger(out).items(), "a commit was written again"
        kept = ledger(out)
    assert 0 < len(kept) < total
    done = quakestream("map", run_file, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    assert kept.items() <= ledger(out).items()
    assert len(ledger(out)) == total
    made = read_map(out)
    assert_same_map(made, undisturbed)
    assert made.run["counts"]["landslides"] == undisturbed.run["counts"]["landslides"]
    assert (out / "landslides.parquet").read_bytes() == (whole / "landslides.parquet").read_bytes()
