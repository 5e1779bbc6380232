"""Storage over files, memory, HTTP and a real S3 protocol server (moto) on loopback."""

import errno
import http.server
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from quakestream.errors import MissingExtraError, StorageError
from quakestream.storage import (
    MissingObjectError,
    StorageOptions,
    Store,
    fingerprint,
    gdal_env,
    gdal_path,
    local_copy,
    open_store,
    read_bytes,
    relative_href,
    resolve_href,
)
from quakestream.storage.fetchers import FsspecFetcher, open_fetcher
from quakestream.storage.filesystems import storage_errors
from quakestream.storage.store import _is_taken
from quakestream.storage.uris import bucket_of, one_of_each_bucket
from tests.helpers.servers import S3Server


@pytest.fixture(scope="module")
def s3_options(moto: S3Server) -> StorageOptions:
    moto.make_bucket("bucket")
    return moto.options


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return open_store(str(tmp_path / "deep" / "out"))
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}/out")
    return open_store(f"s3://bucket/{uuid.uuid4().hex}/", request.getfixturevalue("s3_options"))


def fetched(store: Store, key: str, start: int, length: int) -> bytes:
    """Fetches a range: of a local file as a file, else with fsspec."""
    uri = store.uri_of(key)
    if store.uri.startswith("/"):
        return bytes(open_fetcher(uri, store.options).fetch(start, length))
    return bytes(FsspecFetcher(uri, store.options).fetch(start, length))


def test_a_store_gives_back_what_was_put(store: Store) -> None:
    data = bytes(range(256)) * 5
    assert store.list() == []
    store.put("a/b/one.bin", data)
    store.put("a/two.bin", b"2")
    assert store.get("a/b/one.bin") == data
    assert fetched(store, "a/b/one.bin", 255, 3) == b"\xff\x00\x01"
    assert fetched(store, "a/b/one.bin", len(data) - 2, 10) == data[-2:]
    assert fetched(store, "a/b/one.bin", 0, 0) == b""
    assert read_bytes(store.uri_of("a/two.bin"), store.options) == b"2"


def test_listing_is_by_prefix_and_never_stale(store: Store) -> None:
    for key in ("ledger/1.parquet", "ledger/10.parquet", "ledger/sub/2.parquet", "led.txt"):
        store.put(key, b"x")
    assert store.list("ledger/") == [
        "ledger/1.parquet",
        "ledger/10.parquet",
        "ledger/sub/2.parquet",
    ]
    assert store.list("ledger/1") == ["ledger/1.parquet", "ledger/10.parquet"]
    assert store.list("nothing/") == []
    store.put("ledger/3.parquet", b"x")
    store.delete("ledger/1.parquet")
    store.delete("ledger/1.parquet")
    assert store.list("led") == [
        "led.txt",
        "ledger/10.parquet",
        "ledger/3.parquet",
        "ledger/sub/2.parquet",
    ]
    assert store.exists("led.txt")
    assert not store.exists("ledger/1.parquet")
    store.delete("ledger/sub/2.parquet")
    for folder in ("ledger/", "nothing/"):
        store.drop_empty_folders(folder)
    assert store.list("ledger/") == ["ledger/10.parquet", "ledger/3.parquet"]
    assert not (Path(store.uri) / "ledger" / "sub").exists()
    assert not store.exists("ledger")


def test_put_replaces_and_the_fingerprint_tells(store: Store) -> None:
    store.put("k", b"first")
    first = fingerprint(store.uri_of("k"), store.options)
    assert first == fingerprint(store.uri_of("k"), store.options)
    store.put("k", b"second, longer")
    assert store.get("k") == b"second, longer"
    assert fingerprint(store.uri_of("k"), store.options) != first


