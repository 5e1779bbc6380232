"""Items of a catalogue of ground, such as elevation tiles, that lie around an area, at any time."""

from collections.abc import Sequence

import shapely
from shapely.geometry import box

from quakestream.catalog.api import Bounds, api_root, search_api
from quakestream.catalog.documents import Harvest, collect, read_root
from quakestream.catalog.hrefs import HrefRule
from quakestream.catalog.items import RawItem, item_outline
from quakestream.errors import CatalogItemError, HazardError
from quakestream.storage import StorageOptions

_ITEMS = ("Feature", "FeatureCollection")


def items_around(
    place: str, boxes: Sequence[Bounds], options: StorageOptions, *, key: str
) -> Harvest | None:
    """Items of a static catalogue, or of a collection of a STAC API, in the order of their ids.

    Args:
        place: the catalogue, collection, NDJSON or stac-geoparquet.
        boxes: west, south, east, north in degrees.
        options: endpoints of the stores that hold it.
        key: key of the run file that names it, for errors.

    Returns:
        None for one item or item collection, which names its files itself.

    Raises:
        ConfigError: if it is no catalogue.
        HazardError: if it is an API without a collection.
        StorageError: if the store or service fails.
    """
    documents = read_root(place, options, key)
    if len(documents) == 1 and documents[0].get("type") in _ITEMS:
        return None
    root = api_root(documents[0], place, options) if len(documents) == 1 else None
    if root is None:
        harvest = collect(documents, place, options)
    elif not root[1]:
        raise HazardError(
            "names a STAC API and no collection of it",
            f"{key} {place}",
            expected="a collection, such as …/collections/cop-dem-glo-30",
            remedy="name the collection of elevations",
        )
    else:
        harvest = search_api(*root, list(boxes), [None], HrefRule(root=place, options=options))
    harvest.items = sorted(_inside(harvest, boxes), key=lambda item: (item.name, item.base))
    return harvest


def _inside(harvest: Harvest, boxes: Sequence[Bounds]) -> list[RawItem]:
    """The items that touch a box; those without a place are issues."""
    ground = shapely.union_all([box(*bounds) for bounds in boxes])
    shapely.prepare(ground)
    found = []
    for item in harvest.items:
        outline, oddity = _outline(item)
        if outline is None:
            harvest.issue(item.name, f"item has no position: {oddity}")
        elif shapely.intersects(ground, outline):
            found.append(item)
    return found


def _outline(item: RawItem) -> tuple[shapely.Geometry | None, str]:
    try:
        return item_outline(item, "data")
    except CatalogItemError as error:
        return None, str(error)
