"""The tiles of the elevation model around the AOI, out of catalogues and folders.

They are found once, in the plan. Workers get the names of rasters and search nothing.
"""

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from shapely.geometry.base import BaseGeometry

from quakestream.catalog.api import Bounds
from quakestream.catalog.around import items_around
from quakestream.catalog.items import RawItem
from quakestream.catalog.search import search_bounds
from quakestream.config import RunFile
from quakestream.domain import BundleSpec, Issue
from quakestream.errors import ConfigError, HazardError, InputError, RequestError, StorageError
from quakestream.hazard.dem_files import asset_href
from quakestream.hazard.layers import open_layer
from quakestream.hazard.zarr_rasters import is_zarr
from quakestream.storage import StorageOptions, is_remote, is_web, open_store
from quakestream.storage.uris import local_path

KEY = "terrain.dem"
MARGIN_DEG = 0.05
"""Ground around the AOI whose elevation is wanted: windows reach beyond it by some kilometres."""
TILE_SUFFIXES = (".tif", ".tiff", ".hgt", ".img", ".vrt", ".asc", ".flt", ".dem", ".jp2")
"""Names of elevation tiles in a folder."""
DOCUMENT_SUFFIXES = (".json", ".geojson", ".ndjson", ".jsonl", ".parquet", ".geoparquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemSearch:
    """A run that names the rasters of its elevation model, and how they were found."""

    run: RunFile
    issues: tuple[Issue, ...] = ()
    notes: tuple[str, ...] = ()


def find_dem(run: RunFile, aoi: BaseGeometry, specs: Sequence[BundleSpec]) -> DemSearch:
    """Puts tiles around the AOI in place of the catalogues and folders of `terrain.dem`.

    Where nothing is found, the run goes on without elevations, and an issue says why.

    Raises:
        ConfigError: if nothing is found and a bundle takes elevation or slope.
    """
    if run.terrain is None:
        return DemSearch(run=run)
    search = _Search(boxes=_boxes(aoi), run=run, issues=[], notes=[])
    try:
        places = tuple(p for place in run.terrain.dem_places for p in search.rasters(place))
    except (InputError, RequestError, StorageError) as error:
        if any(spec.takes_reflectance and spec.terrain_bands for spec in specs):
            raise ConfigError.of(error.problem) from error
        then = "the map is made without elevations"
        issue = Issue.of_error(error, run.terrain.elevation, "terrain", then)
        search.issues.append(issue)
        places = ()
    if places != run.terrain.dem_places:
        terrain = run.terrain.model_copy(update={"dem": list(places)})
        run = run.model_copy(update={"terrain": terrain})
    return DemSearch(run=run, issues=tuple(search.issues), notes=tuple(search.notes))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """A search for tiles around the AOI."""

    boxes: list[Bounds]
    run: RunFile
    issues: list[Issue]
    notes: list[str]

    def rasters(self, place: str) -> Iterator[str]:
        """The rasters that a place of the run file means; most are rasters themselves.

        Raises:
            InputError: if it is a catalogue or folder without elevations around the AOI.
            StorageError: if a store or service fails.
        """
        if is_folder(place):
            yield from self._of_folder(place)
        elif _may_be_catalogue(place):
            yield from self._of_catalogue(place)
        else:
            yield place

    def _of_folder(self, place: str) -> Iterator[str]:
        options = self.run.storage_options
        store = open_store(place, options)
        keys = store.list()
        top = next((k for k in ("catalog.json", "collection.json") if k in keys), None)
        if top is not None:
            yield from self._of_catalogue(store.uri_of(top))
            return
        tiles = [store.uri_of(k) for k in keys if k.lower().endswith(TILE_SUFFIXES)]
        items = [store.uri_of(k) for k in keys if k.lower().endswith(".json")]
        if not tiles and not items:
            raise HazardError(
                "folder holds no elevation tiles",
                f"{KEY} {place}",
                expected=f"rasters ({', '.join(TILE_SUFFIXES)}) or STAC items (.json)",
                got=f"{len(keys):,} other files" if keys else "nothing",
            )
        if tiles:
            found = [uri for uri in tiles if _covers(uri, self.boxes, options)]
            yield from self._with_note(place, found, len(tiles), "tiles")
            return
        for uri in items:
            yield from self._of_catalogue(uri)

    def _of_catalogue(self, place: str) -> Iterator[str]:
        try:
            harvest = items_around(place, self.boxes, self.run.storage_options, key=KEY)
        except ConfigError:
            if not place.lower().endswith(DOCUMENT_SUFFIXES):
                yield place  # an address without a suffix may be that of a raster
                return
            raise
        if harvest is None:
            yield place
            return
        self.issues.extend(harvest.issues)
        self.notes.extend(harvest.notes)
        yield from self._with_note(place, self._of_items(harvest.items), None, "items")

    def _of_items(self, items: Sequence[RawItem]) -> list[str]:
        """The rasters of items. One that cannot be used is an issue.

        Raises:
            InputError: if none of them can be used.
        """
        asset = self.run.terrain.asset if self.run.terrain else None
        found, errors = [], []
        for item in items:
            try:
                found.append(item.place(asset_href(item.document, item.base, asset)))
            except InputError as error:
                errors.append(error)
                self.issues.append(Issue.of_error(error, item.name, "terrain"))
        if errors and not found:
            raise errors[0]
        return found

    def _with_note(self, place: str, found: list[str], of: int | None, noun: str) -> list[str]:
        """The tiles that were found, each once, with a note.

        Raises:
            HazardError: if there are none.
        """
        if not found:
            west, south, east, north = self.boxes[0]
            raise HazardError(
                "no elevation tile lies around the AOI",
                f"{KEY} {place}",
                got=f"none of {of:,} {noun}" if of else f"no {noun}",
                remedy=f"give elevations of {west:.2f}, {south:.2f}, {east:.2f}, {north:.2f}",
            )
        unique = list(dict.fromkeys(found))
        whole = f" of {of:,}" if of else ""
        self.notes.append(f"{KEY}: {len(unique):,}{whole} {noun} of {place} lie around the AOI")
        return unique


def is_folder(place: str) -> bool:
    """True for a folder of files: one of this machine, or a prefix of a store that ends in `/`."""
    if is_zarr(place) or is_web(place):
        return False
    if is_remote(place):
        return place.endswith("/")
    return os.path.isdir(local_path(place))


def _may_be_catalogue(place: str) -> bool:
    """True for documents, and for addresses without a suffix, as collections of an API have."""
    if is_zarr(place):
        return False
    name = posixpath.basename(urlsplit(place).path if is_web(place) else place)
    return name.lower().endswith(DOCUMENT_SUFFIXES) or (is_web(place) and "." not in name)


def _covers(uri: str, boxes: Sequence[Bounds], options: StorageOptions) -> bool:
    """True where a raster has pixels in one of the boxes.

    Raises:
        HazardError: if it cannot be opened.
    """
    with open_layer(uri, options) as layer:
        windows = layer.frame.box_windows(np.array(boxes))
        return any(layer.frame.inside(window).height for window in windows)


def _boxes(aoi: BaseGeometry) -> list[Bounds]:
    """Boxes around the AOI and its margin; two across 180°."""
    boxes = []
    for west, south, east, north in search_bounds(aoi):
        steepest = min(max(abs(south), abs(north)), 85.0)
        wide = MARGIN_DEG / float(np.cos(np.radians(steepest)))
        boxes.append(
            (
                max(west - wide, -180.0),
                max(south - MARGIN_DEG, -90.0),
                min(east + wide, 180.0),
                min(north + MARGIN_DEG, 90.0),
            )
        )
    return boxes
