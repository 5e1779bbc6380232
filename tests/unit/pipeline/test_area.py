"""The ground of an AOI: what images cover of it, and its cells."""

from datetime import UTC, datetime

import pytest
from shapely.geometry import box

from quakestream.domain import Grid, Scene, View
from quakestream.errors import AoiError
from quakestream.pipeline.planning.area import area_cells, covered_area, ground_km2
from quakestream.tiling import Lattice, split_by_zone


def lattice_of(epsg: int) -> Lattice:
    grid = Grid(epsg=epsg, gsd_m=0.5)
    return Lattice(grid=grid, window_px=256, halo_px=32, cell_windows=8)


def test_a_continent_is_refused_before_its_cells_are_listed() -> None:
    with pytest.raises(AoiError, match=r"too large for one run.*at most 4,000,000 cells"):
        area_cells(split_by_zone(box(-10, 36, 40, 60)), lattice_of, "aoi")


def test_a_town_has_its_cells() -> None:
    cells = area_cells(split_by_zone(box(37.0, 37.0, 37.05, 37.05)), lattice_of, "aoi")
    assert 30 <= len(cells) <= 60
    assert len(set(cells)) == len(cells)


def scene(name: str, *bounds: float) -> Scene:
    when = datetime(2023, 2, 7, tzinfo=UTC)
    return Scene(id=name, href=f"{name}.tif", datetime=when, outline=box(*bounds))


def test_covered_ground_is_seen_by_both_images_and_counts_once() -> None:
    aoi = box(37.0, 0.0, 37.1, 0.1)
    post, pre = scene("post", 36.9, 0.0, 37.05, 0.2), scene("pre", 37.02, 0.0, 37.2, 0.2)
    pair = View(id="a", post=post, pre=pre)
    assert covered_area(aoi, [pair]).bounds == pytest.approx((37.02, 0.0, 37.05, 0.1))
    alone = View(id="b", post=post)
    assert covered_area(aoi, [pair, alone, alone]).bounds == pytest.approx((37.0, 0.0, 37.05, 0.1))
    assert covered_area(aoi, []).is_empty
    assert ground_km2(covered_area(aoi, [])) == 0
    # a degree of the equator is 111.32 km east and 110.57 km north; UTM stretches by up to 1.001
    assert ground_km2(aoi) == pytest.approx(11.132 * 11.057, rel=2e-3)
