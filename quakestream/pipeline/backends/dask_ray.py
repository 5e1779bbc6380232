"""Dask-on-Ray: dask graphs on the cluster the run uses, without a second scheduler.

Only writing tiles uses it; scoring never does.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.dask import ray_dask_get

from quakestream.errors import StorageError

Get = Callable[..., Any]


@contextmanager
def dask_on_ray(address: str | None) -> Iterator[Get]:
    """What `dask.compute` takes as `scheduler`; a cluster that was joined here is left again.

    Args:
        address: of a running cluster; None starts one on this machine and ends it on close.

    Raises:
        StorageError: if there is no cluster at the address.
    """
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(
                address=address,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError) as error:
            raise StorageError(f"no Ray cluster at {address}: {error}") from error
    try:
        yield ray_dask_get
    finally:
        if own:
            ray.shutdown()
