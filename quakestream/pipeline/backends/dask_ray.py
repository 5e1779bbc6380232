"""Dask on Ray: dask graphs run on the cluster of the run, without a second scheduler.

Only writing tiles uses it; scoring never does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.util.dask import ray_dask_get

from quakestream.pipeline.backends.cluster import ray_cluster

Scheduler = Callable[..., Any]


@contextmanager
def dask_on_ray(address: str | None) -> Iterator[Scheduler]:
    """A scheduler for `dask.compute`, on a cluster for the time of the block.

    Args:
        address: of a running cluster; None starts one on this machine.

    Raises:
        ClusterError: there is no cluster at the address.
    """
    with ray_cluster(address):
        yield ray_dask_get
