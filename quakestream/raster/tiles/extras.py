"""Imports of the optional packages that tile stores need."""

from collections.abc import Iterator
from contextlib import contextmanager

from quakestream.errors import MissingExtraError


@contextmanager
def tiles_extra() -> Iterator[None]:
    """Turns an ImportError inside the `with` into an error that names the extra.

    Raises:
        MissingExtraError: if zarr, dask, xarray, odc-geo or another package is missing.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        if (error.name or "").startswith("quakestream"):  # our own mistake, not a missing package
            raise
        raise MissingExtraError(
            f"tile stores need the package {error.name or error}",
            remedy="pip install 'quakestream[tiles]'",
        ) from error
