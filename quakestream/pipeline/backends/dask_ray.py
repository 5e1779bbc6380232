"""Dask on Ray: dask graphs run on the cluster of the run, without a second scheduler.

Only writing tiles uses it; scoring never does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.dask import ray_dask_get
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from quakestream.errors import ClusterError
from quakestream.pipeline.backends.cluster import node_resources, ray_cluster, ray_failure
from quakestream.pipeline.backends.ray_access import Access
from quakestream.pipeline.backends.ray_machines import WAIT_S, wait_for_cpus
from quakestream.storage import StorageOptions

Scheduler = Callable[..., Any]
CHECK_S = 90.0
"""Time that every machine has to start a process and to look up a few objects."""


@contextmanager
def dask_on_ray(address: str | None, notice: Callable[[str], None]) -> Iterator[Scheduler]:
    """A scheduler for `dask.compute`, on a cluster for the time of the block.

    Args:
        address: of a running cluster; None starts one on this machine.
        notice: called where the cluster must be waited for.

    Raises:
        ClusterError: there is no cluster at the address, or no machine of it offers a CPU.
    """
    with ray_cluster(address):
        wait_for_cpus(WAIT_S, notice)
        yield ray_dask_get


def check_nodes(objects: tuple[str, ...], options: StorageOptions) -> None:
    """Checks that every machine of the cluster can read objects.

    Raises:
        ClusterError: one cannot. It names the machine and the object.
    """
    access = Access(objects=objects, options=options)
    check = ray.remote(num_cpus=0)(Access.check)
    pending = [
        check.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote(
            access
        )
        for n in node_resources()
    ]
    try:
        ray.get(pending, timeout=CHECK_S)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(
            f"the machines of the cluster did not start work within {CHECK_S:g} s",
            remedy="look into Ray's logs, or run it without --address",
        ) from error
    except ray.exceptions.RayError as error:
        raise ray_failure(error) from error
