"""A scene of physical values on one grid: order of layers, terrain, and what is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.bundles import load_bundle
from quakestream.catalog import read_aoi
from quakestream.config import open_run
from quakestream.domain import Grid, Quality, Scene, Window
from quakestream.pipeline.planning.imagery import find_imagery
from quakestream.pipeline.work.layers import LayerSource
from quakestream.pipeline.work.quality import WindowPixels, with_quality
from quakestream.pipeline.work.scenes import OpenScenes
from quakestream.pipeline.work.tasks import WorkerScene
from quakestream.raster.cog import CogOpener
from quakestream.raster.prepare import prepare_scene
from quakestream.storage import StorageOptions
from tests.helpers.sentinel import (
    EPSG,
    NORTH_M,
    WEST_M,
    SentinelItem,
    make_item,
    run_file,
    write_raster,
    write_reflectance_bundle,
)

GRID = Grid(epsg=EPSG, gsd_m=10.0)
OPTIONS = StorageOptions()
BANDS = ("nir08", "slope", "red", "elevation")
RISE = 0.5
"""Metres of elevation for each metre to the east."""


def scene_of(folder: Path, item: SentinelItem, bands: tuple[str, ...] = BANDS) -> Scene:
    """The item as a plan has it, with an elevation model of its western half."""
    side = 2400 // 20
    east_X = np.arange(side // 2) * 20.0 * RISE
    dem = write_raster(folder / "dem.tif", np.tile(east_X, (1, side, 1)).astype(np.float32), 20)
    bundle = write_reflectance_bundle(folder / "bundle", bands, {"red": 1.0})
    path = run_file(folder, item.write(), bundle, terrain={"dem": str(dem)})
    run = open_run(str(path))
    aoi = read_aoi(run.aoi, run.storage_options)
    spec = load_bundle(str(bundle)).spec
    (scene,) = find_imagery(run, aoi, [spec]).of(spec)[0].scenes
    return scene


@contextmanager
def opened(scene: Scene) -> Iterator[LayerSource]:
    with CogOpener(OPTIONS) as opener, LayerSource(scene, GRID, opener, OPTIONS) as source:
        yield source


def window(row: int, col: int, side: int = 32) -> Window:
    whole = GRID.window(WEST_M, NORTH_M - 2400, WEST_M + 2400, NORTH_M)
    return Window(row=whole.row + row, col=whole.col + col, height=side, width=side)


def worth(scene: Scene, where: Window) -> WindowPixels:
    prepared = prepare_scene(scene, OPTIONS)
    known = WorkerScene(
        scene=scene,
        statistics=prepared.statistics,
        qualities=((scene.crs_wkt, prepared.quality),),
    )
    with opened(scene) as source:
        return with_quality(source.read(where), known, GRID, where)


def test_layers_come_in_the_order_of_the_bundle(tmp_path: Path) -> None:
    item = make_item(tmp_path)
    scene = scene_of(tmp_path, item)
    with opened(scene) as source:
        pixels = source.read(window(40, 20))
    assert pixels.counts_BYX.shape == (4, 32, 32)
    assert pixels.valid_YX.all()
    red_YX = (item.counts["B04"][40:72, 20:52] * 0.0001 - 0.1).astype(np.float32)
    assert np.array_equal(pixels.counts_BYX[2], red_YX)
    assert pixels.counts_BYX[1] == pytest.approx(np.degrees(np.arctan(RISE)), abs=0.05)
    # the first pixel of the DEM has its middle 10 m from the edge
    east_X = (np.arange(20, 52) * 10 + 5 - 10) * RISE
    assert pixels.counts_BYX[3] == pytest.approx(np.tile(east_X, (32, 1)), abs=0.01)


def test_a_dem_is_opened_once(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, make_item(tmp_path))
    with opened(scene) as source:
        first = source.read(window(40, 20))
        (tmp_path / "dem.tif").rename(tmp_path / "moved.tif")
        again = source.read(window(40, 20))
    assert np.array_equal(first.counts_BYX, again.counts_BYX)


def test_ground_without_elevation_is_nodata_and_0(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, make_item(tmp_path))
    half = worth(scene, window(40, 110))
    assert (half.quality_YX[:, :6] == Quality.VALID).all()
    assert (half.quality_YX[:, 12:] == Quality.NODATA).all()
    assert not half.counts_BYX[:, half.quality_YX == Quality.NODATA].any()


def test_what_the_mask_and_the_bands_miss_is_0_and_nan_never_shows(tmp_path: Path) -> None:
    class_YX = np.full((120, 120), 4, np.uint8)
    class_YX[20:24], class_YX[24:28], class_YX[28:32] = 0, 8, 1
    scene = scene_of(tmp_path, make_item(tmp_path, scl=class_YX))
    pixels = worth(scene, window(40, 20))
    kinds = [Quality(pixels.quality_YX[row, 0]) for row in (0, 8, 16, 24)]
    assert kinds == [Quality.NODATA, Quality.CLOUD, Quality.SATURATED, Quality.VALID]
    assert np.isfinite(pixels.counts_BYX).all()
    assert pixels.counts_BYX.dtype == np.float32


def test_tiles_of_one_acquisition_are_pasted_with_their_quality(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, make_item(tmp_path), ("red", "nir08"))
    both = replace(scene, tiles=(scene, replace(scene, id="second")))
    with CogOpener(OPTIONS) as opener:
        scenes = OpenScenes(lambda s, g: LayerSource(s, g, opener, OPTIONS), OPTIONS)
        pasted = scenes.read(both, GRID, window(-8, -8))
        alone = scenes.read(scene, GRID, window(-8, -8))
        scenes.close()
    assert np.array_equal(pasted.counts_BYX, alone.counts_BYX)
    assert np.array_equal(pasted.valid_YX, alone.valid_YX)
    assert not pasted.valid_YX[:8].any()
    assert pasted.quality_YX is not None
