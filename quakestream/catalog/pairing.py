"""Chooses the pre and the post scene of each footprint."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.catalog.extents import scene_extent
from quakestream.catalog.footprints import Footprints
from quakestream.domain import Scene, View

UNKNOWN_CLOUD_PERCENT = 50.0
"""Cloud cover of a scene without that field, for ranking."""
LEAST_COVER = 0.5
"""Smallest share of a footprint that a scene must show to be used for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """The best view of each footprint."""

    views: list[View]
    """Views that are used by a footprint, sorted by id."""
    view_of_N: NDArray[np.int64]
    """Index into `views`, -1 without a view, shape (N,)."""
    reason_of_N: NDArray[np.object_]
    """None, `no_imagery` or `no_pre`, shape (N,)."""


def assign_views(
    footprints: Footprints, post: Sequence[Scene], pre: Sequence[Scene], needs_pre: bool
) -> Views:
    """The best post scene of each footprint, and its best pre scene for models that need one.

    Tiles of one acquisition are one scene (`catalog/acquisitions.py`).

    Scenes rank by the share of the footprint they show (whole before part, more before less),
    cloud (unknown counts as 50 %), date nearest to the event (post: the earliest, since repair
    and clearance begin at once; pre: the latest), off-nadir angle, GSD and id. The ranking is a
    total order, so the order of scenes and footprints does not matter. Where no scene shows a
    footprint whole, the scene that shows most of it is used if it shows at least half; the
    valid fraction decides later whether that is enough. A scene is never paired with itself.
    """
    outline_N = _outlines(footprints)
    post_N, post_ranked = _best(outline_N, post, newest_first=False)
    if not needs_pre:
        return _views(post_N, post_ranked, None, [])
    post_ids = {scene.id for scene in post}
    others = [scene for scene in pre if scene.id not in post_ids]
    pre_N, pre_ranked = _best(outline_N, others, newest_first=True)
    return _views(post_N, post_ranked, pre_N, pre_ranked)


def coverage_reasons(views: Views) -> dict[str, int]:
    """Number of covered footprints, and of uncovered ones by reason."""
    return dict(Counter(str(reason or "covered") for reason in views.reason_of_N))


def _outlines(footprints: Footprints) -> NDArray[np.object_]:
    """Outlines to compare with scenes; the representative point of invalid ones."""
    outline_N = np.asarray(footprints.table.geometry.values, object).copy()
    outline_N[footprints.invalid] = footprints.representative[footprints.invalid]
    return outline_N


def _best(
    outline_N: NDArray[np.object_], scenes: Sequence[Scene], *, newest_first: bool
) -> tuple[NDArray[np.int64], list[Scene]]:
    """Rank of each footprint's best scene, -1 without one, and the scenes by rank."""
    ranked = sorted(scenes, key=lambda scene: scene_rank(scene, newest_first))
    extents = np.array([scene_extent(scene) for scene in ranked], object)
    none = len(ranked)
    best_N = np.full(len(outline_N), none, np.int64)
    if none == 0:
        return best_N - 1, ranked
    tree = shapely.STRtree(outline_N)
    scene_A, row_A, rank_A = _whole(tree, ranked, extents, newest_first)
    order = np.lexsort((scene_A, rank_A, row_A))
    rows, first = np.unique(row_A[order], return_index=True)
    best_N[rows] = scene_A[order][first]
    rest = np.flatnonzero(best_N == none)
    if len(rest):
        best_N[rest] = _best_part(outline_N[rest], extents)
    best_N[best_N == none] = -1
    return best_N, ranked


