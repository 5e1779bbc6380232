"""The grid.xml inside what people download: a .gz, a .zip, or the archive of an event."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from quakestream.errors import HazardError
from quakestream.storage.limits import DOCUMENT

_GRID = ("grid.xml", "grid.xml.gz", "grid.xml.zip")
_DEPTH = 3
"""Archives inside each other that are unpacked."""
_REMEDY = "give the event's grid.xml, from the downloads of its ShakeMap page"
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF", "an HDF5 file (shake_result.hdf): a ShakeMap, but not the one that is read"),
    (b"%PDF", "a PDF"),
    (b"{", "JSON"),
    (b"II*\x00", "a TIFF image: a raster belongs under hazard.layers"),
)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, LookupError)
"""Errors on archives that are cut, encrypted, or packed in an unknown way."""


def unpacked_grid(data: bytes, uri: str) -> bytes:
    """The text of a ShakeMap grid, taken out of its archives.

    No more is unpacked than a document may hold, whatever an archive says of its size.

    Raises:
        HazardError: if there is no grid in it, or the archive is damaged or too large.
    """
    for _ in range(_DEPTH):
        if data.startswith(b"\x1f\x8b"):
            data = _bounded(partial(gzip.open, io.BytesIO(data)), uri)
        elif data.startswith(b"PK\x03\x04"):
            data = _from_zip(data, uri)
        else:
            break
    head = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise HazardError("not a ShakeMap", uri, "grid.xml", "an HTML page", _REMEDY)
    for magic, what in _OTHERS:
        if head.startswith(magic.lower()):
            raise HazardError("not a ShakeMap grid", uri, "grid.xml", what, _REMEDY)
    return data


def _from_zip(data: bytes, uri: str) -> bytes:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGE as error:
        raise _damaged(error, uri) from error
    with archive:
        names = sorted(archive.namelist())
        grids = [n for n in names if PurePosixPath(n).name.lower().endswith(_GRID)]
        grids = [n for n in grids if "__MACOSX" not in n]
        if len(grids) != 1:
            shown = ", ".join((grids or names)[:6]) or "nothing"
            raise HazardError(
                f"holds {len(grids) or 'no'} grid.xml", uri, "one grid.xml", shown, _REMEDY
            )
        return _bounded(partial(archive.open, grids[0]), uri)


def _bounded(opened: Callable[[], IO[bytes] | gzip.GzipFile], uri: str) -> bytes:
    most = DOCUMENT.most_bytes
    try:
        with opened() as source:
            data = source.read(most + 1)
    except _DAMAGE as error:
        raise _damaged(error, uri) from error
    if len(data) > most:
        raise HazardError("unpacks to too much", uri, f"at most {most:,} bytes", "more", _REMEDY)
    return data


def _damaged(error: Exception, uri: str) -> HazardError:
    return HazardError("archive is damaged", uri, got=str(error), remedy="download it again")
