"""Finds the scenes of a run in any kind of catalogue, with the same filters."""

import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import shapely
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from quakestream.catalog.api import Bounds, api_root, search_api
from quakestream.catalog.documents import Harvest, collect, read_root
from quakestream.catalog.hrefs import HrefRule
from quakestream.catalog.images import image_item, is_image
from quakestream.catalog.items import (
    ParsedItem,
    RawItem,
    acquired_of,
    first_asset,
    item_outline,
    parse_item,
    places_of,
)
from quakestream.catalog.layers import item_layers
from quakestream.catalog.passed_over import PassedOver
from quakestream.catalog.times import AcquisitionTime
from quakestream.config import EpochFilter, ImagerySection
from quakestream.domain import NOTHING_STATED, BandNeed, Epoch, Issue, Scene
from quakestream.errors import CatalogItemError
from quakestream.storage import StorageOptions
from quakestream.tiling.antimeridian import HALF_TURN

_HEADERS = 8
NOTE_IDS = 5
"""Items that a note about them names."""
MOST_CAUSE = 300
"""Characters of a foreign error that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchResult:
    """Scenes in the AOI that pass the filters, earliest first, and faults of the catalogue."""

    post: list[Scene]
    pre: list[Scene]
    issues: list[Issue]
    """Items in the AOI and the interval that cannot be used."""
    notes: list[str]
    """Harmless oddities, with the ids of their items."""
    lacking: list["LackingItem"] = field(default_factory=list)
    """Items that pass the filters and lack bands."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """Why the other items of the catalogue are no post scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LackingItem:
    """An item without all bands that a bundle takes."""

    id: str
    epoch: Epoch
    missing: tuple[str, ...]
    offered: tuple[str, ...]


