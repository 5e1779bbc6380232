"""Laws of the hot path: requests, positions, and pixels that do not depend on the window."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from shapely.geometry import box

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import SceneError
from quakestream.raster.cog.layouts import LayoutCache
from quakestream.raster.cog.positions import POSITION_BOUND_PX, SQUARE_PX, STEPS, Positions
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import RasterioSource
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions
from quakestream.storage.ranges import FetchPolicy, merge_ranges

LOCAL = StorageOptions()
GRID = Grid(epsg=32637, gsd_m=0.5)
WEST_M, NORTH_M = 320_000.0, 4_160_000.0
SIDE = 700

ranges = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 400)), max_size=40)


@given(ranges=ranges, gap=st.integers(-1, 600), waste=st.floats(0, 0.5), most=st.integers(1, 3000))
def test_requests_bring_everything_and_waste_little(
    ranges: list[tuple[int, int]], gap: int, waste: float, most: int
) -> None:
    starts, lengths = [r[0] for r in ranges], [r[1] for r in ranges]
    policy = FetchPolicy(gap_bytes=gap, waste=waste, request_bytes=most)
    runs = merge_ranges(starts, lengths, policy)
    assert sorted(n for run in runs for n in run.members) == list(range(len(ranges)))
    for run in runs:
        needed: set[int] = set()
        for n in run.members:
            assert run.start <= starts[n]
            assert starts[n] + lengths[n] <= run.start + run.length
            needed |= set(range(starts[n], starts[n] + lengths[n]))
        assert run.length <= (1 + waste) * len(needed) + 1e-6


def _texture(seed: int) -> NDArray[np.uint8]:
    """Smooth, with edges, noise and black; shape (band, y, x)."""
    rng = np.random.default_rng(seed)
    row_YX, col_YX = np.mgrid[:SIDE, :SIDE]
    made_YX = 110 + 60 * np.sin(row_YX / 23) * np.cos(col_YX / 31) + 50.0 * ((row_YX // 37) % 2)
    made_BYX = made_YX * np.array([0.8, 1.0, 1.1])[:, None, None]
    made_BYX += rng.normal(0, 8, (3, SIDE, SIDE))
    made_BYX[:, 200:260, 300:420] = 0
    counts_BYX: NDArray[np.uint8] = made_BYX.clip(0, 255).astype(np.uint8)
    return counts_BYX


def _scene(path: Path, crs: str, pixel_m: float, *, masked: bool) -> Scene:
    """A scene over the same ground in any CRS, with pixels of about a given size in metres."""
    west, _, east, north = transform_bounds(
        "EPSG:32637", crs, WEST_M, NORTH_M - 100, WEST_M + 100, NORTH_M
    )
    step = pixel_m * (east - west) / 100 if crs == "EPSG:4326" else pixel_m
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "zstd"}
    transform = Affine(step, 0, west - 0.123 * step, 0, -step, north + 7.77 * step)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile, **blocks, crs=crs, transform=transform) as made,
    ):
        made.write(_texture(3))
        if masked:
            rows, cols = np.mgrid[:SIDE, :SIDE]
            made.write_mask((cols + rows // 3) % SIDE > 90)
    return Scene(
        id="s", href=str(path), datetime=datetime.now(UTC), outline=box(0, 0, 1, 1), gsd_m=pixel_m
    )


PLACES = {
    "aligned": ("EPSG:32637", 0.5),
    "a bit finer": ("EPSG:32637", 0.42),
    "finer": ("EPSG:32637", 0.3),
    "much finer": ("EPSG:32637", 0.17),
    "coarser": ("EPSG:32637", 0.7),
    "other zone": ("EPSG:32636", 0.5),
    "other zone, finer": ("EPSG:32638", 0.3),
    "web": ("EPSG:3857", 0.6),
    "degrees": ("EPSG:4326", 0.5),
}


@pytest.mark.parametrize("masked", [False, True], ids=["", "mask"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_pixel_is_the_same_in_whatever_window(
    place: tuple[str, float], masked: bool, tmp_path: Path
) -> None:
    """Law 2 holds for readers exactly, on any grid, with any cache."""
    scene = _scene(tmp_path / "scene.tif", *place, masked=masked)
    layout = LayoutCache().layout(scene, LOCAL)
    held = extent_on(_probed(scene), GRID).grown(12)
    with Team(cache_bytes=1 << 20) as team, CogSource(scene, GRID, layout, team=team) as source:
        whole = source.read(held)
        assert whole.valid_YX.any()
        assert not whole.valid_YX.all()

        @settings(deadline=None, max_examples=25)
        @given(data=st.data())
        def parts_are_as_in_the_whole(data: st.DataObject) -> None:
            height = data.draw(st.integers(1, min(held.height, 400)))
            width = data.draw(st.integers(1, min(held.width, 400)))
            part = Window(
                row=held.row + data.draw(st.integers(0, held.height - height)),
                col=held.col + data.draw(st.integers(0, held.width - width)),
                height=height,
                width=width,
            )
            found = source.read(part)
            rows, cols = part.slices_in(held)
            np.testing.assert_array_equal(found.valid_YX, whole.valid_YX[rows, cols])
            np.testing.assert_array_equal(found.counts_BYX, whole.counts_BYX[:, rows, cols])

        parts_are_as_in_the_whole()


def _probed(scene: Scene) -> Scene:
    from quakestream.raster.probe import probe

    return probe(scene, LOCAL)


@settings(deadline=None, max_examples=30)
@given(
    zone=st.integers(601, 660),
    lat=st.floats(-65, 65),
    other=st.sampled_from(["EPSG:4326", "EPSG:3857", "neighbour", "north"]),
    gsd_m=st.sampled_from([0.3, 0.5, 1.0, 2.0]),
    data=st.data(),
)
def test_every_pixel_is_read_within_the_bound(
    zone: int, lat: float, other: str, gsd_m: float, data: st.DataObject
) -> None:
    """Anywhere on Earth, positions are compared with PROJ's own, pixel by pixel."""
    epsg = 32000 + zone if lat >= 0 else 32100 + zone
    lon = (zone - 600 - 1) * 6 - 180 + data.draw(st.floats(0.2, 5.8))
    beside = 32000 + (zone - 600) % 60 + 601
    crs = {
        "neighbour": f"EPSG:{beside if lat >= 0 else beside + 100}",
        "north": f"EPSG:{32000 + zone}",
    }.get(other, other)
    wkt = rasterio.CRS.from_string(crs).to_wkt()
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    step = gsd_m / 111_320 if other == "EPSG:4326" else gsd_m
    grid = Grid(epsg=epsg, gsd_m=gsd_m)
    try:
        positions = Positions(grid, wkt, Affine(step, 0, x, 0, -step, y), (3000, 3000))
    except SceneError:  # GDAL reads it: a square of a coarse grid is too large for an affine
        assert gsd_m >= 1.0
        reject()
    to_grid = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    east, north = to_grid.transform(lon, lat)
    corner = grid.window(east, north - 1, east + 1, north)
    window = Window(row=corner.row, col=corner.col, height=300, width=2 * SQUARE_PX)
    for patch in positions.parts(window):
        part = patch.window
        top, left, *_ = positions.source_bounds(patch, (1.0, 1.0))
        u, v = np.empty(part.shape, np.float32), np.empty(part.shape, np.float32)
        positions.sample_positions(patch, (1.0, 1.0), 1, (top, left), (u, v))
        cols, rows = np.meshgrid(
            np.arange(part.col, part.col_end) + 0.5, np.arange(part.row, part.row_end) + 0.5
        )
        exact_u, exact_v = positions.scene_pixels(cols, rows)
        assert not ((u * STEPS) % 1).any()
        apart = np.hypot(u + (left + 0.5 - exact_u), v + (top + 0.5 - exact_v))
        assert apart.max() / max(positions.ratio, 1.0) <= POSITION_BOUND_PX


