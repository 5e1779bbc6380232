"""Where the optional packages of the tile store are asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from quakestream.errors import MissingExtraError


@contextmanager
def tiles_extra() -> Iterator[None]:
    """Turns an ImportError inside the `with` into one that names the extra.

    Raises:
        MissingExtraError: if zarr, dask, xarray, odc-geo, kerchunk, tifffile or imagecodecs
            is missing.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        if (error.name or "").startswith("quakestream"):  # our own mistake, not a missing package
            raise
        raise MissingExtraError(
            f"tile stores need {error.name or error}: pip install 'quakestream[tiles]'"
        ) from error
