"""Which views show pieces of ground, for products that cover an area instead of buildings."""

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.catalog.extents import scene_extent
from quakestream.catalog.pairing import scene_rank
from quakestream.domain import Scene, View


def views_of_ground(
    outline_N: NDArray[np.object_],
    post: Sequence[Scene],
    pre: Sequence[Scene],
    *,
    needs_pre: bool,
) -> list[tuple[View, NDArray[np.int64]]]:
    """Views and the pieces of ground each one is needed for, best view first.

    A piece that some view shows whole needs the best of those alone. A piece that none shows
    whole needs every view that shows a part of it.

    Args:
        outline_N: pieces of ground, EPSG:4326.
        post: scenes after the event.
        pre: scenes before the event; not used where none is needed.
    """
    if not len(outline_N):
        return []
    tree = shapely.STRtree(outline_N)
    shown = [(view, *_shown(tree, view)) for view in _ranked_views(post, pre, needs_pre)]
    open_N = np.ones(len(outline_N), np.bool_)
    needed: list[NDArray[np.int64]] = []
    for _, whole, _ in shown:
        needed.append(whole[open_N[whole]])
        open_N[whole] = False
    found = []
    for (view, _, part), whole in zip(shown, needed, strict=True):
        item = np.union1d(whole, part[open_N[part]])
        if len(item):
            found.append((view, item))
    return found


def view_rank(view: View) -> tuple[tuple[float | str, ...], ...]:
    """Sorts views: by the rank of the post scene, then by that of the pre scene."""
    pre = () if view.pre is None else scene_rank(view.pre, newest_first=True)
    return (scene_rank(view.post, newest_first=False), pre)


def _ranked_views(post: Sequence[Scene], pre: Sequence[Scene], needs_pre: bool) -> list[View]:
    if not needs_pre:
        views = [View(id=scene.id, post=scene) for scene in post]
    else:
        after = {scene.id for scene in post}
        others = [other for other in pre if other.id not in after]
        tree = shapely.STRtree([scene_extent(other) for other in others])
        extent_N = np.array([scene_extent(one) for one in post], object)
        pairs = tree.query(extent_N, predicate="intersects").T.tolist()
        views = [
            View(id=f"{post[i].id}__{others[j].id}", post=post[i], pre=others[j]) for i, j in pairs
        ]
    return sorted(views, key=view_rank)


def _shown(tree: shapely.STRtree, view: View) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pieces that a view shows whole, and those it shows at least a part of; ascending."""
    extent = scene_extent(view.post)
    if view.pre is not None:
        extent = extent.intersection(scene_extent(view.pre))
    whole = np.sort(tree.query(extent, predicate="covers"))
    part = np.sort(tree.query(extent, predicate="intersects"))
    return whole, part[~shapely.touches(extent, tree.geometries[part])]
