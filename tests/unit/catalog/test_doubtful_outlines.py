"""What is said of footprints that may be no buildings, and that nothing is said of buildings."""

import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from quakestream.catalog import building_doubts
from quakestream.catalog.doubtful_outlines import MOST_OUTLINES, outline_figures

X_M, Y_M, ZONE = 320_000.0, 4_160_000.0, 32637
ORIGIN_M = np.array([X_M, Y_M])
Outlines = NDArray[np.object_]


def in_degrees(polygon_N: Outlines) -> Outlines:
    series = gpd.GeoSeries(list(polygon_N), crs=ZONE).to_crs(4326)
    return np.asarray(series.values, object)


def zones(polygon_N: Outlines) -> NDArray[np.int64]:
    return np.full(len(polygon_N), ZONE)


def doubts(polygon_N: Outlines) -> tuple[str, ...]:
    polygon_N = np.asarray(polygon_N, object)
    return building_doubts(in_degrees(polygon_N), polygon_N, zones(polygon_N))


def town(buildings: int, extent_m: float = 2_000.0) -> Outlines:
    """Rectangles of 6 to 18 m along streets of all directions."""
    rng = np.random.default_rng(7)
    middle_N2 = rng.uniform(0, extent_m, (buildings, 2)) + ORIGIN_M
    half_N2 = rng.uniform(3, 9, (buildings, 2))
    turn_N = rng.uniform(0, np.pi, buildings)
    along_N2 = np.stack([np.cos(turn_N), np.sin(turn_N)], axis=1)
    across_N2 = np.stack([-along_N2[:, 1], along_N2[:, 0]], axis=1)
    corners = [
        middle_N2 + x * half_N2[:, :1] * along_N2 + y * half_N2[:, 1:] * across_N2
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    return np.asarray(shapely.polygons(np.stack(corners, axis=1)), object)


def squares(side_m: float, across: int, gap_m: float = 0.0) -> Outlines:
    step = np.arange(across) * (side_m + gap_m)
    x, y = (one.ravel() for one in np.meshgrid(X_M + step, Y_M + step))
    return np.asarray(shapely.box(x, y, x + side_m, y + side_m), object)


def points(number: int) -> Outlines:
    rng = np.random.default_rng(3)
    return np.asarray(shapely.points(rng.uniform(0, 2_000, (number, 2)) + ORIGIN_M), object)


def shifted(polygon_N: Outlines) -> Outlines:
    """The same buildings as another source draws them."""
    return np.asarray(shapely.transform(polygon_N, lambda xy: xy + np.array([1.5, 1.0])), object)


def parcels(street_m: float) -> Outlines:
    """Parcels of about 670 m² that share their borders, or lie along streets."""
    rng = np.random.default_rng(5)
    seeds = shapely.multipoints(rng.uniform(0, 600, (540, 2)) + ORIGIN_M)
    cells = shapely.get_parts(shapely.voronoi_polygons(seeds))
    inside = cells[shapely.within(cells, shapely.box(X_M, Y_M, X_M + 600, Y_M + 600))]
    return np.asarray(shapely.buffer(inside, -street_m / 2), object)


def roads() -> Outlines:
    """Roads of 100 to 200 m with a width."""
    start_N2 = shapely.get_coordinates(points(30))
    end_N2 = start_N2 + np.random.default_rng(1).uniform(70, 140, (30, 2))
    lines = shapely.linestrings(np.stack([start_N2, end_N2], axis=1))
    return np.asarray(shapely.buffer(lines, np.linspace(2, 4, 30)), object)


def test_nothing_is_said_of_buildings() -> None:
    assert doubts(town(600)) == ()
    assert doubts(town(5)) == ()
    assert doubts(squares(12, 3, gap_m=15)) == (), "nine equal houses"
    assert doubts(np.array([], object)) == ()


@pytest.mark.parametrize(
    ("outlines", "said"),
    [
        (shapely.buffer(points(60), 10.0), "100 % of 60 outlines are equal circles of 10.0 m radi"),
        (
            np.concatenate([town(25), shapely.buffer(points(75), np.linspace(5, 20, 75))]),
            "75 % of 100 outlines are circles",
        ),
        (squares(20, 20), "100 % of 400 outlines are equal squares of 20 m"),
        (shapely.buffer(points(60), 1.2, quad_segs=2), "equal in shape (8 corners, 4.1 m²)"),
        (squares(1_900, 2, gap_m=100), "their median area is 3.61 km² (4 outlines)"),
        (parcels(0.0), " % of the ground around them, as parcels do"),
        (parcels(2.0), " % of the ground around them, as parcels do"),
        (roads(), "most of 30 outlines are long and thin, as of roads"),
    ],
)
def test_other_layers_are_named_with_figures(outlines: Outlines, said: str) -> None:
    (doubt,) = doubts(outlines)
    assert doubt.startswith("footprints may be no buildings: ")
    assert said in doubt


def test_blocks_are_told_by_their_median_area() -> None:
    rng = np.random.default_rng(2)
    side_m = rng.uniform(60, 140, 30)
    at = np.arange(30) * 200.0
    outlines = shapely.box(X_M + at, Y_M, X_M + at + side_m, Y_M + 80)
    (doubt,) = doubts(outlines)
    median_m2 = float(np.median(side_m * 80))
    assert f"their median area is {median_m2:,.0f} m² (30 outlines)" in doubt


def test_boxes_are_boxes_along_the_axes_of_either_reference() -> None:
    houses = town(100)
    (doubt,) = doubts(shapely.envelope(houses))
    assert doubt.startswith("footprints are boxes: 100 % of 100 outlines are rectangles along")
    degrees_N = np.asarray(shapely.envelope(in_degrees(houses)), object)
    metres_N = np.asarray(gpd.GeoSeries(list(degrees_N), crs=4326).to_crs(ZONE).values, object)
    assert building_doubts(degrees_N, metres_N, zones(metres_N)) == (doubt,)


def test_two_sets_in_one_file_overlap() -> None:
    houses = town(400)
    (doubt,) = doubts(np.concatenate([houses, shifted(houses)]))
    assert doubt.startswith("footprints overlap: 100 % of 800 outlines looked at share more than")
    (doubt,) = doubts(np.concatenate([houses, houses[:60]]))
    # 120 of 460, and a few of a town that was drawn at random
    assert doubt.startswith("footprints overlap: 2")
    assert doubts(np.concatenate([houses, shifted(houses[:4])])) == ()


def test_invalid_outlines_and_those_of_other_zones_are_passed_over() -> None:
    houses = town(40)
    zone_N = zones(houses)
    zone_N[:5] = 32636
    metres_N = houses.copy()
    metres_N[5:8] = None
    figures = outline_figures(in_degrees(houses), metres_N, zone_N)
    assert figures is not None
    assert figures.outlines == 32
    assert figures.median_m2 == pytest.approx(np.median(shapely.area(houses[8:])))
    assert building_doubts(in_degrees(houses), np.full(40, None, object), zone_N) == ()


@pytest.mark.slow
def test_a_province_takes_less_than_a_second() -> None:
    """Of a quarter million outlines, whole squares are looked at, so that overlaps stay."""
    houses = town(125_000, extent_m=60_000.0)
    both = np.concatenate([houses, shifted(houses)])
    degrees_N = shapely.transform(both, lambda xy: xy * 1e-5)
    started = time.process_time()
    figures = outline_figures(np.asarray(degrees_N, object), both, zones(both))
    assert time.process_time() - started < 1.5
    assert figures is not None
    assert MOST_OUTLINES <= figures.outlines < 1.01 * MOST_OUTLINES
    assert figures.overlapped > 0.97


@pytest.mark.data
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("joplin-2011/building_footprints.geojson", ()),
        ("turkiye-verified-footprints/verified_footprints.geojson", ()),
        ("turkiye-2023-scenes/labels/osm_destroyed_buildings_turkiye.geojson", ()),
        ("kahramanmaras-2023-main/labels/km_merkez4_osm_destroyed_buildings.geojson", ()),
        ("nurdagi-islahiye-2023-footprints/blackshark_changes_1050050044DE7E00.gpkg", ()),
        (  # a sixth of its rows repeat
            "nurdagi-islahiye-2023-footprints/islahiye_osm_buildings_model_damage_utm37.geojson",
            ("footprints overlap: 17 % of 2,000",),
        ),
        (
            "kahramanmaras-2023-main/labels/km_merkez4_detection_boxes.geojson",
            ("footprints are boxes: 100 % of 523", "footprints overlap: 36 % of 523"),
        ),
        (
            "nurdagi-islahiye-2023-footprints/EMSR648_AOI16_GRA_PRODUCT_builtUpA_r1_v1.json",
            ("footprints may be no buildings: their median area is 6,4",),
        ),
    ],
)
def test_real_sets(data_dir: Path, place: str, said: tuple[str, ...]) -> None:
    frame = gpd.read_file(data_dir / place)
    frame = frame[frame.geometry.is_valid & (frame.geom_type != "Point")].to_crs(4326)
    metres = frame.to_crs(frame.estimate_utm_crs())
    geometry_N, polygon_N = (np.asarray(one.geometry.values, object) for one in (frame, metres))
    found = building_doubts(geometry_N, polygon_N, np.full(len(frame), ZONE))
    assert [doubt[: len(start)] for doubt, start in zip(found, said, strict=True)] == list(said)
