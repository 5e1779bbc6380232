"""Plans without tiles that turned out to be unreadable: the rest of their acquisitions goes on."""

from collections.abc import Collection
from dataclasses import replace

from quakestream.catalog import of_tiles
from quakestream.domain import Scene, View
from quakestream.pipeline.planning.plan import Plan


def without_tiles(plan: Plan, lost: Collection[str]) -> Plan:
    """The plan with tiles taken out of their acquisitions, which show nothing there.

    An acquisition that has no other tile stays as it is: its views fail as a scene's do.

    Args:
        lost: ids of tiles.
    """
    scenes = {s.id: _without(s, lost) for view in plan.views for s in view.scenes if s.tiles}

    def changed(view: View) -> View:
        post = scenes.get(view.post.id, view.post)
        pre = None if view.pre is None else scenes.get(view.pre.id, view.pre)
        return View(id=post.id if pre is None else f"{post.id}__{pre.id}", post=post, pre=pre)

    views = tuple(changed(view) for view in plan.views)
    tiles = {tile.id: tile for view in plan.views for tile in view.files if tile.id in lost}
    return replace(
        plan,
        views=views,
        assignment=replace(plan.assignment, views=views[: len(plan.assignment.views)]),
        lost_tiles=(*plan.lost_tiles, *tiles.values()),
    )


def _without(scene: Scene, lost: Collection[str]) -> Scene:
    left = [tile for tile in scene.tiles if tile.id not in lost]
    if len(left) in (0, len(scene.tiles)):
        return scene
    return left[0] if len(left) == 1 else of_tiles(left)
