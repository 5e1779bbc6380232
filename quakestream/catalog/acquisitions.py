"""Finds the tiles of one acquisition, which are read as one scene.

Vendors cut what a satellite sees in one pass over a place into tiles: Maxar ARD by quadkey, Airbus
DIMAP by row and column, others by strip. A building on a seam is on several tiles, and tiles that
are normalised apart look different where they are not.

Scenes are tiles of one acquisition if

- the vendor says so: they have the same platform and the same id of the acquisition (`ID_FIELDS`);
- or they have no such id, the same platform, exact times at most `SAME_TIME_S` apart, and their
  outlines touch or overlap;
- or they have no such id, the same day and no time, outlines that touch, no large overlap
  (`LARGE_OVERLAP`), and pixels of one lattice: two images of one day may be two acquisitions.

Pixel sizes that differ by more than `SAME_GSD`, and 8 bits beside 16 bits, keep scenes apart.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from quakestream.catalog.extents import scene_extent, tiles_extent
from quakestream.domain import Scene, acquisition_of, one_lattice

ID_FIELDS = (
    "catalog_id",
    "catid",
    "catalogid",
    "acquisition_id",
    "acquisitionIdentifier",
    "acquisition_identifier",
    "strip_id",
    "pl:strip_id",
    "collect_id",
    "satl:outcome_id",
)
"""Properties in which vendors write the id of an acquisition: Maxar and Vantor, Airbus, Planet,
Satellogic."""
SAME_TIME_S = 5.0
"""Vendors round times, or give the time of each tile's middle: tiles of 5 km are less than a
second apart. A satellite needs longer to turn to its next strip."""
SAME_GSD = 1.25
"""Pixels of one strip are up to 15 % larger where the view is oblique."""
LARGE_OVERLAP = 0.5
"""Part of the smaller of two images of one day. Tiles overlap by less."""
TOUCH_DEG = 5e-6
"""Distance of outlines that touch: half a metre."""


def acquisition_fields(properties: Mapping[str, Any]) -> tuple[str, str]:
    """Platform and id of the acquisition of a scene, from the properties of its item."""
    named = (properties.get(name) for name in ID_FIELDS)
    ids = [str(v).strip() for v in named if isinstance(v, (str, int)) and not isinstance(v, bool)]
    platform = properties.get("platform")
    satellite = platform.strip().lower() if isinstance(platform, str) else ""
    return satellite, next((i for i in ids if i), "")


def acquisitions(scenes: Iterable[Scene]) -> list[Scene]:
    """The scenes, with those that are tiles of one acquisition joined.

    The order of the scenes does not matter. Scenes that stand alone come back as they are.
    """
    alike: dict[tuple[str, ...], list[Scene]] = defaultdict(list)
    for scene in scenes:
        alike[_likeness(scene)].append(scene)
    joined = []
    for group in alike.values():
        if len(group) == 1:
            joined += group
            continue
        group.sort(key=lambda scene: (scene.id, scene.href))
        label_N = _labels(group)
        for label in dict.fromkeys(label_N.tolist()):
            tiles = [group[n] for n in np.flatnonzero(label_N == label)]
            joined.append(tiles[0] if len(tiles) == 1 else of_tiles(tiles))
    return sorted(joined, key=lambda scene: (scene.datetime, scene.id, scene.href))


def of_tiles(tiles: Sequence[Scene]) -> Scene:
    """The acquisition that tiles make up, with the outline of the ground they show."""
    return replace(acquisition_of(tiles), outline=tiles_extent(tiles))


def _likeness(scene: Scene) -> tuple[str, ...]:
    """What scenes of one acquisition share, whatever their time and place."""
    deep = "layers" if scene.layers else "" if scene.stretch is None else "16"
    if scene.acquisition:
        return ("id", scene.platform, scene.acquisition, deep)
    if scene.span_s > 0:
        return ("span", scene.platform, scene.datetime.isoformat(), str(scene.span_s), deep)
    return ("time", scene.platform, deep)


def _labels(group: list[Scene]) -> NDArray[np.int64]:
    """A number for each scene; scenes of one acquisition have the same."""
    gsd_N = np.array([scene.gsd_m or np.nan for scene in group])
    if group[0].acquisition:  # place does not matter; neighbours by size of pixel do
        order = np.argsort(gsd_N)
        one_A, other_A = order[:-1], order[1:]
    else:
        extent_N = np.array([scene_extent(scene) for scene in group], object)
        tree = shapely.STRtree(extent_N)
        one_A, other_A = tree.query(extent_N, predicate="dwithin", distance=TOUCH_DEG)
        keep_A = one_A < other_A
        one_A, other_A = one_A[keep_A], other_A[keep_A]
        time_N = np.array([scene.datetime.timestamp() for scene in group])
        near_A = np.abs(time_N[one_A] - time_N[other_A]) <= SAME_TIME_S
        if group[0].span_s > 0:
            near_A &= _tiled(group, extent_N, one_A, other_A)
        one_A, other_A = one_A[near_A], other_A[near_A]
    ratio_A = gsd_N[one_A] / gsd_N[other_A]
    like_A = ~((ratio_A > SAME_GSD) | (ratio_A < 1 / SAME_GSD))
    one_A, other_A = one_A[like_A], other_A[like_A]
    links = coo_array((np.ones(len(one_A)), (one_A, other_A)), shape=(len(group), len(group)))
    labels: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return labels


def _tiled(
    group: list[Scene],
    extent_N: NDArray[np.object_],
    one_A: NDArray[np.int64],
    other_A: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """True for pairs that lie side by side on one lattice."""
    shared_A = shapely.area(shapely.intersection(extent_N[one_A], extent_N[other_A]))
    area_N = shapely.area(extent_N)
    smaller_A = np.minimum(area_N[one_A], area_N[other_A])
    pairs = zip(one_A.tolist(), other_A.tolist(), strict=True)
    lattice_A = np.array([one_lattice([group[i], group[j]]) for i, j in pairs], np.bool_)
    return np.asarray((shared_A <= LARGE_OVERLAP * smaller_A) & lattice_A)