@dataclass(slots=True)
class _Sorter:
    """Sorts items into scenes, issues and notes."""

    imagery: ImagerySection
    aoi: BaseGeometry
    options: StorageOptions
    need: BandNeed | None = None
    lacking: list[LackingItem] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)
    scenes: dict[str, list[Scene]] = field(default_factory=lambda: {"post": [], "pre": []})
    issues: list[Issue] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=dict)
    hrefs: dict[str, str] = field(default_factory=dict)

    def add(self, raw: RawItem) -> None:
        """Adds one item. Broken ones are issues only if they may lie in AOI and interval."""
        try:
            asset = first_asset(raw, self.imagery.assets)
            outline, oddity = item_outline(raw, asset)
            if outline is None:
                raise CatalogItemError(
                    f"item has no position: {oddity}, no bbox and no raster fields"
                )
            if not shapely.intersects(self.aoi, outline):
                self._pass_over(raw, outline)
                return
            acquired = acquired_of(raw)
            match = self._epoch(acquired)
            if match is None:
                self.passed_over.times.append(acquired.start)
                return
            item = self._item(raw, asset, outline, match[0])
            if item is not None and self._is_new(item.scene):
                self._add_scene(item, *match, oddity)
        except CatalogItemError as error:
            self.issues.append(Issue.of_error(error, raw.name, "item"))
        except Exception as error:  # an item may hold anything, and must not cost the others
            cause = f"item cannot be understood: {type(error).__name__}: {error}"
            self.issues.append(Issue(subject=raw.name, kind="item", cause=cause[:MOST_CAUSE]))

    def _pass_over(self, raw: RawItem, outline: BaseGeometry) -> None:
        """Counts an item that does not touch the AOI."""
        self.passed_over.elsewhere += 1
        try:
            match = self._epoch(acquired_of(raw))
        except Exception:  # whatever its time is: it lies elsewhere, and is no issue of the run
            return
        if match is not None and match[0] == "post":
            self.passed_over.add_outside(raw.name, outline)

    def _item(
        self, raw: RawItem, asset: str, outline: BaseGeometry, epoch: Epoch
    ) -> ParsedItem | None:
        """The item as a scene; None where it lacks bands that the bundle takes.

        Raises:
            CatalogItemError: if it cannot be a scene.
        """
        if self.need is None:
            return parse_item(raw, asset, outline)
        only, places = self.imagery.only_assets, places_of(raw)
        found = item_layers(raw.document, places, self.need, only, self.options)
        if found.missing:
            lacking = LackingItem(
                id=raw.name, epoch=epoch, missing=found.missing, offered=found.offered
            )
            self.lacking.append(lacking)
            return None
        item = parse_item(raw, found.asset, outline)
        scene = replace(item.scene, layers=found.layers, mask=found.mask, stated=NOTHING_STATED)
        return replace(item, scene=scene)

    def _epoch(self, time: AcquisitionTime) -> tuple[Epoch, EpochFilter] | None:
        """The epoch of a time and its filter; None outside both intervals.

        Raises:
            CatalogItemError: if only a part of the time span lies in an interval.
        """
        filters: dict[Epoch, EpochFilter | None] = {
            "post": self.imagery.post,
            "pre": self.imagery.pre,
        }
        vague = ""
        for epoch, limits in filters.items():
            if limits is None or time.end < limits.start or time.start > limits.end:
                continue
            if limits.start <= time.start and time.end <= limits.end:
                return epoch, limits
            vague = epoch
        if vague:
            raise CatalogItemError(
                f"time is only partly in imagery.{vague}.datetime",
                got=f"{time.start:%Y-%m-%dT%H:%M:%SZ} to {time.end:%Y-%m-%dT%H:%M:%SZ}",
                remedy="give its exact time",
            )
        return None

    def _is_new(self, scene: Scene) -> bool:
        """False for an item that was added before.

        Raises:
            CatalogItemError: if an item with that id and another file was added before.
        """
        known = self.hrefs.setdefault(scene.id, scene.href)
        if known == scene.href:
            if all(scene.id != s.id for scenes in self.scenes.values() for s in scenes):
                return True
            self.oddities.setdefault("listed twice in the catalogue", []).append(scene.id)
            return False
        raise CatalogItemError("another item has this id", expected=known, got=scene.href)

    def _add_scene(self, item: ParsedItem, epoch: Epoch, limits: EpochFilter, oddity: str) -> None:
        order = limits.bands or self.imagery.bands or ()
        scene = replace(item.scene, stated=replace(item.scene.stated, order=order))
        unknown = _unknown_limits(scene, limits)
        if not self.passed_over.passes(scene, epoch, limits):
            return
        for phrase in [
            *item.notes,
            *([oddity] if oddity else []),
            *(f"{epoch}: {u}" for u in unknown),
        ]:
            self.oddities.setdefault(phrase, []).append(scene.id)
        self.scenes[epoch].append(scene)


def search(
    imagery: ImagerySection,
    aoi: BaseGeometry,
    options: StorageOptions | None = None,
    *,
    need: BandNeed | None = None,
    harvest: Harvest | None = None,
) -> SearchResult:
    """Scenes of each epoch that touch the AOI, from any kind of catalogue.

    A catalogue is a static catalogue, an item collection (JSON, NDJSON, stac-geoparquet), one
    item, a STAC API, or a list of images; its content tells which. A filter on a property that
    an item lacks keeps the item and adds a note. An item whose time is a span belongs to an
    epoch if the whole span does.

    Args:
        need: bands of physical values that scenes must offer; None: scenes of `imagery.asset`.
        harvest: items found before by `find_items`, so that a second bundle asks no service again.

    Raises:
        ConfigError: if the catalogue is missing or is not a catalogue.
        StorageError: if the store or service fails.
    """
    options = options or StorageOptions()
    harvest = harvest or find_items(imagery, aoi, options)
    sorter = _Sorter(imagery=imagery, aoi=aoi, options=options, need=need)
    shapely.prepare(aoi)
    for raw in sorted(harvest.items, key=lambda item: (item.name, item.base)):
        sorter.add(raw)
    return SearchResult(
        post=_in_order(sorter.scenes["post"]),
        pre=_in_order(sorter.scenes["pre"]),
        issues=[*harvest.issues, *sorter.issues],
        notes=[
            *harvest.notes,
            *(_note(phrase, ids) for phrase, ids in sorted(sorter.oddities.items())),
        ],
        lacking=sorter.lacking,
        passed_over=sorter.passed_over,
    )


