"""Scenes in stores: over HTTP and S3, with faults, and the number of bytes that are fetched."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.domain import Scene, Window
from quakestream.errors import ReadError, SceneError
from quakestream.raster.cog import CogOpener, LayoutCache
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions, object_stores, open_store
from quakestream.storage.fetchers import LocalFetcher, ObstoreFetcher, WebFetcher, open_fetcher
from quakestream.storage.filesystems import MissingObjectError
from quakestream.storage.object_stores import object_store
from tests.helpers.cog_case import RecordingFetcher, hot
from tests.helpers.servers import S3Server, web_server
from tests.helpers.tiles_case import (
    GRID,
    LOCAL,
    assert_same,
    gdal,
    scene_of,
    windows,
    write_cog,
    write_tiff,
)


def at(scene: Scene, href: str) -> Scene:
    """The same file at another place. Its header is known, so GDAL needs no server for it."""
    return replace(scene, href=href)


def over(scene: Scene, href: str, options: StorageOptions = LOCAL, **how: object) -> CogSource:
    layout = replace(make_layout(scene.href, LOCAL), href=href)
    return CogSource(at(scene, href), GRID, layout, options, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_scene_over_http(threads: int, tmp_path: Path) -> None:
    scene = scene_of(write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE", masked=True))
    with (
        web_server(tmp_path) as server,
        Team(threads) as team,
        over(scene, f"{server.url}/scene.tif", team=team) as source,
        gdal(scene) as oracle,
    ):
        for window in windows(extent_on(scene, GRID)):
            assert_same(source.read(window), oracle.read(window))


def test_http_urls_are_sent_as_they_are_written(tmp_path: Path) -> None:
    """Signed and escaped URLs are read with fsspec and are not changed."""
    folder = tmp_path / "a b"
    folder.mkdir()
    scene = scene_of(write_tiff(folder / "scene.tif", compress="lzw"))
    with web_server(tmp_path) as server:
        url = f"{server.url}/a%20b/scene.tif?signature=x%2Fy"
        assert object_store(url, LOCAL) is None
        with over(scene, url) as source, gdal(scene) as oracle:
            window = extent_on(scene, GRID)
            assert_same(source.read(window), oracle.read(window))


def test_a_scan_fetches_little_more_than_it_needs(tmp_path: Path) -> None:
    """Cells with halos over HTTP fetch at most 1.15 times the blocks' own bytes."""
    scene = scene_of(write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE", masked=True))
    held = extent_on(scene, GRID)
    layout = make_layout(scene.href, LOCAL)
    needed = int(layout.levels[0].bytes_N.sum() + layout.masks[0].bytes_N.sum())
    with web_server(tmp_path) as server:
        url = f"{server.url}/scene.tif"
        recording = RecordingFetcher(open_fetcher(url, LOCAL))
        assert isinstance(open_fetcher(url, LOCAL), WebFetcher)
        with (
            Team(cache_bytes=64 << 20) as team,
            over(scene, url, team=team, opens=lambda *_: recording) as source,
        ):
            for row in range(held.row, held.row_end, 250):
                for col in range(held.col, held.col_end, 250):
                    source.read(Window(row=row, col=col, height=250, width=250).grown(32))
    blocks = len(layout.levels[0].offset_N) + len(layout.masks[0].offset_N)
    assert needed <= recording.bytes <= 1.15 * needed
    assert recording.requests < blocks  # a mask's blocks lie beside the image's


def test_a_header_takes_two_requests_at_most(tmp_path: Path) -> None:
    """tifffile reads one piece, and a second one if the block index is long."""
    from quakestream.storage.range_file import RangeFile

    path = write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE", masked=True)
    recording = RecordingFetcher(open_fetcher(str(path), LOCAL))
    import tifffile

    with tifffile.TiffFile(RangeFile(recording), name="scene") as tiff:  # type: ignore[arg-type]
        assert len([p.dataoffsets for p in tiff.pages]) == 6
    assert recording.requests == 1
    assert recording.bytes <= 64 << 10


@pytest.mark.parametrize("fault", [404, 403, 0.5], ids=str)
def test_faults_of_a_server_name_the_block(fault: float, tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="zstd"))
    with web_server(tmp_path) as server:
        url = f"{server.url}/scene.tif"
        with over(scene, url) as source:
            server.faults["scene.tif"] = fault
            with pytest.raises(ReadError, match=r"scene scene, block \d+,\d+\): ") as caught:
                source.read(extent_on(scene, GRID))
            assert url in str(caught.value)
            assert "\n" not in str(caught.value)
            if fault == 404:
                assert "no such object" in str(caught.value)
            del server.faults["scene.tif"]
            assert source.read(extent_on(scene, GRID)).valid_YX.any()


def test_a_scene_in_a_bucket(moto: S3Server, tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate", predictor=2))
    bucket = moto.make_bucket("scenes")
    moto.upload(tmp_path, bucket)
    fetcher = open_fetcher(f"{bucket}/scene.tif", moto.options)
    assert isinstance(fetcher, ObstoreFetcher)
    assert fetcher.size() == (tmp_path / "scene.tif").stat().st_size
    with over(scene, f"{bucket}/scene.tif", moto.options) as source, gdal(scene) as oracle:
        for window in windows(extent_on(scene, GRID)):
            assert_same(source.read(window), oracle.read(window))
    with pytest.raises(MissingObjectError, match="no such object"):
        open_fetcher(f"{bucket}/other.tif", moto.options).fetch(0, 10)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError):
        LocalFetcher(str(tmp_path / "none.tif"))
    path = write_tiff(tmp_path / "scene.tif")
    source = over(scene_of(path), str(path))
    path.unlink()
    with pytest.raises(SceneError, match="cannot open"):
        source.__enter__()


@pytest.mark.data
@pytest.mark.s3
@pytest.mark.alone
def test_a_real_server_from_header_to_pixels(radosgw: S3Server, tmp_path: Path) -> None:
    """The index, the cache of indices in the bucket, and pixels come from Ceph radosgw."""
    local = scene_of(write_cog(tmp_path / "scene.tif", COMPRESS="JPEG", masked=True))
    bucket = radosgw.make_bucket("hot")
    radosgw.upload(tmp_path, bucket)
    scene = scene_of(f"{bucket}/scene.tif", name="scene", options=radosgw.options)
    store = open_store(f"{bucket}/indices", radosgw.options)
    held = extent_on(scene, GRID)
    with (
        CogOpener(radosgw.options, threads=2, layouts=LayoutCache(store)) as opener,
        hot(scene, opener, GRID) as source,
        CogOpener() as other,
        hot(local, other, GRID) as from_file,
    ):
        assert_same(source.read(held), from_file.read(held))
    assert len(store.list()) == 1
    with CogOpener(radosgw.options, layouts=LayoutCache(store)) as again:
        assert isinstance(again(scene, GRID), CogSource)
    assert np.all(make_layout(scene.href, radosgw.options).levels[0].bytes_N > 0)


def test_a_server_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's time limit counts, not the server's."""
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")  # who reads does not matter
    monkeypatch.setattr(object_stores, "RETRIES", 1)
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="zstd"))
    with web_server(tmp_path) as server, over(scene, f"{server.url}/scene.tif") as source:
        server.faults["scene.tif"] = -0.3
        began = time.monotonic()
        with pytest.raises(ReadError, match=r"block \d+,\d+\)"):
            source.read(extent_on(scene, GRID))
        assert time.monotonic() - began < 12
