"""GDAL opens rasters that hold their own pixels, and nothing that names other files."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from shapely.geometry import box

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import HazardError, SceneError
from quakestream.hazard.rasters import sample_raster
from quakestream.raster.cog.opening import open_source
from quakestream.raster.datasets import GRID_DRIVERS, open_dataset
from quakestream.raster.probe import probe
from quakestream.raster.source import RasterioSource
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import write_scene
from tests.helpers.servers import web_server

NONE = StorageOptions()
Write = Callable[[Path], None]
SECRET, SHOWN = 77, 10


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    write_scene(tmp_path / "secret.tif", np.full((3, 64, 64), SECRET, np.uint8))
    write_scene(tmp_path / "a.tif", np.full((3, 128, 128), SHOWN, np.uint8))
    return tmp_path / "a.tif"


def scene_at(href: str) -> Scene:
    when = dt.datetime(2023, 2, 7, tzinfo=dt.UTC)
    return Scene(id="s", href=href, datetime=when, outline=box(36, 37, 38, 38))


def level_one(path: Path) -> int:
    """The largest count of the picture at half its resolution, read from overviews if any."""
    with open_dataset(str(path), NONE) as dataset:
        return int(dataset.read(1, out_shape=(64, 64)).max())


def vrt(path: Path) -> None:
    rasterio.shutil.copy(path.parent / "secret.tif", path, driver="VRT")


def wms(path: Path) -> None:
    path.write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:1/</ServerUrl>'
        "</Service></GDAL_WMS>"
    )


@pytest.mark.parametrize("write", [vrt, wms])
@pytest.mark.parametrize("served", [False, True], ids=["on disk", "over http"])
def test_text_that_names_pixels_is_no_scene(
    write: object, served: bool, tmp_path: Path, scene: Path
) -> None:
    write(tmp_path / "x.tif")  # type: ignore[operator]
    with web_server(tmp_path) as server:
        href = f"{server.url}/x.tif" if served else str(tmp_path / "x.tif")
        for read in (
            lambda: probe(scene_at(href), NONE),
            lambda: open_dataset(href, NONE, drivers=GRID_DRIVERS).__enter__(),
        ):
            with pytest.raises(SceneError, match="XML, which may name other files"):
                read()
        with pytest.raises(HazardError, match="XML, which may name other files"):
            sample_raster(href, np.array([39.0]), np.array([37.5]))


def test_overviews_named_in_the_metadata_are_refused(tmp_path: Path, scene: Path) -> None:
    secret = str(tmp_path / "secret.tif")
    with rasterio.open(scene, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=secret)
    with pytest.raises(SceneError, match="names another file as its overviews"):
        level_one(scene)


def test_overviews_named_beside_the_file_are_refused(tmp_path: Path, scene: Path) -> None:
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f"{tmp_path}/secret.tif</MDI></Metadata></PAMDataset>"
    )
    with pytest.raises(SceneError, match="names another file as its overviews"):
        level_one(scene)


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".OVR", ".ovr.msk"])
def test_a_companion_that_is_text_is_refused(suffix: str, tmp_path: Path, scene: Path) -> None:
    if suffix == ".ovr.msk":
        write_scene(tmp_path / "a.tif.ovr", np.full((3, 64, 64), 11, np.uint8))
    vrt(tmp_path / f"a.tif{suffix}")
    with pytest.raises(SceneError, match="beside it is not a TIFF"):
        level_one(scene)


def test_a_companion_with_pixels_is_read_on_disk_alone(tmp_path: Path, scene: Path) -> None:
    write_scene(tmp_path / "a.tif.ovr", np.full((3, 64, 64), 11, np.uint8))
    assert level_one(scene) == 11
    with web_server(tmp_path) as server:
        with open_dataset(f"{server.url}/a.tif", NONE) as dataset:
            assert dataset.overviews(1) == []
            assert dataset.read(1).max() == SHOWN
        write_scene(tmp_path / "a.tif.msk", np.full((1, 128, 128), 255, np.uint8))
        with pytest.raises(SceneError, match=r"a.tif.msk: mask of the image lies in a file beside"):
            probe(scene_at(f"{server.url}/a.tif"), NONE)


def test_what_is_no_raster_is_named(tmp_path: Path, scene: Path) -> None:
    (tmp_path / "page.tif").write_text("<!DOCTYPE html><title>Log in</title>")
    (tmp_path / "text.tif").write_text("please ask for access")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "grid.tif").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(80))
    os.mkfifo(tmp_path / "pipe.tif")
    words = {
        "page": "a web page",
        "text": "text",
        "empty": "an empty file",
        "pipe": "a named pipe",
        "grid": "begins like netCDF",
    }
    for name, got in words.items():
        with (
            pytest.raises(SceneError, match=got),
            open_dataset(str(tmp_path / f"{name}.tif"), NONE),
        ):
            pass


def test_a_server_without_ranges_is_read_from_one_copy(tmp_path: Path, scene: Path) -> None:
    from tests.unit.storage.test_web import sends, server

    with server(sends(scene.read_bytes(), ETag='"1"')) as (url, requests):
        for _ in range(3):
            with open_dataset(f"{url}/a.tif", NONE) as dataset:
                assert dataset.read(1).max() == SHOWN
    assert sum("Range" not in headers for _, _, headers in requests) == 1


@pytest.mark.parametrize("west", [180 - 64e-6, -180 - 64e-6], ids=["beyond", "before"])
@pytest.mark.parametrize("reader", [RasterioSource, open_source])
def test_a_scene_in_degrees_is_read_on_both_sides_of_180(
    west: float, reader: Callable[..., Any], tmp_path: Path
) -> None:
    counts = np.full((3, 64, 128), 90, np.uint8)
    counts[:, :, 64:] = 180
    path = tmp_path / "degrees.tif"
    write_scene(path, counts, crs=4326, transform=Affine(1e-6, 0, west, 0, -1e-6, -16.8))
    place = scene_at(str(path))
    grid = Grid(epsg=32760, gsd_m=0.5)
    to_metres = pyproj.Transformer.from_crs(4326, grid.epsg, always_xy=True)
    col, row = ~grid.transform @ to_metres.transform(180.0, -16.8 - 32e-6)
    window = Window(row=round(row) - 4, col=round(col) - 6, height=8, width=12)
    with reader(probe(place, NONE), grid) as source:
        pixels = source.read(window)
    assert pixels.valid_YX.all()
    assert (pixels.counts_BYX[:, :, :4] == 90).all()
    assert (pixels.counts_BYX[:, :, -4:] == 180).all()
