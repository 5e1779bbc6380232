"""Ctrl-C and SIGTERM in the middle of a run: prompt, with a count, and nothing is lost."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from quakestream.outputs.progress import read_status
from quakestream.storage import open_store
from tests.helpers.ending import map_process, wait_for_commits
from tests.helpers.running import Map, assert_same_map, commits, quakestream, read_map

pytestmark = pytest.mark.alone
PROMPT_S = 8.0
"""Most of it is for a busy machine."""


def interrupted(run_file: Path, out: Path, signum: int) -> tuple[int, str, float]:
    """Signals a run after its third commit; its exit code, stderr and the seconds it took."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = map_process(run_file, "--out", out, **streams)
    wait_for_commits(process, lambda: len(commits(out)), 3)
    process.send_signal(signum)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    return process.returncode, err, time.monotonic() - began


@pytest.mark.parametrize(
    ("signum", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupted_run_says_what_is_committed_and_goes_on(
    run_file: Path, undisturbed: Map, tmp_path: Path, signum: int, code: int, word: str
) -> None:
    out = tmp_path / "out"
    ended, err, took_s = interrupted(run_file, out, signum)
    assert ended == code, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    said = re.fullmatch(
        rf"error: {word}: at least (\d+) of (\d+) groups are committed; "
        "run the same command again to go on",
        last,
    )
    assert said is not None, err
    kept, cells = commits(out), undisturbed.run["counts"]["cells"]
    assert int(said[2]) == cells
    assert len(kept) >= 3
    assert int(said[1]) <= len(kept) < cells  # some may be committed and not be counted yet
    status = read_status(open_store(str(out)))
    assert (status.state, status.groups_done) == ("interrupted", len(kept))
    assert took_s < PROMPT_S
    done = quakestream("map", run_file, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    made = read_map(out)
    assert_same_map(made, undisturbed)
    assert made.run["counts"]["cells_resumed"] == len(kept)
