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
    shown = [(view, *_shown(outline_N, view)) for view in _ranked_views(post, pre, needs_pre)]
    open_N = np.ones(len(outline_N), np.bool_)
    needed: list[NDArray[np.int64]] = []
    for _, whole_N, _ in shown:
        needed.append(np.flatnonzero(whole_N & open_N))
        open_N &= ~whole_N
    found = []
    for (view, _, part_N), whole in zip(shown, needed, strict=True):
        item = np.union1d(whole, np.flatnonzero(part_N & open_N))
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
        views = [
            View(id=f"{one.id}__{other.id}", post=one, pre=other)
            for one in post
            for other in pre
            if other.id not in after
        ]
    return sorted(views, key=view_rank)


def _shown(
    outline_N: NDArray[np.object_], view: View
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pieces that a view shows whole, and those it shows at least a part of."""
    extent = scene_extent(view.post)
    if view.pre is not None:
        extent = extent.intersection(scene_extent(view.pre))
    shapely.prepare(extent)
    part_N = shapely.intersects(extent, outline_N) & ~shapely.touches(extent, outline_N)
    return np.asarray(shapely.covers(extent, outline_N)), np.asarray(part_N)
