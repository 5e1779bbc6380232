"""Harmonised Landsat and Sentinel-2: six bands by mission, scale, fill and Fmask, to the pixel."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quakestream.bundles import load_bundle
from quakestream.catalog import read_aoi
from quakestream.config import open_run
from quakestream.domain import Grid, Quality, Scene
from quakestream.pipeline.planning.imagery import find_imagery
from quakestream.pipeline.work.layers import LayerSource
from quakestream.pipeline.work.quality import with_quality
from quakestream.pipeline.work.tasks import WorkerScene
from quakestream.raster.cog import CogOpener
from quakestream.raster.prepare import prepare_scene
from quakestream.storage import StorageOptions
from tests.helpers.sentinel import (
    EPSG,
    WEST_M,
    outline_of,
    run_file,
    write_raster,
    write_reflectance_bundle,
)

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
NAMES = {
    "HLS.S30.T37SDB.2023040T082049.v2.0": ("B02", "B03", "B04", "B8A", "B11", "B12"),
    "HLS.L30.T37SDB.2023040T080000.v2.0": ("B02", "B03", "B04", "B05", "B06", "B07"),
}
"""Bands of the two products in the order of the bundle; B05 of the first is another band."""
GRID = Grid(epsg=EPSG, gsd_m=30.0)
NORTH_M = 4_200_010.0
"""On the lattice of the grid, so that no pixel is resampled."""
CORNER = WEST_M, NORTH_M
OPTIONS = StorageOptions()
SIDE = 80
FILL, CLOUD, SHADOW, SNOW = -9999, 2, 8, 16


def counts(number: int) -> Any:
    rng = np.random.default_rng(number)
    counts_YX = rng.integers(-40, 5000, (SIDE, SIDE)).astype(np.int16)  # dark water may be below 0
    counts_YX[60:64] = FILL
    return counts_YX


def scene_of(folder: Path, name: str) -> Scene:
    """An item as NASA's catalogue has it: assets by band, without the words of extensions."""
    assets = {}
    for number, band in enumerate(NAMES[name]):
        write_raster(folder / f"{band}.tif", counts(number)[None], 30, nodata=FILL, corner=CORNER)
        assets[band] = {"href": f"{band}.tif", "title": f"{band} S3 link"}
    mask_YX = np.full((SIDE, SIDE), 64, np.uint8)  # climatological aerosol, which hides nothing
    mask_YX[8:12], mask_YX[12:16], mask_YX[16:20], mask_YX[20:24] = CLOUD, SHADOW, SNOW, 255
    write_raster(folder / "Fmask.tif", mask_YX[None], 30, corner=CORNER)
    assets["Fmask"] = {"href": "Fmask.tif", "title": "Fmask"}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": outline_of(SIDE * 30),
        "properties": {"datetime": "2023-02-09T08:20:49Z", "eo:cloud_cover": 5},
        "links": [],
        "assets": assets,
    }
    (folder / "item.json").write_text(json.dumps(item))
    bundle = write_reflectance_bundle(folder / "bundle", BANDS, {"red": 1.0}, gsd_m=30.0)
    run = open_run(str(run_file(folder, folder / "item.json", bundle)))
    spec = load_bundle(str(bundle)).spec
    (scene,) = find_imagery(run, read_aoi(run.aoi, OPTIONS), [spec]).of(spec)[0].scenes
    return scene


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_reflectance_of_the_right_bands_and_fmask_hides_them(
    tmp_path: Path, name: str
) -> None:
    scene = scene_of(tmp_path, name)
    prepared = prepare_scene(scene, OPTIONS)
    known = WorkerScene(
        scene=scene,
        statistics=prepared.statistics,
        qualities=((scene.crs_wkt, prepared.quality),),
    )
    where = GRID.window(WEST_M, NORTH_M - SIDE * 30, WEST_M + SIDE * 30, NORTH_M)
    with CogOpener(OPTIONS) as opener, LayerSource(scene, GRID, opener, OPTIONS) as source:
        pixels = with_quality(source.read(where), known, GRID, where)
    expected = dict.fromkeys(range(SIDE), Quality.VALID)
    for rows, quality in {
        range(8, 16): Quality.CLOUD,
        range(16, 20): Quality.SNOW,
        range(20, 24): Quality.NODATA,
        range(60, 64): Quality.NODATA,
    }.items():
        expected |= dict.fromkeys(rows, quality)
    assert (pixels.quality_YX == np.array(list(expected.values()))[:, None]).all()
    valid_YX = pixels.quality_YX == Quality.VALID
    for place in range(len(BANDS)):
        reflectance_YX = counts(place) * np.float32(0.0001)
        found_YX = pixels.counts_BYX[place]
        np.testing.assert_allclose(found_YX[valid_YX], reflectance_YX[valid_YX], atol=1e-6)
