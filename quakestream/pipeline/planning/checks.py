"""What a run would stumble over later: absent inputs, an output that is shut.

Found here, several problems are told at once, the worst first.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from quakestream.config import RunFile, aoi_kind
from quakestream.domain import Issue
from quakestream.errors import ConfigError, Problem, StorageError
from quakestream.hazard.zarr_rasters import group_of
from quakestream.outputs.layout import LEDGER
from quakestream.storage import open_store, protocol_of
from quakestream.storage.uris import local_path

_PROBE = f"{LEDGER}writable"


def check_files_exist(run: RunFile) -> None:
    """Raises one error for all files of this machine that the run names and that do not exist.

    Hazard layers and districts alone are no reason to refuse a run, but are named with the rest.

    Raises:
        ConfigError: if the AOI, the footprints or an image is not there.
    """
    needed = [_missing(key, place) for key, place in _needed(run) if _absent(place)]
    if needed:
        others = [_missing(key, place) for key, place in _wanted(run) if _absent(place)]
        raise ConfigError.of_all([*needed, *others])


def later_problems(run: RunFile) -> list[Issue]:
    """Problems that `map` would meet and planning does not: an output that cannot be written."""
    return [] if run.out is None else list(_output_issues(run.out, run))


def _needed(run: RunFile) -> Iterator[tuple[str, str]]:
    if aoi_kind(run.aoi) not in ("bbox", "wkt"):
        yield "aoi", run.aoi
    if run.footprints is not None:
        yield "footprints.path", run.footprints.path
    catalog = run.imagery.catalog
    for place in [catalog] if isinstance(catalog, str) else catalog:
        yield "imagery.catalog", place


def _wanted(run: RunFile) -> Iterator[tuple[str, str]]:
    for place in run.hazard.shakemaps:
        yield "hazard.shakemaps", place
    if run.hazard.vs30 is not None:
        yield "hazard.vs30", run.hazard.vs30
    for name, place in run.hazard.layers.items():
        yield f"hazard.layers.{name}", place
    if run.terrain is not None:
        for place in run.terrain.dem_places:
            yield "terrain.dem", group_of(place)
    if run.roads is not None:
        yield "roads.path", run.roads.path
    if run.summary is not None:
        yield "summary.admin", run.summary.admin


def _absent(place: str) -> bool:
    return protocol_of(place) == "file" and not os.path.lexists(local_path(place))


def _missing(key: str, place: str) -> Problem:
    return Problem("there is no such file", f"{key}: {place}", remedy="check the path")


def _output_issues(out: str, run: RunFile) -> Iterator[Issue]:
    """Why the output cannot be written. A store is tried with a small object."""
    cause = ""
    if protocol_of(out) == "file":
        folder = _nearest(Path(local_path(out)))
        if not folder.is_dir():
            cause = f"{folder} is a file, not a folder"
        elif not os.access(folder, os.W_OK | os.X_OK):
            cause = f"{folder} may not be written by this user"
    else:
        try:
            store = open_store(out, run.storage_options)
            store.put(_PROBE, b"")
            store.delete(_PROBE)
        except StorageError as error:
            cause = str(error)
    if cause:
        yield Issue(
            subject=out,
            kind="out",
            cause=f"the map cannot be written: {cause}; choose another `out` or give --out",
        )


def _nearest(path: Path) -> Path:
    """The path itself, or the folder above it that exists."""
    return next((p for p in (path, *path.parents) if p.exists()), path)
