"""Bytes of scenes: joined requests, every kind of store, faults on the way, and how many."""

import http.server
import os
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from quakestream.domain import Scene, Window
from quakestream.errors import ReadError, SceneError, StorageError
from quakestream.raster.cog import CogOpener, LayoutCache, object_stores
from quakestream.raster.cog.fetch import (
    FetchPolicy,
    FsspecFetcher,
    LocalFetcher,
    StoreFetcher,
    open_fetcher,
    runs_of,
)
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.object_stores import object_store
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions, open_store
from quakestream.storage.filesystems import MissingObjectError
from tests.helpers.cog_case import Noting, hot
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
    """The same file elsewhere. Its header is known: GDAL need not ask a server of this process."""
    return replace(scene, href=href)


def over(scene: Scene, href: str, options: StorageOptions = LOCAL, **how: object) -> CogSource:
    layout = replace(make_layout(scene.href, LOCAL), href=href)
    return CogSource(at(scene, href), GRID, layout, options, **how)  # type: ignore[arg-type]


def test_neighbours_are_fetched_together() -> None:
    policy = FetchPolicy(gap_bytes=100, waste=0.1, run_bytes=1000)
    starts, lengths = [2000, 0, 108, 224, 2400], [300, 100, 100, 100, 300]
    runs = runs_of(starts, lengths, policy)
    # 8 bytes between the first two and 16 to the third are less than a tenth; 100 would not be
    assert [(r.start, r.length, r.wanted) for r in runs] == [
        (0, 324, (1, 2, 3)),
        (2000, 300, (0,)),
        (2400, 300, (4,)),
    ]
    assert runs_of([5, 5, 7], [4, 4, 8], policy)[0].wanted == (0, 1, 2)
    assert runs_of([], [], policy) == []


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
    """Signed and escaped URLs go another way, and no store changes them."""
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
    """Windows of cells, halos included, over HTTP: at most 1.15 times the blocks' own bytes."""
    scene = scene_of(write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE", masked=True))
    held = extent_on(scene, GRID)
    layout = make_layout(scene.href, LOCAL)
    needed = int(layout.levels[0].bytes_N.sum() + layout.masks[0].bytes_N.sum())
    with web_server(tmp_path) as server:
        url = f"{server.url}/scene.tif"
        noting = Noting(open_fetcher(url, LOCAL))
        assert isinstance(open_fetcher(url, LOCAL), StoreFetcher)
        with (
            Team(cache_bytes=64 << 20) as team,
            over(scene, url, team=team, opens=lambda *_: noting) as source,
        ):
            for row in range(held.row, held.row_end, 250):
                for col in range(held.col, held.col_end, 250):
                    source.read(Window(row=row, col=col, height=250, width=250).grown(32))
    blocks = len(layout.levels[0].offset_N) + len(layout.masks[0].offset_N)
    assert needed <= noting.bytes <= 1.15 * needed
    assert noting.requests < blocks  # a mask's blocks lie beside the image's


def test_a_header_takes_two_requests_at_most(tmp_path: Path) -> None:
    """tifffile's share: one piece, and one more where the block index is long."""
    from quakestream.raster.cog.ranged import RangedFile

    path = write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE", masked=True)
    noting = Noting(open_fetcher(str(path), LOCAL))
    import tifffile

    with tifffile.TiffFile(RangedFile(noting), name="scene") as tiff:  # type: ignore[arg-type]
        assert len([p.dataoffsets for p in tiff.pages]) == 6
    assert noting.requests == 1
    assert noting.bytes <= 64 << 10


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
    assert isinstance(fetcher, StoreFetcher)
    assert fetcher.size() == (tmp_path / "scene.tif").stat().st_size
    with over(scene, f"{bucket}/scene.tif", moto.options) as source, gdal(scene) as oracle:
        for window in windows(extent_on(scene, GRID)):
            assert_same(source.read(window), oracle.read(window))
    with pytest.raises(MissingObjectError, match="no such object"):
        open_fetcher(f"{bucket}/other.tif", moto.options).fetch(0, 10)


def test_fsspec_reads_what_obstore_does_not(moto: S3Server, tmp_path: Path) -> None:
    """Settings only s3fs knows, and credentials in a profile."""
    (tmp_path / "x.bin").write_bytes(bytes(range(200)))
    bucket = moto.make_bucket("profiles")
    moto.upload(tmp_path, bucket)
    options = StorageOptions(
        protocols={"s3": {**moto.storage["s3"], "default_block_size": 1 << 20}}
    )
    fetcher = open_fetcher(f"{bucket}/x.bin", options)
    assert isinstance(fetcher, FsspecFetcher)
    assert bytes(fetcher.fetch(10, 5)) == bytes(range(10, 15))
    assert fetcher.size() == 200
    with pytest.raises(MissingObjectError):
        open_fetcher(f"{bucket}/y.bin", options).fetch(0, 5)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    href = "s3://bucket/scene.tif"
    assert object_store(href, StorageOptions()) is not None  # the instance's own role
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert object_store(href, StorageOptions()) is None
    anon = StorageOptions(protocols={"s3": {"anon": True, "region": "eu-west-1"}})
    found = object_store(href, anon)
    assert found is not None
    assert found[1] == "scene.tif"
    assert found[0].config["skip_signature"] == "true"
    assert found[0].config["region"] == "eu-west-1"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert object_store(href, StorageOptions()) is not None


def test_other_clouds_need_no_network_to_be_named() -> None:
    assert object_store("gs://bucket/a.tif", StorageOptions(protocols={"gs": {"token": "anon"}}))
    named = StorageOptions(protocols={"az": {"account_name": "someone", "anon": True}})
    found = object_store("az://container/a.tif", named)
    assert found is not None
    assert found[1] == "a.tif"
    assert (
        object_store("gs://bucket/a.tif", StorageOptions(protocols={"gs": {"project": "p"}}))
        is None
    )


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
    """Index, cache of indices in the bucket, and pixels over Ceph radosgw."""
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


def test_store_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"abc")
    with web_server(tmp_path, {"x.bin": 403}) as server:
        fetcher = open_fetcher(f"{server.url}/x.bin", LOCAL)
        with pytest.raises(StorageError) as caught:
            fetcher.fetch(0, 2)
    assert "\n" not in str(caught.value)
    assert "403" in str(caught.value)


def test_a_server_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time a reader waits, not after the server's."""
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")  # who reads does not matter
    monkeypatch.setattr(object_stores, "RETRIES", 1)
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="zstd"))
    with web_server(tmp_path) as server, over(scene, f"{server.url}/scene.tif") as source:
        server.faults["scene.tif"] = -0.3
        began = time.monotonic()
        with pytest.raises(ReadError, match=r"block \d+,\d+\)"):
            source.read(extent_on(scene, GRID))
        assert time.monotonic() - began < 12


def test_a_server_without_ranges_is_no_server_for_blocks(tmp_path: Path) -> None:
    """It sends the whole file for every block: an error, not a slow success."""
    (tmp_path / "x.bin").write_bytes(bytes(1000))

    class Whole(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

    handler = partial(Whole, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetcher = open_fetcher(f"http://127.0.0.1:{server.server_port}/x.bin", LOCAL)
        with pytest.raises(StorageError):
            fetcher.fetch(10, 5)
        server.shutdown()
