"""What `deploy/submit.sh` says before it starts anything."""

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
    scripts = [DEPLOY / "submit.sh", DEPLOY / "prove_tensorrt.sh"]
    assert all(os.access(path, os.X_OK) for path in scripts)
    assert all(Path(path).read_text().startswith("#!/usr/bin/env bash\n") for path in scripts)
