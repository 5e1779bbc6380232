"""Catalogues that are broken, hostile or merely odd: what they cost, and what they are told."""

import gzip
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quakestream.catalog import search
from quakestream.errors import ConfigError, StorageError
from quakestream.pipeline.planning.scenes import probe_scenes
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import make_world
from tests.helpers.servers import web_server
from tests.unit.catalog.test_search import AOI, ids, imagery, item

DEEP = 100_000
LISTS, OBJECTS = "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP
DATED = '{"datetime": "2023-02-07T08:00:00Z", '


def collection(*items: dict[str, Any]) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(items)})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("properties", DATED + '"x": ' + LISTS + "}"),
        ("geometry", '{"type": "Polygon", "coordinates": ' + LISTS + "}"),
        ("assets", '{"visual": ' + OBJECTS + "}"),
        ("id", LISTS),
        ("links", LISTS),
        ("bbox", "[1e999, -1e999, 7, 8]"),
        ("properties", DATED + '"gsd": ' + "9" * 400 + "}"),
        ("properties", DATED + '"gsd": ' + "9" * 5000 + "}"),
        ("properties", '{"datetime": ' + "9" * 400 + "}"),
        ("properties", "[]"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lines", [False, True], ids=["collection", "lines"])
def test_one_strange_item_costs_itself_at_most(
    place: str, value: str, lines: bool, tmp_path: Path
) -> None:
    strange = json.dumps(item("strange") | {place: "HERE"}).replace('"HERE"', value)
    path = tmp_path / "items.json"
    good = json.dumps(item("good"))
    whole = f'{{"type": "FeatureCollection", "features": [{strange}, {good}]}}'
    path.write_text(f"{strange}\n{good}\n" if lines else whole)
    found = search(imagery(str(path), pre=None), AOI)
    assert "good" in ids(found.post)
    assert len(found.post) + len(found.issues) == 2


@pytest.mark.parametrize("text", [LISTS, OBJECTS])
def test_a_root_of_nothing_but_brackets_is_an_issue(text: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text(text)
    found = search(imagery(str(tmp_path / "catalog.json")), AOI)
    assert not found.post
    assert len(found.issues) == 1


def test_brackets_without_end_are_no_catalogue(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text("[" * DEEP)
    with pytest.raises(ConfigError, match="not a STAC document"):
        search(imagery(str(tmp_path / "catalog.json")), AOI)


@pytest.mark.parametrize(
    "fields",
    [
        {"proj:transform": [1e300, 0, 1e300, 0, -1e300, 1e300]},
        {"proj:epsg": 32661, "proj:transform": [1e9, 0, -1e12, 0, -1e9, 1e12]},
        {"proj:epsg": None, "proj:wkt2": 'LOCAL_CS["nowhere",UNIT["metre",1]]'},
        {"proj:epsg": 30100},
        {"proj:shape": [10**400, 1]},
    ],
)
def test_corners_at_infinity_cost_one_scene_at_most(fields: dict[str, Any], tmp_path: Path) -> None:
    strange = item("strange", **fields) | {"geometry": None}
    del strange["bbox"]
    (tmp_path / "items.json").write_text(collection(strange, item("good")))
    found = search(imagery(str(tmp_path / "items.json"), pre=None), AOI)
    assert "good" in ids(found.post)
    assert len(found.post) + len(found.issues) <= 2


def test_packed_documents_are_read_by_content(tmp_path: Path) -> None:
    plain = collection(item("a"), item("b")).encode()
    lines = b"\n".join(json.dumps(item(n)).encode() for n in "ab")
    for name, data in (("items.json.gz", plain), ("items.json", plain), ("items.ndjson", lines)):
        (tmp_path / name).write_bytes(gzip.compress(data))
        assert ids(search(imagery(str(tmp_path / name)), AOI).post) == {"a", "b"}
    (tmp_path / "cut.json").write_bytes(gzip.compress(plain)[:-20])
    with pytest.raises(ConfigError, match="gzip is damaged"):
        search(imagery(str(tmp_path / "cut.json")), AOI)


def test_a_packed_bomb_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from quakestream.catalog import parsing

    monkeypatch.setattr(parsing, "DOCUMENT", replace(parsing.DOCUMENT, most_bytes=1 << 20))
    (tmp_path / "bomb.json").write_bytes(gzip.compress(bytes(3 << 20)))
    with pytest.raises(StorageError, match="too large: expected at most 1,048,576 bytes"):
        search(imagery(str(tmp_path / "bomb.json")), AOI)


def test_links_to_pipes_devices_and_refused_places_are_issues(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    links = ["pipe.json", "/dev/zero", "zip://x", "http://169.254.169.254/a.json", "good.json"]
    (tmp_path / "good.json").write_text(json.dumps(item("good")))
    catalogue = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": ""}
    catalogue["links"] = [{"rel": "item", "href": href} for href in links]  # type: ignore[assignment]
    (tmp_path / "catalog.json").write_text(json.dumps(catalogue))
    found = search(imagery(str(tmp_path / "catalog.json")), AOI)
    assert ids(found.post) == {"good"}
    causes = "\n".join(sorted(issue.cause for issue in found.issues))
    assert len(found.issues) == 4
    for words in ("a named pipe", "a device", "zip:// is not read", "link-local"):
        assert words in causes


def test_a_catalogue_without_end_is_read_to_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each document links to the next, which a server could go on with for ever."""
    from quakestream.catalog import documents

    monkeypatch.setattr(documents, "CATALOGUE_DOCUMENTS", 5)
    for n in range(20):
        links = [{"rel": "next", "href": f"{n + 1}.json"}]
        page = {"type": "FeatureCollection", "features": [item(f"i{n}")], "links": links}
        (tmp_path / f"{n}.json").write_text(json.dumps(page))
    found = search(imagery(str(tmp_path / "0.json")), AOI)
    assert len(found.post) == 5
    assert any("catalogue is too large" in issue.cause for issue in found.issues)


class LoopingApi(http.server.BaseHTTPRequestHandler):
    """Pages of a search: `pages` of them, then the first again for ever."""

    pages = 1
    asked = 0

    def do_GET(self) -> None:
        root = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path == "/":
            links = [{"rel": "search", "href": f"{root}/search", "method": "GET"}]
            conforms = ["https://api.stacspec.org/v1.0.0/item-search"]
            self._send({"type": "Catalog", "id": "a", "stac_version": "1.0.0", "description": "",
                        "conformsTo": conforms, "links": links})  # fmt: skip
            return
        type(self).asked += 1
        page = int(self.path.rpartition("page=")[2]) if "page=" in self.path else 0
        following = {"rel": "next", "href": f"{root}/search?page={(page + 1) % self.pages}"}
        self._send({"type": "FeatureCollection", "features": [item(f"i{page}")],
                    "links": [following]})  # fmt: skip

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _send(self, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def looping() -> Iterator[tuple[str, type[LoopingApi]]]:
    class Handler(LoopingApi):
        pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", Handler
        server.shutdown()


@pytest.mark.parametrize("pages", [1, 3])
def test_pages_that_come_again_end_the_search(
    pages: int, looping: tuple[str, type[LoopingApi]]
) -> None:
    url, api = looping
    api.pages = pages
    found = search(imagery(url, pre=None), AOI)
    assert ids(found.post) == {f"i{n}" for n in range(pages)}
    assert api.asked == pages + 1
    assert [note for note in found.notes if f"service {url}" in note and "no new item" in note]


def test_more_pages_than_are_read_are_an_issue(
    looping: tuple[str, type[LoopingApi]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from quakestream.catalog import api as module

    url, api = looping
    api.pages = 1000
    monkeypatch.setattr(module, "SEARCH_PAGES", 4)
    found = search(imagery(url, pre=None), AOI)
    assert len(found.post) == 4
    assert any("more than is read" in issue.cause for issue in found.issues)


@pytest.mark.parametrize("name", ["catalog.json", "collection.json", None])
def test_a_folder_as_catalogue_is_refused_with_what_to_name(
    tmp_path: Path, name: str | None
) -> None:
    if name:
        (tmp_path / name).write_text("{}")
    remedy = f"name {tmp_path}/{name}" if name else "`quakestream catalog .* makes a catalogue"
    with pytest.raises(ConfigError, match=f"a folder is no catalogue.*{remedy}"):
        search(imagery(str(tmp_path), pre=None), AOI)


def test_a_mosaic_is_named_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"mosaicjson": "0.0.2", "tiles": {"1": ["https://x.org/a.tif"]}}))
    (issue,) = search(imagery(str(path), pre=None), AOI).issues
    assert "it is a MosaicJSON" in issue.cause
    assert "name STAC items" in issue.cause


def test_a_note_names_some_of_many_items(tmp_path: Path) -> None:
    items = [item(f"i{n}") for n in range(12)]
    for one in items:
        one["properties"]["datetime"] = "2023-02-07"
    (tmp_path / "items.json").write_text(collection(*items))
    notes = search(imagery(str(tmp_path / "items.json"), pre=None), AOI).notes
    (note,) = (n for n in notes if "date without a time" in n)
    assert note.startswith("12 items: ")
    assert note.endswith("i0, i1, i10, i11, i2 and 7 more")


def test_places_are_tried_in_order_and_a_missing_package_costs_one_scene(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with web_server(tmp_path) as server:
        moved = item("moved") | {"assets": {"visual": {
            "href": "gone.tif",
            "alternate": {"s3": {"href": "/vsis3/bucket/x.tif"},
                          "copy": {"href": str(world.post)},
                          "web": {"href": f"{server.url}/{world.post.name}"}},
        }}}  # fmt: skip
        other = item("other") | {"assets": {"visual": {"href": "gs://bucket/a.tif"}}}
        (tmp_path / "items.json").write_text(collection(moved, other))
        found = search(imagery(str(tmp_path / "items.json"), pre=None), AOI)
        first = next(scene for scene in found.post if scene.id == "moved")
        assert first.alternates == (f"{server.url}/{world.post.name}", str(world.post))
        probed = probe_scenes(found.post, StorageOptions())
    assert [scene.href for scene in probed.scenes] == [f"{server.url}/{world.post.name}"]
    assert "other" in {issue.subject for issue in probed.issues}
