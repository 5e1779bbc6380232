"""Where workers are added when machines join a cluster."""

import pytest

pytest.importorskip("ray")

from quakestream.pipeline.backends.ray_machines import free_places
from quakestream.pipeline.backends.ray_workers import WorkerShape

CPU = WorkerShape(workers=2, cpus=2.0, gpus=0.0, steps=2, calls=2)
GPU = WorkerShape(workers=2, cpus=2.0, gpus=1.0, steps=2, calls=2)
MACHINES = {
    "head": {"memory": 1e9},
    "one": {"CPU": 4.0, "GPU": 2.0},
    "two": {"CPU": 4.0},
    "small": {"CPU": 1.0},
}


@pytest.mark.parametrize(
    ("shape", "taken", "opening", "free"),
    [
        (CPU, [], 0, ["one", "two"]),
        (CPU, ["one"], 0, ["two"]),
        (CPU, ["one", "one"], 0, ["two"]),  # restarted beside another when its machine was lost
        (CPU, ["one", "gone"], 0, ["two"]),
        (CPU, ["one", ""], 1, []),  # it may open on the machine that is free
        (CPU, ["one", "two"], 0, []),
        (GPU, [], 0, ["one", "one"]),
        (GPU, ["one"], 0, ["one"]),
        (GPU, ["one", "one"], 0, []),
    ],
)
def test_machines_without_a_worker_get_one(
    shape: WorkerShape, taken: list[str], opening: int, free: list[str]
) -> None:
    """The head offers no CPU, and one machine is too small for a worker."""
    assert free_places(MACHINES, shape, taken, opening) == free
