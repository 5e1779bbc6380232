"""Labelled pairs of the Türkiye 2023 scenes.

Destroyed buildings are those that OpenStreetMap calls destroyed. Intact buildings are detector
boxes that are seen in both epochs and keep clear of the destroyed ones. OpenStreetMap is
incomplete, and the boxes are the output of a model. All other ground is unlabelled, and some labels
are wrong.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd
from shapely import STRtree
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from quakestream.errors import RequestError
from training.data.pairs import Building, Image, LabelledPair, pair_up, read_image

REGION_OF_SCENE = {
    "adiyaman2": "adiyaman",
    "adiyaman3": "adiyaman",
    "adiyaman4": "adiyaman",
    "adiyaman6": "adiyaman",
    "turkoglu1": "turkoglu-hatay",
    "hatay_ekinci": "turkoglu-hatay",
}
"""Region of each scene. A region is a city: its scenes share the sensor, the day and the way of
building. Türkoğlu and Hatay are one region, because they have three destroyed buildings together.
gaziantep2 is left out, because its images lie 2 km apart."""

CLEAR_M = 4.0
"""Boxes nearer than this to a destroyed polygon are unlabelled, because polygons are metres off."""


def turkiye_pairs(data_dir: Path, *, vanished: bool = False) -> list[LabelledPair]:
    """The pairs of all scenes. Ground that two scenes show is labelled in the first one only.

    Args:
        data_dir: folder of the data.
        vanished: add boxes that the detector found before the event alone. Their state is not
            known: the building may be gone, or the detector may have missed it.

    Raises:
        RequestError: if the scenes are missing.
    """
    root = data_dir / "turkiye-2023-scenes"
    if not root.is_dir():
        raise RequestError(
            "no training scenes", str(root), remedy="set QUAKESTREAM_DATA to the folder of the data"
        )
    osm = gpd.read_file(root / "labels" / "osm_destroyed_buildings_turkiye.geojson")
    pairs: list[LabelledPair] = []
    for name, region in REGION_OF_SCENE.items():
        pre, post = _images(root / "imagery", name)
        boxes = gpd.read_file(root / "labels" / f"{name}_detection_boxes.geojson")
        crs = f"EPSG:{post.grid.epsg}"
        pair = LabelledPair(name=name, region=region, pre=pre, post=post, buildings=())
        shown = [other.outline for other in pairs if other.grid == post.grid]
        buildings = label_buildings(
            destroyed=_by_id(osm.to_crs(crs), prefix="osm"),
            boxes=_by_id(
                boxes[boxes["status"] == "present_in_both"].to_crs(crs), prefix=f"box-{name}"
            ),
            unlabelled=_by_id(
                boxes[boxes["status"] == "only_in_pre"].to_crs(crs), prefix=f"gone-{name}"
            )
            if vanished
            else {},
            own_ground=pair.outline.difference(unary_union(shown)),
        )
        pairs.append(
            LabelledPair(name=name, region=region, pre=pre, post=post, buildings=buildings)
        )
    return pairs


def label_buildings(
    *,
    destroyed: dict[str, BaseGeometry],
    boxes: dict[str, BaseGeometry],
    own_ground: BaseGeometry,
    unlabelled: Mapping[str, BaseGeometry] = MappingProxyType({}),
    clear_m: float = CLEAR_M,
) -> tuple[Building, ...]:
    """Buildings that lie wholly on a scene's own ground (metres, one CRS).

    A box within `clear_m` of a destroyed polygon has an unknown state and is left out.
    `unlabelled` boxes are kept as such, so that no model is judged on them.
    """
    known = [
        Building(id=id_, geometry=geometry, destroyed=True)
        for id_, geometry in destroyed.items()
        if own_ground.contains(geometry)
    ]
    tree = STRtree(list(destroyed.values()))
    for id_, geometry in {**boxes, **unlabelled}.items():
        touched = tree.query(geometry, predicate="dwithin", distance=clear_m)
        if own_ground.contains(geometry) and not len(touched):
            building = Building(id=id_, geometry=geometry, destroyed=False, judged=id_ in boxes)
            known.append(building)
    return tuple(known)


def default_data_dir() -> Path:
    """`QUAKESTREAM_DATA`, else `../shared/data` relative to the root of the project."""
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("QUAKESTREAM_DATA", root / "../shared/data"))


def _images(folder: Path, name: str) -> tuple[Image, Image]:
    pre, post = (
        read_image(next(folder.glob(f"{name}_{epoch}_*.tif"))) for epoch in ("pre", "post")
    )
    return pair_up(pre, post)


def _by_id(table: gpd.GeoDataFrame, *, prefix: str) -> dict[str, BaseGeometry]:
    return {
        f"{prefix}-{i}": geometry.buffer(0)
        for i, geometry in enumerate(table.geometry)
        if geometry is not None and not geometry.is_empty
    }
