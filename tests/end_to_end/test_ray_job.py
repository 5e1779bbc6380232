"""A run as a job of a cluster with tokens: `ray job submit`."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.ray_heads import RAY, START_S, Head, ray_head
from tests.helpers.running import CLI, ROOT, Map, read_map, run_content, write_run

pytest.importorskip("ray")
pytest.importorskip("aiohttp_cors", reason="the dashboard needs ray[default]")

pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head(dashboard=True) as started:
        yield started


def _submitted(head: Head, job: list[str]) -> "subprocess.CompletedProcess[str]":
    """A job that has ended. The dashboard answers before its agent takes jobs."""
    deadline = time.monotonic() + START_S
    while True:
        done = subprocess.run(
            [*RAY, "job", "submit", "--address", head.dashboard, "--", *job],
            env=head.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)


def test_a_submitted_job_makes_the_map_of_the_local_loop(
    head: Head, town: SyntheticEarthquake, bundle: Path, undisturbed: Map, tmp_path: Path
) -> None:
    run_file = write_run(tmp_path / "run.yaml", run_content(town, bundle))
    job = [*CLI, "map", str(run_file), "--out", str(tmp_path / "out"), "--address", "auto"]
    done = _submitted(head, job)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"map: {tmp_path}/out/index.html" in said
    assert " E " not in said, "Ray complains in a good run"
    made = read_map(tmp_path / "out")
    assert made.run["backend"] == "ray"
    columns = ["building_id", "status", "damage", "valid_fraction", "confidence"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(made.buildings[columns]), pd.DataFrame(undisturbed.buildings[columns])
    )
