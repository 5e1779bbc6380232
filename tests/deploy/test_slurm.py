"""`deploy/slurm/quakestream.sbatch` for real, on machines that are namespaces of this one.

Each machine has its own network address, processes and folder of Ray. `srun` and `scontrol` of
`tests/deploy/slurm/` stand for Slurm's; everything else is what runs on a cluster.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quakestream.testing import make_world, write_stand_in_bundle
from tests.helpers.deploying import DEPLOY, ROOT
from tests.helpers.running import assert_same_map, quakestream, read_map

pytest.importorskip("ray")
pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

SHIMS = Path(__file__).parent / "slurm"
NAMESPACES = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
NAMESPACES += ["--pid", "--fork", "--kill-child"]  # nothing outlives the command
EXECUTION = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 4}
PATIENCE_S = 540
LONG = "/".join(["a-long-name-of-a-folder-of-one-job"] * 4)


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """Skips the tests where this user may not make machines out of namespaces."""
    try:
        command = [*NAMESPACES, "ip", "link", "add", "lab", "type", "bridge"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no {error.filename} on this machine")
    if done.returncode:
        pytest.skip(f"no namespaces for this user: {done.stderr.strip()}")


def sbatch(
    tmp_path: Path, *arguments: object, nodes: int, coming: int | None = None, wait_s: int = 240
) -> "subprocess.CompletedProcess[str]":
    """Runs the batch script as Slurm does.

    Args:
        nodes: machines of the job.
        coming: machines that start; all where None.
        wait_s: time that they have for it.
    """
    names = [f"node{n}" for n in range(1, nodes + 1)]
    folder = tmp_path / LONG
    folder.mkdir(parents=True)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "AWS_", "SLURM_"))}
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": ",".join(names),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_CPUS_PER_TASK": "1",
        "LAB_NODES": " ".join(names[:coming]),
        "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": str(wait_s),
        "TMPDIR": str(folder),
        "PATH": os.pathsep.join(map(str, [SHIMS, Path(sys.executable).parent, kept["PATH"]])),
        "PYTHONPATH": str(ROOT),
    }
    command = [*NAMESPACES, SHIMS / "lab", "bash", DEPLOY / "slurm" / "quakestream.sbatch"]
    return subprocess.run(
        [*map(str, [*command, *arguments])],
        env=kept | slurm,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_two_machines_make_the_map_of_the_local_loop(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=23, side_px=600, buildings=60, execution=EXECUTION)
    write_stand_in_bundle(tmp_path / "bundle", window_s=0.1)
    out = tmp_path / "out"
    done = sbatch(tmp_path, world.run_file, "--out", out, nodes=2)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"map: {out}/index.html" in said, "the log shows the run"
    assert "On worker node. Connecting" in said, "the second machine belongs to the cluster"
    made = read_map(out)
    assert made.run["backend"] == "ray"
    assert made.run["counts"]["cells_scored"] == made.run["counts"]["cells"]
    local = quakestream("map", world.run_file, "--out", tmp_path / "local", "--quiet")
    assert local.code == 0, local.stderr
    assert_same_map(made, read_map(tmp_path / "local"))


def test_a_job_with_a_machine_too_few_ends(tmp_path: Path) -> None:
    done = sbatch(tmp_path, tmp_path / "run.yaml", nodes=2, coming=1, wait_s=15)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1/2 nodes started" in done.stdout
    assert "Timed out waiting for other nodes to start." in done.stderr
    assert "Running command" not in done.stdout


def test_a_run_that_is_wrong_ends_the_job_with_its_code(tmp_path: Path) -> None:
    done = sbatch(tmp_path, tmp_path / "absent.yaml", nodes=1)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "absent.yaml" in done.stderr
