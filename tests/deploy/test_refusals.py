"""What `deploy/submit.sh` says before it starts anything, and how a job ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.deploying import DEPLOY, ROOT


def submit(*arguments: str, token: str = "x") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", str(DEPLOY / "submit.sh"), *arguments],
        env=os.environ | {"PYTHON": sys.executable, "RAY_AUTH_TOKEN": token},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_too_few_arguments_are_a_wrong_command() -> None:
    done = submit("http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://127.0.0.1:1", "no answer ("),
        ("127.0.0.1:8265", "not the address of a dashboard"),
        ("file:///etc/hostname", "not the address of a dashboard"),
    ],
)
def test_an_address_where_nothing_is_is_one_line(address: str, line: str) -> None:
    done = submit(address, "run.yaml")
    assert done.returncode == 3
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: {address}: {line}")


def test_scripts_may_be_started() -> None:
    scripts = [
        DEPLOY / "submit.sh",
        DEPLOY / "prove_tensorrt.sh",
        DEPLOY / "docker" / "quakestream-job",
    ]
    assert all(os.access(path, os.X_OK) for path in scripts)
    assert all(Path(path).read_text().startswith("#!/usr/bin/env bash\n") for path in scripts)


@pytest.mark.parametrize(("code", "end"), [(0, 0), (1, 0), (2, 2), (3, 3), (143, 143)])
def test_a_map_that_needs_attention_is_no_failed_job(tmp_path: Path, code: int, end: int) -> None:
    program = tmp_path / "quakestream"
    program.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "QUAKESTREAM_RUN": "a b.yaml"}
    job = [str(DEPLOY / "docker" / "quakestream-job"), "--quiet"]
    done = subprocess.run(job, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == end
    assert done.stdout == "map a b.yaml --address auto --quiet\n"


def test_a_job_without_a_run_says_so() -> None:
    env = {n: v for n, v in os.environ.items() if n != "QUAKESTREAM_RUN"}
    job = str(DEPLOY / "docker" / "quakestream-job")
    done = subprocess.run([job], env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "QUAKESTREAM_RUN: the URI of a run file" in done.stderr
