"""One Ray for all tests of a process that do not end it: each start takes seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from quakestream.pipeline.backends.ray_backend import RayBackend


@contextmanager
def shared_ray() -> Iterator[RayBackend]:
    """A backend on the Ray that runs in this process; one that was started here goes on."""
    if not ray.is_initialized():
        RayBackend()  # not closed: what it started is left to others
    with RayBackend() as backend:
        yield backend