def test_what_is_missing_is_said_to_be_missing(store: Store) -> None:
    with pytest.raises(MissingObjectError, match=r"no such (object|file)"):
        store.get("nope.bin")
    with pytest.raises(FileNotFoundError):
        fetched(store, "nope.bin", 0, 1)
    with pytest.raises(StorageError):
        fingerprint(store.uri_of("nope.bin"), store.options)
    with pytest.raises(MissingObjectError), local_copy(store.uri_of("nope.bin"), store.options):
        pass


def test_a_store_travels_and_a_copy_has_the_name(store: Store) -> None:
    store.put("x/scene.tif", b"pixels")
    there: Store = pickle.loads(pickle.dumps(store))
    assert there.get("x/scene.tif") == b"pixels"
    with local_copy(store.uri_of("x/scene.tif"), store.options) as path:
        assert path.name == "scene.tif"
        assert path.read_bytes() == b"pixels"


def test_errors_survive_pickling() -> None:
    error = MissingObjectError("cannot read x: gone")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, MissingObjectError)
    assert str(again) == str(error)


def test_a_put_that_fails_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    """A write really fails, in a process whose files may not exceed 1000 bytes."""
    store = open_store(str(tmp_path))
    store.put("k", b"old")
    process = multiprocessing.get_context("fork").Process(target=_put_too_much, args=(store,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert store.get("k") == b"old"
    assert os.listdir(tmp_path) == ["k"]


def _put_too_much(store: Store) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with pytest.raises(StorageError, match="larger than the system allows"):
        store.put("k", b"n" * 5000)


def test_a_full_disk_and_a_closed_door_are_named() -> None:
    with pytest.raises(StorageError, match="no space left"), storage_errors("write", "/x"):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    denied = PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(StorageError, match=r"permission denied.*check credentials"):
        _raise_inside("s3://b/k", denied)


def _raise_inside(uri: str, error: Exception) -> None:
    with storage_errors("read", uri):
        raise error


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        open_store(str(tmp_path / "out")).put("k", b"x")


def test_an_unfinished_put_is_never_listed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("k", b"x")
    (tmp_path / ".quakestream-part-0123").write_bytes(b"killed half way")
    assert store.list() == ["k"]


def test_a_bucket_that_is_not_there_is_an_error(s3_options: StorageOptions) -> None:
    with pytest.raises(StorageError, match="no-such-bucket"):
        open_store("s3://no-such-bucket/x", s3_options).put("k", b"x")


def test_unknown_and_uninstalled_protocols() -> None:
    with pytest.raises(StorageError, match="unknown protocol 'gopher'"):
        open_store("gopher://a/b")
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="pip install gcsfs"):
            open_store("gs://bucket/x")


class _RangelessHandler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/secret"):
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = partial(_RangelessHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_http_is_read_only_and_says_why_not(web: str, tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(b"0123456789")
    store = open_store(web)
    assert store.get("a%20b.bin") == b"0123456789"
    # This server ignores Range and sends everything.
    assert fetched(store, "a%20b.bin", 2, 3) == b"234"
    assert fingerprint(store.uri_of("a%20b.bin"))
    with pytest.raises(StorageError, match="permission denied"):
        store.get("secret.bin")
    with pytest.raises(FileNotFoundError):
        store.get("nope.bin")
    with pytest.raises(StorageError, match="read-only"):
        store.put("k", b"x")


def test_gdal_reads_the_same_objects(store: Store, tmp_path: Path) -> None:
    if store.uri.startswith("memory"):
        with pytest.raises(StorageError, match="GDAL cannot read"):
            gdal_path(store.uri_of("x.tif"))
        return
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    profile = {"driver": "GTiff", "width": 4, "height": 3, "count": 1, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32637", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}
    with rasterio.open(tmp_path / "t.tif", "w", **profile) as sink:
        sink.write(pixels)
    store.put("x.tif", (tmp_path / "t.tif").read_bytes())
    with (
        rasterio.Env(**gdal_env(store.options)),
        rasterio.open(gdal_path(store.uri_of("x.tif"))) as source,
    ):
        assert np.array_equal(source.read(), pixels)


def test_gdal_env_says_what_the_options_say() -> None:
    s3 = {"endpoint_url": "http://127.0.0.1:7480", "anon": True, "region": "eu-west-1"}
    env = gdal_env(StorageOptions(protocols={"s3": s3}))
    assert env["AWS_S3_ENDPOINT"] == "127.0.0.1:7480"
    assert env["AWS_HTTPS"] == "NO"
    assert env["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert env["AWS_NO_SIGN_REQUEST"] == "YES"
    assert env["AWS_REGION"] == "eu-west-1"
    assert gdal_path("https://h/a.tif?sig=1") == "/vsicurl/https://h/a.tif?sig=1"
    assert gdal_path("file:///a/b%20c.tif") == "/a/b c.tif"


@pytest.mark.parametrize(
    ("base", "href", "want"),
    [
        ("s3://b/stac/catalog.json", "./items/1.json", "s3://b/stac/items/1.json"),
        ("s3://b/stac/items/1.json", "../../img/1.tif", "s3://b/img/1.tif"),
        ("s3://b/stac/catalog.json", "/img/1.tif", "s3://b/img/1.tif"),
        ("/data/stac/catalog.json", "items/1.json", "/data/stac/items/1.json"),
        ("/data/stac/catalog.json", "s3://b/1.tif", "s3://b/1.tif"),
        ("https://h/a/c.json?sig=x", "i.json?sig=y", "https://h/a/i.json?sig=y"),
        ("https://h/a/c.json", "//other/i.json", "https://other/i.json"),
        ("memory://m/a/c.json", "i.json", "memory://m/a/i.json"),
    ],
)
def test_hrefs_resolve(base: str, href: str, want: str) -> None:
    assert resolve_href(base, href) == want


@pytest.mark.parametrize(
    ("base", "uri", "want"),
    [
        ("/d/stac/items/1.json", "/d/img/1.tif", "../../img/1.tif"),
        ("/d/stac/catalog.json", "/d/stac/1.json", "./1.json"),
        ("s3://b/stac/1.json", "s3://b/img/1.tif", "../img/1.tif"),
        ("s3://b/stac/1.json", "s3://other/1.tif", "s3://other/1.tif"),
        ("/d/stac/1.json", "https://h/1.tif?s=1", "https://h/1.tif?s=1"),
    ],
)
def test_relative_hrefs_resolve_back(base: str, uri: str, want: str) -> None:
    assert relative_href(base, uri) == want
    assert resolve_href(base, want) == uri


def test_one_object_of_each_bucket() -> None:
    """Files and web servers are in none."""
    uris = ("s3://b/x", "a.tif", "https://h/a.tif", "gs://b/y", "s3a://b/z", "s3://c/x", "/s3/w")
    assert one_of_each_bucket(uris) == ("s3://b/x", "gs://b/y", "s3://c/x")
    assert [bucket_of(uri) for uri in uris[:4]] == ["s3://b", "", "", "gs://b"]


def test_a_local_folder_that_cannot_be_made_is_not_called_a_bucket() -> None:
    with pytest.raises(StorageError, match="cannot write: its folder cannot be made"):
        open_store("/proc/none").put("file", b"")


@pytest.mark.parametrize(
    ("error", "taken"),
    [
        ({"Code": "PreconditionFailed"}, True),  # Ceph names no condition
        ({"Code": "PreconditionFailed", "Condition": "If-None-Match"}, True),
        ({"Code": "ConditionalRequestConflict"}, True),
        ({"Code": "AccessDenied"}, False),
        ({"Code": "NotImplemented"}, False),
    ],
)
def test_an_object_that_is_there_is_told_from_other_refusals(
    error: dict[str, str], taken: bool
) -> None:
    refused = ClientError({"Error": error}, "PutObject")  # type: ignore[typeddict-item]
    assert _is_taken(translate_boto_error(refused)) is taken