def find_items(
    imagery: ImagerySection,
    aoi: BaseGeometry,
    options: StorageOptions,
    *,
    any_time: bool = False,
) -> Harvest:
    """Items of the catalogue that may lie in the AOI and the intervals, whatever they show.

    Args:
        any_time: services are asked for a first page of items of any time.

    Raises:
        ConfigError: if the catalogue is missing or is not a catalogue.
        StorageError: if the store or service fails.
    """
    places = [imagery.catalog] if isinstance(imagery.catalog, str) else imagery.catalog
    harvest = _from_images([p for p in places if is_image(p)], imagery.assets[0], options)
    filters = [f for f in (imagery.post, imagery.pre) if f is not None]
    intervals = None if any_time else [_interval(f) for f in filters]
    for place in places:
        if not is_image(place):
            harvest.extend(_from_catalogue(place, aoi, options, intervals))
    return harvest


def _from_images(places: Sequence[str], asset: str, options: StorageOptions) -> Harvest:
    harvest = Harvest()

    def read(place: str) -> RawItem | CatalogItemError:
        try:
            return image_item(place, options, asset)
        except CatalogItemError as error:
            return error

    with ThreadPoolExecutor(_HEADERS) as pool:
        for place, result in zip(places, pool.map(read, places), strict=True):
            if isinstance(result, RawItem):
                harvest.items.append(result)
            else:
                harvest.issue(place, result)
    return harvest


def _from_catalogue(
    place: str, aoi: BaseGeometry, options: StorageOptions, intervals: list[str] | None
) -> Harvest:
    """Items of a catalogue; of services those of some intervals, or a first page of any time."""
    documents = read_root(place, options)
    root = api_root(documents[0], place, options) if len(documents) == 1 else None
    if root is None:
        return collect(documents, place, options)
    rule = HrefRule(root=place, options=options)
    return search_api(
        *root, search_bounds(aoi), intervals or [None], rule, first_page=intervals is None
    )


def search_bounds(aoi: BaseGeometry) -> list[Bounds]:
    """Boxes around an area: one, or one on each side of 180°.

    Services differ in how they read a box with west > east; two plain ones are read alike.
    """
    whole = aoi.bounds
    if whole[2] - whole[0] <= HALF_TURN:
        return [whole]
    sides = (box(-180, -90, 0, 90), box(0, -90, 180, 90))
    parts = [shapely.intersection(aoi, side) for side in sides]
    return [part.bounds for part in parts if not part.is_empty]


def _interval(limits: EpochFilter) -> str:
    def edge(moment: dt.datetime) -> str:
        if moment.year in (dt.MINYEAR, dt.MAXYEAR):
            return ".."
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return f"{edge(limits.start)}/{edge(limits.end)}"


def _unknown_limits(scene: Scene, limits: EpochFilter) -> list[str]:
    """Filters that cannot be applied, since the scene lacks the property."""
    notes = []
    if limits.max_cloud is not None and scene.cloud_cover is None:
        notes.append("cloud cover is unknown; used despite max_cloud")
    if limits.max_off_nadir is not None and scene.off_nadir_deg is None:
        notes.append("off-nadir angle is unknown; used despite max_off_nadir")
    return notes


def _note(phrase: str, ids: list[str]) -> str:
    items = "1 item" if len(ids) == 1 else f"{len(ids):,} items"
    more = f" and {len(ids) - NOTE_IDS:,} more" if len(ids) > NOTE_IDS else ""
    return f"{items}: {phrase}: {', '.join(ids[:NOTE_IDS])}{more}"


def _in_order(scenes: list[Scene]) -> list[Scene]:
    return sorted(scenes, key=lambda scene: (scene.datetime, scene.id))
