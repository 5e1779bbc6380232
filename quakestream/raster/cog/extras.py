"""Where the packages of the fast reader are asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from quakestream.errors import MissingExtraError


@contextmanager
def fast_extra() -> Iterator[None]:
    """Turns an ImportError inside the `with` into one that names the extra.

    Raises:
        MissingExtraError: if obstore, imagecodecs, tifffile or OpenCV is missing.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        if (error.name or "").startswith("quakestream"):  # our own mistake, not a missing package
            raise
        raise MissingExtraError(
            f"fast reading needs {error.name or error}, which comes with quakestream: install it"
        ) from error
