"""Where the stages run: a loop in one process, or Ray on a cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quakestream.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:  # workers import this package, and need nothing of what the driver does
    from quakestream.config import RunFile
    from quakestream.pipeline.run import Backend


@contextmanager
def open_backend(
    run: "RunFile", name: str | None = None, address: str | None = None
) -> Iterator["Backend"]:
    """The backend of that name; without one, ray when an address is given or RAY_ADDRESS is
    set, else local.

    Raises:
        ConfigError: no backend of that name.
        MissingExtraError: Ray is not installed.
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
                f"Ray is not installed: pip install 'quakestream[ray]' ({error})"
            ) from error
        with RayBackend(address=address, engines=settings.engines) as backend:
            yield backend
    else:
        raise ConfigError(f"no backend {chosen!r}: expected local or ray")
