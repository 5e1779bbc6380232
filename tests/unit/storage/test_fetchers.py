"""Fetching byte ranges: joined requests, every kind of store, and files read in pieces."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from quakestream.errors import StorageError
from quakestream.storage import StorageOptions
from quakestream.storage.fetchers import FsspecFetcher, LocalFetcher, open_fetcher
from quakestream.storage.filesystems import MissingObjectError
from quakestream.storage.object_stores import object_store
from quakestream.storage.range_file import FIRST_BYTES, RangeFile
from quakestream.storage.ranges import FetchPolicy, merge_ranges
from tests.helpers.cog_case import RecordingFetcher
from tests.helpers.servers import S3Server, web_server
from tests.helpers.tiles_case import (
    LOCAL,
)


def test_neighbours_are_fetched_together() -> None:
    policy = FetchPolicy(gap_bytes=100, waste=0.1, request_bytes=1000)
    starts, lengths = [2000, 0, 108, 224, 2400], [300, 100, 100, 100, 300]
    requests = merge_ranges(starts, lengths, policy)
    # 8 bytes between the first two and 16 to the third are less than a tenth; 100 would not be
    assert [(r.start, r.length, r.members) for r in requests] == [
        (0, 324, (1, 2, 3)),
        (2000, 300, (0,)),
        (2400, 300, (4,)),
    ]
    assert merge_ranges([5, 5, 7], [4, 4, 8], policy)[0].members == (0, 1, 2)
    assert merge_ranges([], [], policy) == []


def test_fsspec_reads_what_obstore_does_not(moto: S3Server, tmp_path: Path) -> None:
    """fsspec reads stores with settings that only s3fs knows, or with credentials in a profile."""
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


def test_store_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"abc")
    with web_server(tmp_path, {"x.bin": 403}) as server:
        fetcher = open_fetcher(f"{server.url}/x.bin", LOCAL)
        with pytest.raises(StorageError) as caught:
            fetcher.fetch(0, 2)
    assert "\n" not in str(caught.value)
    assert "403" in str(caught.value)


def test_a_file_in_pieces_reads_as_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    data = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    recording = RecordingFetcher(LocalFetcher(str(path)))
    file = RangeFile(recording)
    assert file.read(8) == data[:8]
    file.seek(-100, io.SEEK_END)
    assert file.read() == data[-100:]
    assert file.read(5) == b""
    file.seek(1000)
    assert file.read(FIRST_BYTES) == data[1000 : 1000 + FIRST_BYTES]
    buffer = bytearray(50)
    assert file.readinto(buffer) == 50
    assert bytes(buffer) == data[1000 + FIRST_BYTES : 1050 + FIRST_BYTES]
    assert recording.requests == 3
    assert recording.bytes < len(data)
