"""Elevation and slope: any CRS and unit, voids that stay voids, one value per pixel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio.transform import Affine, from_origin

from quakestream.domain import Grid, Window
from quakestream.errors import HazardError
from quakestream.hazard.terrain import Dem, Ground, open_dem, uncovered_issue

FOOT_M = 0.3048
SURVEY_FOOT_M = 1200 / 3937
GRID = Grid(epsg=32637, gsd_m=10.0)
EAST, NORTH = 300_000.0, 4_150_000.0
"""A point of zone 37 near 36.7° E, 37.5° N."""
SLOPE = np.degrees(np.arctan(np.hypot(0.3, 0.4)))
"""Of the plane 0.3 m a metre to the east and 0.4 m a metre to the north."""


def write_dem(
    path: Path, values: NDArray[Any], crs: str | None, transform: Affine, **more: Any
) -> str:
    unit = more.pop("unit", "")
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1,
        dtype=values.dtype, crs=crs, transform=transform, **more,
    ) as target:  # fmt: skip
        target.write(values, 1)
        if unit:
            target.units = (unit,)
    return str(path)


def window_at(east: float, north: float, size: int = 20, grid: Grid = GRID) -> Window:
    half = size * grid.gsd_m / 2
    found = grid.window(east - half, north - half, east + half, north + half)
    return Window(row=found.row, col=found.col, height=size, width=size)


def read(uri: str, window: Window, grid: Grid = GRID) -> Ground:
    with open_dem(uri) as dem:
        return dem.read(grid, window)


def plane_utm(
    path: Path, px: float = 30.0, unit_m: float = 1.0, side: int = 80, **more: Any
) -> str:
    """A plane that rises 0.3 m a metre to the east and 0.4 m to the north, metric UTM pixels."""
    at = (np.arange(side) + 0.5 - side / 2) * px
    metres = 1000 + 0.3 * at[None, :] - 0.4 * at[:, None]
    transform = from_origin(EAST - side / 2 * px, NORTH + side / 2 * px, px, px)
    return write_dem(path, (metres / unit_m).astype(np.float32), "EPSG:32637", transform, **more)


def test_a_plane_has_its_elevation_slope_and_aspect_everywhere(tmp_path: Path) -> None:
    window = window_at(EAST, NORTH)
    ground = read(plane_utm(tmp_path / "dem.tif"), window)
    assert ground.valid_YX.all()
    np.testing.assert_allclose(ground.slope_YX, SLOPE, atol=0.01)
    west, _, _, north = GRID.bounds(window)
    x = west + 5 + 10 * np.arange(20)
    y = north - 5 - 10 * np.arange(20)
    expected = 1000 + 0.3 * (x[None, :] - EAST) + 0.4 * (y[:, None] - NORTH)
    np.testing.assert_allclose(ground.elevation_YX, expected, atol=0.01)
    # Grid north is 1.4° east of true north here; water runs off to the south-west.
    convergence = -np.degrees(np.arctan(np.tan(np.radians(36.73 - 39)) * np.sin(np.radians(37.5))))
    turned = np.degrees(np.arctan2(-0.3, -0.4)) % 360 - convergence
    np.testing.assert_allclose(ground.aspect_YX, turned, atol=0.1)


@pytest.mark.parametrize(
    ("unit", "metres"),
    [("", 1.0), ("m", 1.0), ("Metre", 1.0), ("ft", FOOT_M), ("US survey foot", SURVEY_FOOT_M)],
)
def test_elevations_are_in_the_unit_of_the_band(tmp_path: Path, unit: str, metres: float) -> None:
    ground = read(plane_utm(tmp_path / "dem.tif", unit_m=metres, unit=unit), window_at(EAST, NORTH))
    np.testing.assert_allclose(ground.slope_YX, SLOPE, atol=0.01)
    assert ground.elevation_YX.mean() == pytest.approx(1000, abs=5)


def test_an_unknown_unit_is_one_clear_line(tmp_path: Path) -> None:
    uri = plane_utm(tmp_path / "dem.tif", unit="furlong")
    with pytest.raises(HazardError, match="unknown unit of elevations: expected m or ft"):
        read(uri, window_at(EAST, NORTH))


def feet(path: Path, **more: Any) -> tuple[str, float, float]:
    """The plane in feet to the east, north and up: California zone 3 (EPSG:2227)."""
    px = 100.0
    at = (np.arange(60) + 0.5 - 30) * px
    values = (3000 + 0.3 * at[None, :] - 0.4 * at[:, None]).astype(np.float32)
    uri = write_dem(
        path, values, more.pop("crs", "EPSG:2227"), from_origin(6e6, 2e6, px, px), **more
    )
    to_utm = Transformer.from_crs(2227, 32610, always_xy=True)
    return uri, *to_utm.transform(6e6 + 30 * px, 2e6 - 30 * px)


def test_a_dem_in_feet_both_ways_is_converted_by_its_tags(tmp_path: Path) -> None:
    grid = Grid(epsg=32610, gsd_m=10.0)
    uri, east, north = feet(tmp_path / "tagged.tif", unit="us survey foot")
    ground = read(uri, window_at(east, north, grid=grid), grid)
    np.testing.assert_allclose(ground.slope_YX, SLOPE, atol=0.02)
    assert ground.elevation_YX.mean() == pytest.approx(3000 * SURVEY_FOOT_M, abs=5)
    uri, *_ = feet(tmp_path / "compound.tif", crs="EPSG:2227+6360")  # NAVD88 height, ftUS
    again = read(uri, window_at(east, north, grid=grid), grid)
    np.testing.assert_allclose(again.elevation_YX, ground.elevation_YX, atol=1e-3)


def test_a_crs_in_feet_without_a_unit_of_elevation_is_refused(tmp_path: Path) -> None:
    uri, *_ = feet(tmp_path / "dem.tif")
    with pytest.raises(HazardError) as caught, open_dem(uri):
        pass
    assert "unit of elevations is not stated" in str(caught.value)
    assert "gdal_edit -units m" in str(caught.value)


def test_impossible_elevations_are_one_clear_line(tmp_path: Path) -> None:
    uri = plane_utm(tmp_path / "dem.tif", unit_m=0.05)
    with pytest.raises(HazardError, match="elevations are impossible: expected -12,000 to 9,000 m"):
        read(uri, window_at(EAST, NORTH))


@pytest.mark.parametrize("lat", [0.0, 38.0, -38.0, 64.0, 78.0])
def test_degrees_are_metres_at_their_latitude(tmp_path: Path, lat: float) -> None:
    """A hill of 0.5 m a metre to the east, built with geodesic distances."""
    step = 1 / 3600
    lons = 36 + (np.arange(120) + 0.5) * step
    east = Geod(ellps="WGS84").inv(np.full(120, 36.0), np.full(120, lat), lons, np.full(120, lat))[
        2
    ]
    values = np.tile(0.5 * np.asarray(east), (120, 1)).astype(np.float32)
    uri = write_dem(
        tmp_path / "d.tif", values, "EPSG:4326", from_origin(36, lat + 60 * step, step, step)
    )
    epsg = 32637 if lat >= 0 else 32737
    grid = Grid(epsg=epsg, gsd_m=10.0)
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(36 + 60 * step, lat)
    ground = read(uri, window_at(x, y, grid=grid), grid)
    assert ground.valid_YX.all()
    # Within the window the parallel of one row is not that of the next: 0.1 % at 78°.
    np.testing.assert_allclose(ground.slope_YX, np.degrees(np.arctan(0.5)), atol=0.03)


def test_web_mercator_and_rotated_dems_have_true_slopes(tmp_path: Path) -> None:
    """Web Mercator at 60° N stretches distances twofold."""
    merc = from_origin(4_100_000, 8_400_000, 60, 60)
    values = np.tile(0.5 * 30 * np.arange(100.0), (100, 1)).astype(np.float32)
    uri = write_dem(tmp_path / "m.tif", values, "EPSG:3857", merc)
    to_utm = Transformer.from_crs(3857, 32637, always_xy=True)
    ground = read(uri, window_at(*to_utm.transform(4_103_000, 8_397_000)))
    lat = Transformer.from_crs(3857, 4326, always_xy=True).transform(4_103_000, 8_397_000)[1]
    expected = np.degrees(np.arctan(0.25 / np.cos(np.radians(lat))))
    np.testing.assert_allclose(ground.slope_YX, expected, rtol=0.01)
    turned = Affine.translation(EAST, NORTH) @ Affine.rotation(30) @ Affine.scale(30, -30)
    rows, cols = np.mgrid[0:80, 0:80] + 0.5
    x, y = turned.a * cols + turned.b * rows, turned.d * cols + turned.e * rows
    uri = write_dem(
        tmp_path / "r.tif", (0.3 * x + 0.4 * y).astype(np.float32), "EPSG:32637", turned
    )
    cx, cy = turned @ (40, 40)
    np.testing.assert_allclose(read(uri, window_at(cx, cy)).slope_YX, SLOPE, atol=0.01)


@pytest.mark.parametrize(
    ("fill", "tag"),
    [(-32768.0, None), (-9999.0, None), (9.96921e36, None), (np.nan, None), (777.0, 777.0)],
)
def test_a_void_takes_the_slopes_of_its_neighbours_along(
    tmp_path: Path, fill: float, tag: float | None
) -> None:
    uri = plane_utm(tmp_path / "dem.tif", side=9)
    with rasterio.open(uri) as source:
        values, profile = source.read(1), source.profile
    values[4, 4] = fill
    uri = write_dem(tmp_path / "void.tif", values, "EPSG:32637", profile["transform"], nodata=tag)
    grid = Grid(epsg=32637, gsd_m=30.0)
    west, north = profile["transform"] @ (0, 0)
    aligned = grid.with_gsd(30.0).window(west, north - 270, west + 270, north)
    ground = read(uri, aligned, grid)
    # The grid's pixels lie between those of the DEM: any with a void within reach is invalid.
    assert not ground.valid_YX[4, 4]
    assert not ground.slope_YX[4, 4]
    with open_dem(uri) as dem:
        box = np.array([box_of(west + 95, north - 175, west + 175, north - 95)])  # pixels 3 to 5
        assert np.isnan(dem.max_slope(box)).all()
        wider = np.array([box_of(west + 65, north - 205, west + 205, north - 65)])
        np.testing.assert_allclose(dem.max_slope(wider), SLOPE, atol=0.01)


def box_of(west: float, south: float, east: float, north: float) -> tuple[float, ...]:
    to_degrees = Transformer.from_crs(32637, 4326, always_xy=True)
    lon, lat = to_degrees.transform([west, east], [south, north])
    return lon[0], lat[0], lon[1], lat[1]


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], str]:
    """Rough ground with voids, of a pixel size in degrees."""
    folder = tmp_path_factory.mktemp("rough")

    def _rough(step: float) -> str:
        path = folder / f"{step:.7f}.tif"
        if not path.exists():
            random = np.random.default_rng(7)
            side = int(0.06 / step)
            values = (random.random((side, side)) * 60).astype(np.float32)
            values[random.random(values.shape) < 0.002] = -9999
            lon, lat = Transformer.from_crs(32637, 4326, always_xy=True).transform(EAST, NORTH)
            corner = from_origin(lon - side / 2 * step, lat + side / 2 * step, step, step)
            write_dem(path, values, "EPSG:4326", corner, nodata=-9999)
        return str(path)

    return _rough


@given(
    step=st.sampled_from([1 / 3600, 1 / 36000]),
    gsd=st.sampled_from([0.5, 10.0, 37.3]),
    top=st.integers(0, 90),
    left=st.integers(0, 90),
    size=st.integers(1, 40),
)
def test_a_pixel_is_the_same_in_every_window(
    rough: Callable[[float], str], step: float, gsd: float, top: int, left: int, size: int
) -> None:
    """Law 2: cells of any size give the same ground, bit by bit."""
    grid = Grid(epsg=32637, gsd_m=gsd)
    outer = window_at(EAST, NORTH, 130, grid)
    inner = Window(row=outer.row + top, col=outer.col + left, height=size, width=size)
    with open_dem(rough(step)) as dem:
        whole, part = whole_of(dem, grid, outer), dem.read(grid, inner)
    for name in ("elevation_YX", "slope_YX", "aspect_YX", "valid_YX"):
        np.testing.assert_array_equal(
            getattr(part, name), getattr(whole, name)[inner.slices_in(outer)]
        )


WHOLE: dict[tuple[str, Grid], Ground] = {}


def whole_of(dem: Dem, grid: Grid, window: Window) -> Ground:
    key = dem.layer.uri, grid
    if key not in WHOLE:
        WHOLE[key] = dem.read(grid, window)
    return WHOLE[key]


def test_a_finer_dem_is_averaged_and_a_coarser_one_interpolated(tmp_path: Path) -> None:
    """Means over 10 × 10 pixels of 1 m; voids count less than half."""
    random = np.random.default_rng(3)
    fine = random.random((400, 400)).astype(np.float32) * 10
    fine[:3, :3] = -9999
    grid = Grid(epsg=32637, gsd_m=10.0)
    west, north = 300_000.0, 4_150_000.0
    uri = write_dem(tmp_path / "d.tif", fine, "EPSG:32637", from_origin(west, north, 1, 1))
    ground = read(uri, grid.window(west, north - 400, west + 400, north), grid)
    means = fine.reshape(40, 10, 40, 10).mean(axis=(1, 3))
    np.testing.assert_allclose(ground.elevation_YX[1:-1, 1:-1], means[1:-1, 1:-1], atol=1e-4)
    assert not ground.valid_YX[0].any()  # Horn needs neighbours on all sides


@pytest.mark.parametrize("origin", [-180.0, 0.0])
def test_the_antimeridian_is_no_edge(tmp_path: Path, origin: float) -> None:
    """A DEM of the whole Earth is read across its seam, where zones 1 and 60 meet."""
    step = 0.05
    lons = origin + (np.arange(7200) + 0.5) * step
    hill = 3000 * np.abs((lons % 360) - 180)[None, :] * np.ones((60, 1))
    hill = np.minimum(hill, 6000)
    uri = write_dem(tmp_path / "d.tif", hill.astype(np.float32), "EPSG:4326",
                    from_origin(origin, 1.5, step, step))  # fmt: skip
    for epsg in (32601, 32660):
        grid = Grid(epsg=epsg, gsd_m=2000.0)
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180.0, 0.4)
        ground = read(uri, window_at(x, y, 40, grid), grid)
        assert ground.valid_YX.all()
        slope = np.degrees(np.arctan(3000 / 111_320))
        assert np.median(ground.slope_YX) == pytest.approx(slope, rel=0.01)
        assert ground.elevation_YX.min() < 100
    with open_dem(uri) as dem:
        across, west, east = dem.max_slope(
            np.array([[179.5, 0.1, -179.5, 0.5], [-179.9, 0, -179.5, 0.4], [179.5, 0, 179.9, 0.4]])
        )
        assert (across, west, east) == pytest.approx([slope] * 3, rel=0.01)


def test_a_dem_elsewhere_is_a_named_issue_and_no_crash(tmp_path: Path) -> None:
    uri = plane_utm(tmp_path / "dem.tif")
    far = read(uri, window_at(EAST + 90_000, NORTH))
    assert not far.valid_YX.any()
    assert not far.elevation_YX.any()
    part = read(uri, window_at(EAST + 1_200, NORTH))
    assert 0 < part.valid_YX.sum() < part.valid_YX.size
    boxes = np.array([box_of(EAST, NORTH, EAST + 99, NORTH + 99), (30.0, 30.0, 30.1, 30.1)])
    with open_dem(uri) as dem:
        slope_N = dem.max_slope(boxes)
    assert slope_N[0] == pytest.approx(SLOPE, abs=0.01)
    issue = uncovered_issue(uri, slope_N)
    assert issue is not None
    assert issue.cause.startswith("DEM does not cover all cells: 1 of 2 have no slope")
    assert uncovered_issue(uri, slope_N[:1]) is None
    nothing = uncovered_issue(uri, slope_N[1:])
    assert nothing is not None
    assert "covers no cell" in nothing.cause


def test_a_file_that_is_no_raster_is_one_line_that_names_it_once(tmp_path: Path) -> None:
    path = tmp_path / "dem.tif"
    path.write_text("no elevations\n")
    with pytest.raises(HazardError) as caught, open_dem(str(path)):
        pass
    assert str(caught.value) == f"{path}: cannot be read as a raster: got text; check the file"


def test_max_slope_is_that_of_the_pixels_below(rough: Callable[[float], str]) -> None:
    random = np.random.default_rng(2)
    with open_dem(rough(1 / 3600)) as dem:
        west, south, east, north = rasterio.open(dem.layer.uri).bounds
        lon = random.uniform(west, east - 0.004, 30)
        lat = random.uniform(south, north - 0.004, 30)
        boxes = np.column_stack([lon, lat, lon + 0.004, lat + 0.004])
        together = dem.max_slope(boxes)
        alone = np.concatenate([dem.max_slope(box[None]) for box in boxes])
    np.testing.assert_array_equal(together, alone)
    assert (together > 10).all()