def test_a_warped_pixel_is_the_bilinear_one_at_its_exact_place(tmp_path: Path) -> None:
    """The oracle interpolates in double precision at PROJ's positions. GDAL meets its bounds."""
    scene = _scene(tmp_path / "scene.tif", "EPSG:32636", 0.5, masked=False)
    layout = LayoutCache().layout(scene, LOCAL)
    held = extent_on(_probed(scene), GRID)
    middle = Window(row=held.row + 150, col=held.col + 150, height=300, width=300)
    positions = Positions(GRID, layout.crs_wkt, layout.transform, (SIDE, SIDE))
    cols, rows = np.meshgrid(np.arange(300) + middle.col + 0.5, np.arange(300) + middle.row + 0.5)
    u, v = (p - 0.5 for p in positions.scene_pixels(cols, rows))
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    right_YX, down_YX = u - left, v - top
    counts_BYX = _texture(3).astype(np.float64)
    above = counts_BYX[:, top, left] * (1 - right_YX) + counts_BYX[:, top, left + 1] * right_YX
    below = (
        counts_BYX[:, top + 1, left] * (1 - right_YX) + counts_BYX[:, top + 1, left + 1] * right_YX
    )
    exact_BYX = above * (1 - down_YX) + below * down_YX
    with CogSource(scene, GRID, layout) as source, RasterioSource(scene, GRID) as gdal:
        ours = np.abs(source.read(middle).counts_BYX - exact_BYX)
        theirs = np.abs(gdal.read(middle).counts_BYX - exact_BYX)
    assert ours.mean() < 0.35  # 0.25 is rounding
    assert ours.mean() <= theirs.mean() + 0.01
    assert np.percentile(ours, 99.9) < 2.0
