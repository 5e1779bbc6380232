"""A cluster of several machines, simulated on one by Ray."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cropping import crop_world

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster

from quakestream.bundles import load_bundle
from quakestream.config import RunFile, open_run
from quakestream.engines.choice import Rate, keep_rates
from quakestream.errors import ConfigError
from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.planning.engine import pick_engine
from quakestream.pipeline.run import map_run

pytestmark = pytest.mark.alone


@pytest.fixture
def run(tmp_path: Path) -> RunFile:
    crop_world(tmp_path)
    opened = open_run(tmp_path / "run.yaml")
    execution = {"runtime": "auto", "cell_windows": 1, "group_cells": 2}
    return opened.model_copy(update={"execution": opened.execution.model_copy(update=execution)})


@pytest.fixture
def backend(tmp_path: Path, run: RunFile, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayBackend]:
    """On the two workers ONNX Runtime was measured the fastest, on the head OpenVINO."""
    bundle = load_bundle(str(run.models.damage))

    def measured(where: str, runtime: str) -> None:
        monkeypatch.setenv("QUAKESTREAM_ENGINES", str(tmp_path / where))
        keep_rates(bundle, {runtime: Rate(per_s=1000.0)})

    ray.shutdown()  # the one that other tests share
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        measured("workers", "onnxruntime")
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        measured("head", "openvino")
        ray.init(address=cluster.address, include_dashboard=False, log_to_driver=False)
        with RayBackend() as opened:
            yield opened
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow  # the contract of backends picks on a worker of one node
def test_a_run_uses_the_runtime_that_is_fastest_on_its_workers(
    tmp_path: Path, run: RunFile, backend: RayBackend
) -> None:
    """The head would pick another runtime. An error of a worker is raised as one of the head."""
    made = map_run(run, backend=backend, out=str(tmp_path / "ray"))
    assert made.run["bundle"]["engine"].startswith("onnxruntime")
    assert any("runtime onnxruntime chosen" in note for note in made.run["notes"])
    assert made.run["counts"]["cells_scored"] == made.run["counts"]["cells"] > 4
    bundle = load_bundle(str(run.models.damage))
    assert pick_engine(bundle, run.profile_settings).spec.runtime == "openvino"
    named = run.model_copy(update={"execution": run.execution.model_copy(update={"runtime": "x"})})
    with pytest.raises(ConfigError, match=r"runtime: x: no runtime of that name: expected auto"):
        backend.pick(bundle, named.profile_settings)
