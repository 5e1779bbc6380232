"""checkov's policies hold for Dockerfiles and manifests; a planted mistake breaks them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.deploying import DEPLOY, KUBERNETES, ROOT

pytestmark = pytest.mark.slow  # checkov starts in seconds, and has an environment of its own


def policies(*arguments: object) -> "subprocess.CompletedProcess[str]":
    own = f"{ROOT / '.venv-checkov' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    checkov = shutil.which("checkov", path=own)
    if checkov is None:
        pytest.skip("checkov is not installed: `make checkov` does so")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(DEPLOY / "checkov.sh"), checkov, *map(str, arguments)]
    return subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def test_policies_are_kept() -> None:
    done = policies()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_planted_mistake_breaks_a_policy(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    base = tmp_path / "kubernetes" / "base" / "job" / "rayjob.yaml"
    base.write_text(base.read_text().replace("readOnlyRootFilesystem: true", "privileged: true"))
    done = policies(tmp_path / "kubernetes" / "overlays")
    assert done.returncode == 1, done.stderr
    assert "CKV_K8S_16" in done.stdout, "a privileged container"
