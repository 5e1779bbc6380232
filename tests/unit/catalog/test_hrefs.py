"""Which hrefs a catalogue may name, and which place each means."""

from pathlib import Path

import pytest

from quakestream.catalog.hrefs import HrefRule
from quakestream.errors import CatalogItemError
from quakestream.storage import StorageOptions

PUBLIC = "http://192.0.0.9/stac/cat/catalog.json"  # an anycast address of the internet (RFC 7723)
PRIVATE = "http://10.1.2.3/stac/catalog.json"
LOOPBACK = "http://127.0.0.1:8000/stac/catalog.json"
BUCKET = "s3://bucket/stac/cat/catalog.json"
LOCAL = "/data/stac/catalog.json"


@pytest.mark.parametrize(
    ("root", "href", "place"),
    [
        (PUBLIC, "a b.tif?sig=1%2F2", "http://192.0.0.9/stac/cat/a b.tif?sig=1%2F2"),
        (PUBLIC, "../é.tif", "http://192.0.0.9/stac/é.tif"),
        (PUBLIC, "/x/a.tif", "http://192.0.0.9/x/a.tif"),
        (PUBLIC, "s3://other/a.tif", "s3://other/a.tif"),
        (PUBLIC, "https://1.1.1.1/a.tif", "https://1.1.1.1/a.tif"),
        (f"{PUBLIC}?token=t", "./a.tif", "http://192.0.0.9/stac/cat/a.tif"),
        (f"{PUBLIC}?token=t", "?page=2", "http://192.0.0.9/stac/cat/catalog.json?page=2"),
        (PRIVATE, "http://10.9.9.9/a.tif", "http://10.9.9.9/a.tif"),
        (LOOPBACK, "http://127.0.0.1:9000/a.tif", "http://127.0.0.1:9000/a.tif"),
        (LOOPBACK, "http://10.9.9.9/a.tif", "http://10.9.9.9/a.tif"),
        (BUCKET, "../a.tif", "s3://bucket/stac/a.tif"),
        (LOCAL, "../img/a.tif", "/data/img/a.tif"),
        (LOCAL, "http://127.0.0.1:9000/a.tif", "http://127.0.0.1:9000/a.tif"),
        (LOCAL, "2023-02-07T08:00:00.tif", "/data/stac/2023-02-07T08:00:00.tif"),
    ],
)
def test_what_may_be_named_is_found(root: str, href: str, place: str) -> None:
    assert HrefRule(root=root).place(root, f" {href}\n") == place


@pytest.mark.parametrize(
    ("root", "href", "why"),
    [
        (PUBLIC, "file:///etc/passwd", "may not name files of this machine"),
        (BUCKET, "file:///etc/passwd", "may not name files of this machine"),
        (PUBLIC, "memory://x/a.tif", "may not name files of this machine"),
        (PUBLIC, "../../../etc/passwd", "climbs above the root"),
        (BUCKET, "../../../../etc/passwd", "climbs above the root"),
        (PUBLIC, "simplecache::file:///etc/passwd", "simplecache:: is a chain"),
        (LOCAL, "zip::/etc/a.zip", "zip:: is a chain"),
        (LOCAL, "zip://a.tif", "zip:// is not read"),
        (PUBLIC, "ftp://h/a.tif", "ftp:// is not read"),
        (PUBLIC, "http://[::1/a.tif", "it is not an address"),
        (LOCAL, "/vsicurl/http://h/a.tif", "name of GDAL's own"),
        (PUBLIC, "/vsizip/a.zip/a.tif", "name of GDAL's own"),
        (PUBLIC, "http://127.0.0.1/a.tif", "a public catalogue may not name the loopback"),
        (PUBLIC, "http://localhost:9000/a.tif", "may not name the loopback"),
        (PUBLIC, "//10.0.0.1/a.tif", "may not name the private"),
        (PRIVATE, "http://[::1]/a.tif", "may not name the loopback"),
        (LOOPBACK, "http://169.254.169.254/latest", "may not name the link-local"),
        (LOCAL, "http://169.254.169.254/latest", "may not name the link-local"),
        (BUCKET, "http://10.0.0.1/a.tif", "may not name the private"),
    ],
)
def test_what_may_not_be_named_is_refused_by_name(root: str, href: str, why: str) -> None:
    with pytest.raises(CatalogItemError, match=why) as caught:
        HrefRule(root=root).place(root, href)
    assert href in str(caught.value)


def test_an_object_store_of_ones_own_is_no_public_host() -> None:
    """A bucket behind a private endpoint may name hosts beside it."""
    options = StorageOptions(protocols={"s3": {"endpoint_url": "http://10.0.0.5:9000"}})
    rule = HrefRule(root=BUCKET, options=options)
    assert rule.place(BUCKET, "http://10.0.0.6/a.tif") == "http://10.0.0.6/a.tif"


def test_on_disk_the_literal_name_goes_first(tmp_path: Path) -> None:
    root = str(tmp_path / "catalog.json")
    rule = HrefRule(root=root)
    (tmp_path / "a b.tif").touch()
    assert rule.place(root, "a%20b.tif") == str(tmp_path / "a b.tif")
    (tmp_path / "a%20b.tif").touch()
    assert rule.place(root, "a%20b.tif") == str(tmp_path / "a%20b.tif")
    assert rule.place(root, "nowhere%20.tif") == str(tmp_path / "nowhere%20.tif")
