"""Real files, also odd ones: the hot path reads the same as GDAL, or leaves the file to GDAL."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.errors import RasterioError

from quakestream.domain import Grid, Scene
from quakestream.domain.grid import utm_epsg
from quakestream.errors import ReadError, SceneError
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import Pixels, RasterioSource
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions
from quakestream.storage.fetchers import open_fetcher
from tests.helpers.tiles_case import scene_of

LOCAL = StorageOptions()
READ_BY_GDAL = {
    "12bit.cropped.rgb.tiff": "12-bit",
    "random-fp16.tiff": "float16",
    "slc.tif": "complex64",
    "389225main_sw_1965_1024.jpg": "not a TIFF",
    "nontiff.jpg": "not a TIFF",
    "oom_crash_108.tif": "expected 1 block, got 0",
    "oor_panic_120.tif": "expected 6 blocks, got 6 offsets and 1 size",
}
"""Files that only GDAL reads, and words of the hot path's reason."""
LUMA = (0.299, 0.587, 0.114)

pytestmark = pytest.mark.data


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files without a georeference
        yield


def odd_files(data_dir: Path) -> list[Path]:
    folder = data_dir / "cog-edge-cases"
    return sorted(p for p in folder.glob("*/*") if p.is_file())


def test_samples_of_every_odd_file(data_dir: Path) -> None:
    """All bands of the full resolution are equal, except for JPEG with chroma."""
    compared, refused = 0, {}
    for path in odd_files(data_dir):
        try:
            with rasterio.open(path) as dataset:
                expected_SYX = dataset.read()
        except RasterioError:
            expected_SYX = None
        try:
            found_SYX = _samples(path)
        except (SceneError, ReadError) as error:
            if expected_SYX is not None:
                refused[path.name] = str(error)
            continue
        assert expected_SYX is not None, path
        exact = make_layout(str(path), LOCAL).levels[0].coding.exact
        if exact:
            np.testing.assert_array_equal(found_SYX, expected_SYX, err_msg=path.name)
        else:
            apart_SYX = found_SYX.astype(float) - expected_SYX
            luma_YX = np.tensordot(LUMA, apart_SYX[:3], axes=1)
            assert np.abs(luma_YX).mean() < 0.3, path.name
            assert np.abs(apart_SYX).mean() < 1.0, path.name
            assert np.abs(apart_SYX).max() <= 80, path.name
        compared += 1
    assert compared >= 50
    assert refused.keys() == READ_BY_GDAL.keys()
    for name, reason in READ_BY_GDAL.items():
        assert reason in refused[name]


def _samples(path: Path) -> np.ndarray:
    layout = make_layout(str(path), LOCAL)
    level = layout.levels[0]
    fetcher = open_fetcher(str(path), LOCAL)
    try:
        reader = BlockReader(layout, fetcher, name="", team=Team())
        return reader.samples(0, Rect(top=0, left=0, height=level.height, width=level.width))
    finally:
        fetcher.close()


def _own_grid(scene: Scene) -> Grid:
    """The UTM grid nearest to a scene's own pixels."""
    assert scene.transform is not None
    assert scene.shape is not None
    epsg = rasterio.CRS.from_wkt(scene.crs_wkt).to_epsg()
    if not (epsg and 32600 < epsg < 32800):
        middle = scene.transform @ (scene.shape[1] / 2, scene.shape[0] / 2)
        to_degrees = pyproj.Transformer.from_crs(scene.crs_wkt, 4326, always_xy=True)
        epsg = utm_epsg(*to_degrees.transform(*middle))
    return Grid(epsg=epsg, gsd_m=round(float(scene.gsd_m or 1), 4))


def _apart(found: Pixels, expected: Pixels) -> tuple[float, float, float]:
    """Mean difference in counts and in brightness, and the share of validity that differs."""
    both_YX = found.valid_YX & expected.valid_YX
    if not both_YX.any():
        return 0.0, 0.0, float((found.valid_YX != expected.valid_YX).mean())
    apart_BN = (found.counts_BYX.astype(np.float32) - expected.counts_BYX)[:, both_YX]
    luma_N = np.tensordot(LUMA, apart_BN, axes=1)
    differs = float((found.valid_YX != expected.valid_YX).mean())
    return float(np.abs(apart_BN).mean()), float(np.abs(luma_N).mean()), differs


def test_every_odd_scene_on_a_grid(data_dir: Path) -> None:
    """Scenes as the pipeline reads them: aligned or warped, of 8 or 16 bits, with validity."""
    hot, wide = 0, set()
    for path in odd_files(data_dir):
        try:
            scene = scene_of(path)
        except SceneError:
            continue  # no colour, not on Earth, rotated: refused long before
        grid = _own_grid(scene)
        held = extent_on(scene, grid)
        with CogOpener() as opener, opener(scene, grid) as source:
            try:
                with RasterioSource(scene, grid) as oracle:
                    expected = oracle.read(held)
            except ReadError:
                if path.name == "corrupt.tif":
                    with pytest.raises(ReadError, match="block 1,1"):
                        source.read(held)
                continue
            mean, luma, differs = _apart(source.read(held), expected)
            hot += isinstance(source, CogSource)
        if scene.stretch is not None:
            assert isinstance(source, CogSource), path.name
            wide.add(path.name)
        jpeg = path.name in ("cogeo.tif", "cog_rgb.tif")
        assert mean < (0.7 if jpeg else 0.1), path.name
        assert luma < 0.2, path.name
        assert differs < 1e-3, path.name
    assert hot >= 16
    assert wide == {"RGBA.uint16.tif", "all-nodata.tif"}


def test_scenes_of_half_a_metre(data_dir: Path) -> None:
    """JPEG with halved chroma: brightness to rounding, bands within what decoders differ by;
    on its own grid, on a coarser one and in the neighbouring zone."""
    paths = sorted(data_dir.glob("*2023*/imagery/*50cm.tif"))
    assert len(paths) == 16
    for number, path in enumerate(paths):
        scene = scene_of(path)
        own = _own_grid(scene)
        grids = [own]
        if number % 5 == 0:
            grids += [own.with_gsd(0.8), Grid(epsg=own.epsg - 1, gsd_m=0.5)]
        for grid in grids:
            held = extent_on(scene, grid)
            corner = replace(held.grown(9), height=900, width=1300)
            with CogOpener(threads=2) as opener, opener(scene, grid) as source:
                assert isinstance(source, CogSource)
                with RasterioSource(scene, grid) as oracle:
                    mean, luma, differs = _apart(source.read(corner), oracle.read(corner))
            assert mean < 2.5, (path.name, grid)
            assert luma < (0.3 if grid == own else 1.0), (path.name, grid)
            assert differs < (1e-4 if grid == own else 5e-3), (path.name, grid)
