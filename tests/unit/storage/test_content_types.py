"""Objects in a bucket say what they are, so that a browser opens pages instead of saving them."""

import pytest

from quakestream.storage import open_store
from quakestream.storage.content_types import UNKNOWN, content_type
from quakestream.storage.filesystems import filesystem
from tests.helpers.servers import S3Server

TYPES = {
    "index.html": "text/html; charset=utf-8",
    "run.json": "application/json",
    "summary.csv": "text/csv; charset=utf-8",
    "buildings.parquet": "application/vnd.apache.parquet",
    "map.pmtiles": "application/vnd.pmtiles",
    "scores/a.TIF": "image/tiff; application=geotiff; profile=cloud-optimized",
    "_ledger/cells/abc": UNKNOWN,
    "a.html.part": UNKNOWN,
}


@pytest.mark.parametrize(("name", "expected"), TYPES.items())
def test_the_ending_of_a_name_says_the_type(name: str, expected: str) -> None:
    assert content_type(name) == expected


def test_objects_of_a_bucket_carry_their_type(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    bucket = moto.make_bucket("typed")
    store = open_store(f"{bucket}/run", moto.options)
    for name in TYPES:
        store.put(name, b"<p>")
        fs, path = filesystem(store.uri_of(name), moto.options)
        assert fs.info(path)["ContentType"] == TYPES[name], name
