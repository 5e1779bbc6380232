"""A strip in tiles ranks by the tile that shows a building."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from quakestream.catalog import Footprints, acquisitions, assign_views, views_of_ground
from quakestream.domain import Scene
from quakestream.tiling import unproject
from tests.unit.catalog.test_acquisitions import later, scene

PLACES = {"west": (10.0, 20.0), "seam": (45.0, 55.0), "east": (70.0, 80.0)}
"""First and last metre of each building from west to east; the seam is at 50 m."""


def outlines() -> np.ndarray:
    boxes = [
        shapely.box(300_000 + a, 4_099_970, 300_000 + b, 4_099_980) for a, b in PLACES.values()
    ]
    return unproject(np.array(boxes, object), 32637)


def footprints() -> Footprints:
    ground = outlines()
    table = gpd.GeoDataFrame({"building_id": list(PLACES)}, geometry=ground, crs=4326)
    return Footprints(
        table=table,
        invalid=np.zeros(len(ground), np.bool_),
        representative=shapely.centroid(ground),
        issues=[],
        rows_read=len(ground),
        duplicates_collapsed=0,
        outside_aoi=0,
        without_position=0,
    )


def strip(name: str, west: float, east: float, seconds: float) -> list[Scene]:
    """Two tiles with a cloud cover each."""
    return [
        scene(f"{name}0", 0, 0, cloud_cover=west, datetime=later(seconds)),
        scene(f"{name}1", 0, 1, cloud_cover=east, datetime=later(seconds)),
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_cloud_of_the_tile_under_a_building_counts(reverse: bool) -> None:
    """One strip is clear in the west, the other is fairly clear everywhere."""
    tiles = [*strip("half", 0, 80, 0), *strip("fair", 20, 20, 600)]
    post = acquisitions(reversed(tiles) if reverse else tiles)
    views = assign_views(footprints(), post, [], needs_pre=False)
    best = [views.views[n].post.id for n in views.view_of_N]
    assert best == ["half0+1", "fair0+1", "fair0+1"]


def test_a_window_on_a_seam_needs_one_view() -> None:
    post = acquisitions(strip("post", 0, 0, 0))
    pre = acquisitions(strip("pre", 0, 0, -86_400))
    far = scene("far", 40, 40, datetime=later(-86_400))
    ((view, items),) = views_of_ground(outlines(), post, [*pre, far], needs_pre=True)
    assert view.id == "post0+1__pre0+1"
    assert items.tolist() == [0, 1, 2]
