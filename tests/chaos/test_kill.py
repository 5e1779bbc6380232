"""`kill -9` of the whole process group at any moment, then the same command again.

Law 4: the map is that of an undisturbed run, and no commit is written twice.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers.ending import map_process, wait_for_commits
from tests.helpers.running import Map, assert_same_map, commits, quakestream, read_map

pytestmark = pytest.mark.alone
LEAST = 3
"""Commits that must exist before a process is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KilledRun:
    """The state of the output after a process was killed."""

    commits: dict[str, tuple[int, int]]
    """Inode and time of change of each commit."""
    published: bool


def kill_midway(arguments: list[str], out: Path, delay_s: float, env: dict[str, str]) -> KilledRun:
    """Starts a run, waits for new commits and then `delay_s`, and kills its process group."""
    before = len(_ledger(out))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = map_process(
        *arguments, "--out", out, "--quiet", env=env, start_new_session=True, **quiet
    )
    try:
        wait_for_commits(process, lambda: len(_ledger(out)), before + LEAST)
        time.sleep(delay_s)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return KilledRun(commits=_ledger(out), published=(out / "run.json").exists())


def _ledger(out: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in (out / "_ledger" / "cells").glob("*.parquet"):
        stat = path.stat()
        found[path.name] = (stat.st_ino, stat.st_mtime_ns)
    return found


def assert_whole(out: Path) -> None:
    """Asserts that every listed object can be read to its end."""
    keys = commits(out)
    for key in keys:
        pq.read_table(out / key)
    hidden = {p.name for p in (out / "_ledger" / "cells").iterdir()} - {Path(k).name for k in keys}
    assert all(name.startswith(".quakestream-part-") for name in hidden)


def test_a_killed_run_resumes_to_the_same_map(
    run_file: Path, undisturbed: Map, tmp_path: Path
) -> None:
    """The run is killed twice, each time shortly after at least three new commits."""
    out = tmp_path / "out"
    cells = undisturbed.run["counts"]["cells"]
    assert cells >= 20
    rng = random.Random(20230206)
    kept: dict[str, tuple[int, int]] = {}
    kills = 0
    while kills < 2:
        left = kill_midway([str(run_file)], out, rng.uniform(0.0, 0.08), {})
        assert_whole(out)
        assert len(left.commits) >= len(kept) + LEAST
        assert kept.items() <= left.commits.items(), "a commit was written again"
        assert not left.published, "the run was over before it was killed: make it longer"
        kept, kills = left.commits, kills + 1
    assert len(kept) < cells

    done = quakestream("map", run_file, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    made = read_map(out)
    assert_same_map(made, undisturbed)
    counts = made.run["counts"]
    assert counts["cells_resumed"] == len(kept)
    assert counts["cells_scored"] == counts["commits"] == cells - len(kept)
    now = _ledger(out)
    assert len(now) == cells
    assert kept.items() <= now.items(), "a commit was written again"


def test_a_finished_run_that_runs_again_scores_nothing_and_changes_nothing(
    run_file: Path, undisturbed: Map, tmp_path: Path
) -> None:
    """The same command gives the same snapshot, also where a kill interrupted publishing."""
    out = tmp_path / "out"
    assert quakestream("map", run_file, "--out", out, "--quiet").code == 0
    first, ledger = read_map(out), _ledger(out)
    (out / "run.json").unlink()  # killed before the last object of publishing was written
    (out / "buildings.parquet").write_bytes(b"half")
    assert quakestream("map", run_file, "--out", out, "--quiet").code == 0
    again = read_map(out)
    assert_same_map(again, undisturbed)
    assert again.run["snapshot"] == first.run["snapshot"]
    assert again.run["counts"]["cells_scored"] == 0
    assert again.run["counts"]["cells_resumed"] == again.run["counts"]["cells"]
    assert _ledger(out) == ledger
    assert (out / "buildings.parquet").stat().st_size > 1000


@pytest.fixture
def ray_home() -> Iterator[Path]:
    """A folder for one Ray session. Processes that were started with it are ended, no others."""
    folder = Path(tempfile.mkdtemp(prefix="qs-ray-"))  # short: Ray's sockets lie below
    yield folder
    for pid in _processes_of(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _processes_of(folder: Path) -> list[int]:
    """Other processes whose command line or environment names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text:
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_killed_ray_run_resumes_to_the_same_map(
    run_file: Path, undisturbed: Map, ray_home: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'quakestream[ray]'")
    out = tmp_path / "out"
    env = {"RAY_TMPDIR": str(ray_home)}
    arguments = [str(run_file), "--backend", "ray"]
    left = kill_midway(arguments, out, random.Random(7).uniform(0.0, 0.2), env)
    assert_whole(out)
    assert not left.published
    cells = undisturbed.run["counts"]["cells"]
    assert LEAST <= len(left.commits) < cells
    until = time.monotonic() + 30
    while (alive := _processes_of(ray_home)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not alive, "Ray's processes outlive their driver"
    settled = _ledger(out)  # workers may have committed after the driver's death
    assert left.commits.items() <= settled.items()

    done = quakestream("map", *arguments, "--out", out, "--quiet", env=env)
    assert done.code == 0, done.stderr
    made = read_map(out)
    assert_same_map(made, undisturbed)
    counts = made.run["counts"]
    assert counts["cells_resumed"] == len(settled)
    assert counts["cells_scored"] == cells - len(settled)
    assert settled.items() <= _ledger(out).items()
