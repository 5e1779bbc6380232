"""Outputs that cannot be written: exit code 3, one line, and no commit is lost."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.running import (
    CommandResult,
    Map,
    assert_same_map,
    commits,
    quakestream,
    read_map,
    run_content,
    write_run,
    write_threshold_bundle,
)
from tests.helpers.servers import S3Server


def _mount(*arguments: str) -> None:
    """Mounts a file system; skips the test where this user or machine may not."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small or read-only file system")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _fill(disk: Path, left_bytes: int) -> Path:
    """Writes a file that leaves only `left_bytes` free."""
    room = os.statvfs(disk)
    filler = disk / "someone-elses-download"
    filler.write_bytes(b"\0" * (room.f_bavail * room.f_frsize - left_bytes))
    return filler


def _assert_refused(done: CommandResult, *parts: str) -> None:
    assert done.code == 3, (done.code, done.stderr)
    for part in parts:
        assert part in done.error
    assert done.stdout == ""


def _assert_finishes(run_file: Path, out: Path, undisturbed: Map) -> None:
    """Runs the same command again: it keeps the commits and makes the undisturbed map."""
    kept = commits(out)
    done = quakestream("map", run_file, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    made = read_map(out)
    assert_same_map(made, undisturbed)
    assert made.run["counts"]["cells_resumed"] == len(kept)
    assert made.run["counts"]["cells_scored"] == undisturbed.run["counts"]["cells"] - len(kept)
    assert set(kept) <= set(commits(out))


@pytest.mark.parametrize(("left_bytes", "during"), [(260_000, "mapping"), (900_000, "publishing")])
def test_a_full_disk_loses_nothing(
    run_file: Path, undisturbed: Map, small_disk: Path, left_bytes: int, during: str
) -> None:
    out = small_disk / "out"
    filler = _fill(small_disk, left_bytes)
    done = quakestream("map", run_file, "--out", out, "--quiet")
    _assert_refused(done, "cannot write", str(out), "no space left", "free some", "run again")
    cells = undisturbed.run["counts"]["cells"]
    kept = commits(out)
    if during == "mapping":
        assert 3 <= len(kept) < cells
    else:
        assert len(kept) == cells
    for key in kept:
        pq.read_table(out / key)
    assert not (out / "run.json").exists()
    filler.unlink()
    _assert_finishes(run_file, out, undisturbed)


@pytest.mark.slow
def test_a_limit_on_file_size_loses_nothing(
    run_file: Path, undisturbed: Map, tmp_path: Path
) -> None:
    """Small commits fit under the quota, the map does not. Any user may have such a quota."""
    out = tmp_path / "out"
    with _file_size_limit(60_000):
        done = quakestream("map", run_file, "--out", out, "--quiet", from_start=True)
    _assert_refused(done, "cannot write", "larger than the system allows")
    assert len(commits(out)) == undisturbed.run["counts"]["cells"]
    _assert_finishes(run_file, out, undisturbed)


@contextmanager
def _file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Sets the soft limit on file size for processes that are started inside."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("I am no folder")
    return folder / "file" / "out"


def _read_only(folder: Path) -> Path:
    place = folder / "frozen"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(place))
    return place / "out"


@pytest.mark.parametrize(
    ("place", "cause"),
    [(_below_a_file, "is a file, not a folder"), (_read_only, "read-only")],
    ids=["below a file", "read-only"],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    run_file: Path, tmp_path: Path, place: Callable[[Path], Path], cause: str
) -> None:
    out = place(tmp_path)
    try:
        done = quakestream("map", run_file, "--out", out)
    finally:
        if place is _read_only:
            subprocess.run(["umount", str(out.parent)], check=True)
    assert "map:" not in done.stderr  # the stage was not reached
    _assert_refused(done, f"error: {out}", "cannot", cause, "choose another place")


def test_a_missing_bucket_is_refused_before_any_work(
    town: SyntheticEarthquake, moto: S3Server, tmp_path: Path
) -> None:
    bundle = write_threshold_bundle(tmp_path / "difference")
    content = run_content(town, bundle, storage=moto.storage, out="s3://no-such-bucket/run")
    done = quakestream("map", write_run(tmp_path / "run.yaml", content), env=moto.env)
    assert "map:" not in done.stderr
    _assert_refused(done, "s3://no-such-bucket", "there is no such bucket", "check its name")
