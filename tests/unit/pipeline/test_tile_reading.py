"""Windows that are put together from tiles, beside those of the scene the tiles were cut from."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.ndimage as ndi
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box

from quakestream.catalog import acquisitions
from quakestream.domain import Grid, Scene
from quakestream.pipeline.work.scenes import OpenScenes, OpenSource
from quakestream.raster.cog import CogOpener
from quakestream.raster.pasting import parts_in
from quakestream.raster.probe import probe
from quakestream.raster.source import RasterioSource
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import write_scene
from tests.helpers.cutting import cut

LOCAL = StorageOptions()
ROW, COL = 153, 231
"""Where the seams are."""
BOXES = [(0, 0, ROW, COL), (0, COL, ROW, 500), (ROW, 0, 400, COL), (ROW, COL, 400, 500)]
READERS: dict[str, OpenSource] = {
    "blocks": CogOpener(LOCAL),
    "gdal": lambda scene, grid: RasterioSource(scene, grid, LOCAL),
}


def known(path: Path) -> Scene:
    with rasterio.open(path) as dataset:
        ground = box(*transform_bounds(dataset.crs, 4326, *dataset.bounds)).buffer(0.001)
    time = dt.datetime(2023, 2, 7, tzinfo=dt.UTC)
    return probe(Scene(id=path.stem, href=str(path), datetime=time, outline=ground), LOCAL)


@pytest.fixture(params=[0.5, 0.3, 0.4, 0.6], ids=lambda gsd_m: f"{gsd_m} m")
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Scene, Scene]:
    """A scene, and the acquisition of its tiles, off the grid by parts of a pixel."""
    rng = np.random.default_rng(0)
    smooth = ndi.gaussian_filter(rng.normal(0, 60, (3, 400, 500)), (0, 1.5, 1.5))
    counts = (smooth * 3 + 128).clip(1, 254).astype(np.uint8)
    place = Affine(request.param, 0, 300_000.07, 0, -request.param, 4_100_000.11)
    for name in ("whole", "tile"):
        write_scene(tmp_path / f"{name}.tif", counts, transform=place)
    tiles = [known(path) for path in cut(tmp_path / "tile.tif", BOXES)]
    (joined,) = acquisitions(tiles)
    assert len(joined.tiles) == 4
    return known(tmp_path / "whole.tif"), joined


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("epsg", [32637, 32636])
def test_a_window_over_seams_shows_what_the_scene_shows(
    pair: tuple[Scene, Scene], reader: str, epsg: int
) -> None:
    whole, tiles = pair
    grid = Grid(epsg=epsg, gsd_m=0.5)
    ground = transform_bounds(32637, epsg, 300_010, 4_099_880, 300_120, 4_099_990)
    window = grid.window(*ground)
    scenes = OpenScenes(READERS[reader], LOCAL)
    found, expected = (scenes.read(scene, grid, window) for scene in (tiles, whole))
    wrong_YX = (found.counts_BYX != expected.counts_BYX).any(axis=0)
    scenes.close()
    assert not wrong_YX.any()
    assert (found.valid_YX == expected.valid_YX).all()
    assert found.valid_YX.mean() > 0.5


def test_a_task_takes_the_tiles_under_its_window_alone(pair: tuple[Scene, Scene]) -> None:
    _, tiles = pair
    grid = Grid(epsg=32637, gsd_m=0.5)
    window = grid.window(300_010, 4_099_990, 300_015, 4_099_995)
    assert [tile.id for tile in parts_in(tiles, grid, window)] == ["tile_T00"]
