"""Where the stages work: a loop in one process, or actors on a Ray cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quakestream.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:  # workers import this package and need none of the driver's modules
    from quakestream.config import RunFile
    from quakestream.pipeline.backends.protocol import Backend

BACKENDS = ("local", "ray")


@contextmanager
def open_backend(
    run: "RunFile", name: str | None = None, address: str | None = None
) -> Iterator["Backend"]:
    """Opens a backend.

    Args:
        name: `local` or `ray`; None for `ray` when an address is given or RAY_ADDRESS is set, else
            `local`.
        address: of a Ray cluster.

    Raises:
        ConfigError: there is no backend of that name.
        MissingExtraError: Ray is not installed.
        ClusterError: there is no Ray cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    chosen = name or ("ray" if address else "local")
    settings = run.profile_settings
    if chosen == "local":
        from quakestream.pipeline.backends.local import LocalBackend

        yield LocalBackend(readers=settings.readers)
    elif chosen == "ray":
        try:
            from quakestream.pipeline.backends.ray_backend import RayBackend
        except ImportError as error:
            raise MissingExtraError(
                f"Ray is not installed ({error})", remedy="pip install 'quakestream[ray]'"
            ) from error
        with RayBackend(address=address, engines=settings.engines) as backend:
            yield backend
    else:
        raise ConfigError(f"no backend {chosen!r}", "--backend", expected=" or ".join(BACKENDS))
