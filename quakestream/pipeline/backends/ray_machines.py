"""Machines of a Ray cluster: what workers take of them, the first one, and later ones."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import ray

from quakestream.errors import ClusterError
from quakestream.pipeline.backends.cluster import node_resources
from quakestream.pipeline.backends.ray_workers import WorkerShape
from quakestream.pipeline.work.readahead import groups_at_once

WAIT_S = 300.0
"""Time that the first machine with a CPU has to join the cluster: a cloud starts it for a run."""
LOOK_S = 5.0
"""Time between two looks for machines that joined."""


def worker_shape(engines: int, *, on_gpu: bool, readers: int) -> WorkerShape:
    """Workers for the cluster as it is.

    Args:
        engines: number of workers; 0 for one per GPU, or one per machine where none is used.
        readers: threads that read beside one engine.
    """
    resources = list(node_resources().values())
    devices = [have.get("GPU" if on_gpu else "CPU", 0.0) for have in resources]
    workers = engines or max(1, int(sum(devices) if on_gpu else np.count_nonzero(devices)))
    cpus = [have.get("CPU", 0.0) for have in resources]
    cores = float(min(sum(cpus) / workers, max(cpus, default=1.0)))
    most_readers = max(readers, int(cores)) if on_gpu else readers
    return WorkerShape(
        workers=workers,
        cpus=min(most_readers, int(cores)) if cores >= 1 else cores,
        gpus=float(on_gpu),
        steps=max(1, int(cores)),
        calls=max(int(cores), groups_at_once(most_readers, 1)),
    )


def has_gpus() -> bool:
    return any(have.get("GPU") for have in node_resources().values())


def wait_for_cpus(wait_s: float, notice: Callable[[str], None]) -> None:
    """Waits until a machine of the cluster offers a CPU; at once where one does.

    A task that wants one waits meanwhile, so that an autoscaler knows of it.

    Raises:
        ClusterError: none does in time.
    """
    if _cpus():
        return
    notice(f"no machine of the cluster offers a CPU; waiting {wait_s:g} s for one at most")
    until = time.monotonic() + wait_s
    wanted = ray.remote(_nothing).remote()
    try:
        while not _cpus():
            if time.monotonic() > until:
                raise ClusterError(
                    f"no machine of the cluster offers a CPU, after a wait of {wait_s:g} s",
                    remedy="start a worker (`ray start --address HEAD:PORT`), or give the head "
                    "CPUs (`ray start --head --num-cpus`)",
                )
            with suppress(ray.exceptions.RayError):
                ray.wait([wanted], timeout=min(1.0, wait_s))
    finally:
        ray.cancel(wanted, force=True)


def _cpus() -> float:
    return sum(have.get("CPU", 0.0) for have in node_resources().values())


def _nothing() -> None:
    """Wants a CPU, and nothing else."""


class JoinedMachines:
    """Looks for machines that have no worker yet, at most every `LOOK_S`."""

    def __init__(self, shape: WorkerShape) -> None:
        self._shape = shape
        self._next = time.monotonic() + LOOK_S

    def without_worker(self, taken: Sequence[str], opening: int) -> list[str]:
        """Machines that want a worker; none where it is too early to look. See `free_places`."""
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + LOOK_S
        return free_places(node_resources(), self._shape, taken, opening)


def free_places(
    resources: dict[str, dict[str, float]], shape: WorkerShape, taken: Sequence[str], opening: int
) -> list[str]:
    """Machines that want a worker, each as often as it wants one.

    A machine wants one worker for each of its GPUs where workers score on GPUs, else one.

    Args:
        resources: of each machine, by name.
        shape: what a worker takes of its machine. One that offers less wants none.
        taken: where workers are.
        opening: workers that are not there yet, and may open on any machine.
    """
    workers = Counter(taken)
    free: list[str] = []
    for name, have in resources.items():
        if have.get("CPU", 0.0) < max(shape.cpus, 1e-3):
            continue
        room = int(have.get("GPU", 0.0)) if shape.gpus else 1
        free += [name] * (room - workers[name])
    return free[: max(0, len(free) - opening)]
