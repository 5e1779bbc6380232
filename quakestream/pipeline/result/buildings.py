"""From the commits of a kind that judges footprints to its rows in the products."""

from collections.abc import Iterable

import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from quakestream.catalog import scene_extent
from quakestream.domain import Scene
from quakestream.pipeline.result.context import KindProducts, RunContext
from quakestream.pipeline.result.reduce import reduce_commits
from quakestream.pipeline.result.rows import building_rows, coverage_rows
from quakestream.storage import Store


def building_products(
    store: Store, commits: Iterable[str], keys: set[str], context: RunContext
) -> KindProducts:
    """One row per footprint, and one per cell."""
    plan = context.plan
    ids = plan.footprints.table["building_id"].tolist()
    reduced = reduce_commits(store, commits, keys, ids, len(plan.bundle.spec.classes))
    rows = building_rows(context, reduced)
    return KindProducts(
        buildings=rows.table,
        record={} if rows.shares is None else {"shares": rows.shares},
        coverage=coverage_rows(
            context,
            reduced.records,
            imaged_ground({v.post.id: v.post for v in plan.assignment.views}.values()),
            plan.area_cells,
            "no_footprints",
        ),
        issues=tuple(reduced.issues),
    )


def imaged_ground(scenes: Iterable[Scene]) -> BaseGeometry:
    """Ground that scenes show, EPSG:4326."""
    extents = [scene_extent(scene) for scene in scenes]
    if not extents:
        return Polygon()
    union: BaseGeometry = shapely.union_all(extents)
    return union
