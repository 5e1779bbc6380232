"""`make serve-demo`: what it prints is typed into a shell, and the page of the map opens."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")
pytest.importorskip("ray.serve", reason="the service needs quakestream[serve]")

from serving.demo import PORT, how_to
from tests.helpers.running import ROOT, environment

ADDRESS = f"http://127.0.0.1:{PORT}"
PATIENCE_S = 180


def commands_of(text: str) -> list[str]:
    """Commands of a text, each on one line."""
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.startswith(("export", "curl"))]


def test_the_readme_shows_the_commands_of_the_demo() -> None:
    shown = commands_of((ROOT / "README.md").read_text().split("## Over HTTP")[1])
    printed = commands_of(how_to(ADDRESS, "...", "demo-out"))
    assert [c.partition(" #")[0] for c in shown] == [c.partition(" #")[0] for c in printed]


@pytest.mark.alone
@pytest.mark.slow
def test_the_printed_commands_make_a_map(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.demo", str(tmp_path / "demo"), port],
        env=environment({"OMP_NUM_THREADS": "1"}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = "".join(iter(process.stdout.readline, "for a browser. Press Ctrl-C to stop.\n"))
        token, execute, job, state, results = commands_of(said)
        submitted = answer_of(token, execute)
        job = job.partition("...")[0] + submitted["jobID"]
        until = time.monotonic() + PATIENCE_S
        while answer_of(token, job, state)["status"] in ("accepted", "running"):
            assert time.monotonic() < until
            time.sleep(1)
        found = answer_of(token, job, results)
        with urllib.request.urlopen(found["links"][0]["href"], timeout=60) as page:
            assert re.search(r"<title>.*quakestream", page.read().decode(), re.I | re.S)
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0


def answer_of(*commands: str) -> dict[str, Any]:
    """What the last command of a shell prints."""
    done = subprocess.run(
        ["bash", "-euc", "\n".join(commands)], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