def _whole(
    tree: shapely.STRtree, scenes: list[Scene], extents: NDArray[np.object_], newest_first: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of scene and outline that it shows whole, with the rank of each pair.

    Where one tile of an acquisition shows the outline, its own cloud cover and angle count: a
    strip may be clear at one end alone. On a seam, those of the acquisition count.
    """
    tiles = [(n, tile) for n, scene in enumerate(scenes) for tile in scene.tiles]
    sources = [*enumerate(scenes), *tiles]
    keys = [_local_rank(scenes[n], part, newest_first) for n, part in sources]
    place = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    rank_N = np.array([place[key] for key in keys], np.int64)
    scene_N = np.array([n for n, _ in sources], np.int64)
    extent_N = np.array([*extents, *(scene_extent(tile) for _, tile in tiles)], object)
    source_A, row_A = tree.query(extent_N, predicate="covers")
    pair_A = scene_N[source_A] * len(tree.geometries) + row_A
    of_tile_A = source_A >= len(scenes)
    keep_A = of_tile_A | ~np.isin(pair_A, pair_A[of_tile_A])
    source_A, row_A = source_A[keep_A], row_A[keep_A]
    return scene_N[source_A], row_A, rank_N[source_A]


def _local_rank(scene: Scene, part: Scene, newest_first: bool) -> tuple[float | str, ...]:
    """Rank of a scene where one of its tiles shows the ground."""
    cloud, angle = part.cloud_cover, part.off_nadir_deg
    here = replace(
        scene,
        cloud_cover=scene.cloud_cover if cloud is None else cloud,
        off_nadir_deg=scene.off_nadir_deg if angle is None else angle,
    )
    return scene_rank(here, newest_first)


def _best_part(outline_N: NDArray[np.object_], extents: NDArray[np.object_]) -> NDArray[np.int64]:
    """Rank of the scene that shows most of each outline, if it shows at least half."""
    rank, row = shapely.STRtree(outline_N).query(extents, predicate="intersects")
    overlap = shapely.area(shapely.intersection(extents[rank], outline_N[row]))
    whole = shapely.area(outline_N[row])
    # Rounded, so that the last bits of a float do not decide between equals.
    share = np.round(np.divide(overlap, whole, out=np.zeros_like(overlap), where=whole > 0), 6)
    enough = share >= LEAST_COVER
    rank, row, share = rank[enough], row[enough], share[enough]
    best_N = np.full(len(outline_N), len(extents), np.int64)
    order = np.lexsort((rank, -share, row))
    rows, first = np.unique(row[order], return_index=True)
    best_N[rows] = rank[order][first]
    return best_N


def scene_rank(scene: Scene, newest_first: bool) -> tuple[float | str, ...]:
    time_s = scene.datetime.timestamp()
    return (
        UNKNOWN_CLOUD_PERCENT if scene.cloud_cover is None else scene.cloud_cover,
        -time_s if newest_first else time_s,
        90.0 if scene.off_nadir_deg is None else scene.off_nadir_deg,
        np.inf if scene.gsd_m is None else scene.gsd_m,
        scene.id,
        scene.href,
    )


def _views(
    post_N: NDArray[np.int64],
    post: list[Scene],
    pre_N: NDArray[np.int64] | None,
    pre: list[Scene],
) -> Views:
    reason_N = np.full(len(post_N), None, object)
    chosen_N = post_N >= 0
    if pre_N is not None:
        reason_N[pre_N < 0] = "no_pre"
        chosen_N = chosen_N & (pre_N >= 0)
    reason_N[post_N < 0] = "no_imagery"
    pair_N2 = np.stack([post_N, post_N if pre_N is None else pre_N], axis=1)
    pairs, inverse = np.unique(pair_N2[chosen_N], axis=0, return_inverse=True)
    views = [
        View(id=post[i].id, post=post[i])
        if pre_N is None
        else View(id=f"{post[i].id}__{pre[j].id}", post=post[i], pre=pre[j])
        for i, j in pairs.tolist()
    ]
    order = sorted(range(len(views)), key=lambda k: views[k].id)
    place = np.empty(len(views), np.int64)
    place[order] = np.arange(len(views))
    view_N = np.full(len(post_N), -1, np.int64)
    view_N[chosen_N] = place[inverse.reshape(-1)]
    return Views(views=[views[k] for k in order], view_of_N=view_N, reason_of_N=reason_N)
