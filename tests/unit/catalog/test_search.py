"""Search over every kind of catalogue; defects are made by mutating real items."""

import copy
import datetime as dt
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import box, shape

from quakestream.catalog import SearchResult, read_aoi, search
from quakestream.catalog.search import NOTE_IDS
from quakestream.config import EpochFilter, ImagerySection
from quakestream.errors import ConfigError, StorageError
from quakestream.storage import open_store
from tests.helpers.servers import S3Server

Item = dict[str, Any]
EVERYWHERE = read_aoi("-180,-90,180,90")
AOI = box(37.0, 37.0, 38.0, 38.0)


def imagery(
    catalog: str | list[str],
    post: str = "2023-02-06T01:17:34Z/..",
    pre: str | None = "../2023-02-05",
    asset: str = "visual",
    **filters: float,
) -> ImagerySection:
    return ImagerySection(
        catalog=catalog,
        asset=asset,
        post=EpochFilter(datetime=post, **filters),
        pre=None if pre is None else EpochFilter(datetime=pre, **filters),
    )


def item(name: str, when: str | None = "2023-02-07T08:00:00Z", **properties: Any) -> Item:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": shapely.geometry.mapping(box(37.1, 37.1, 37.2, 37.2)),
        "bbox": [37.1, 37.1, 37.2, 37.2],
        "properties": {
            "datetime": when,
            "proj:epsg": 32637,
            "proj:transform": [0.5, 0, 330000, 0, -0.5, 4110000],
            "proj:shape": [20000, 18000],
            **properties,
        },
        "links": [],
        "assets": {"visual": {"href": f"./{name}.tif"}, "thumb": {"href": "./t.jpg"}},
    }


def searched(tmp_path: Path, items: list[Item], **options: Any) -> SearchResult:
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return search(imagery(str(path), **options), AOI)


def ids(scenes: list[Any]) -> set[str]:
    return {scene.id for scene in scenes}


# Real items and their mutations -------------------------------------------------------------


@pytest.fixture(scope="session")
def los_angeles(data_dir: Path) -> list[Item]:
    path = data_dir / "maxar-opendata-stac" / "stac_items_WildFires-LosAngeles-Jan-2025.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()]


def _drop_href(one: Item) -> None:
    del one["assets"]["visual"]["href"]


def _null_href(one: Item) -> None:
    one["assets"]["visual"]["href"] = None


def _drop_asset(one: Item) -> None:
    del one["assets"]["visual"]


def _drop_assets(one: Item) -> None:
    one["assets"] = None


def _garble_datetime(one: Item) -> None:
    one["properties"]["datetime"] = "16/01/2025 at noon"


def _null_datetime(one: Item) -> None:
    one["properties"]["datetime"] = None


def _drop_proj(one: Item) -> None:
    for holder in [one["properties"], *one["assets"].values()]:
        for key in [k for k in holder if k.startswith("proj:")]:
            del holder[key]


def _drop_geometry(one: Item) -> None:
    one["geometry"] = None


def _break_geometry(one: Item) -> None:
    one["geometry"] = {"type": "Polygon", "coordinates": [[["x", 1], [2]]]}


def _drop_place(one: Item) -> None:
    _drop_geometry(one)
    _drop_proj(one)
    one.pop("bbox", None)


def _drop_geometry_and_bbox(one: Item) -> None:
    _drop_geometry(one)
    one.pop("bbox", None)


def _drop_cloud(one: Item) -> None:
    del one["properties"]["tile:clouds_percent"]


def _naive_datetime(one: Item) -> None:
    one["properties"]["datetime"] = one["properties"]["datetime"].removesuffix("Z")


def _span_datetime(one: Item) -> None:
    properties = one["properties"]
    properties["start_datetime"] = properties["end_datetime"] = properties["datetime"]
    properties["datetime"] = None


COSTLY = [_drop_href, _null_href, _drop_asset, _drop_assets, _garble_datetime, _null_datetime]
COSTLY += [_drop_place]
HARMLESS = [_drop_proj, _drop_geometry, _break_geometry, _drop_cloud, _naive_datetime]
HARMLESS += [_span_datetime, _drop_geometry_and_bbox]


@pytest.mark.data
def test_the_real_items_are_all_found(los_angeles: list[Item], data_dir: Path) -> None:
    path = data_dir / "maxar-opendata-stac" / "stac_items_WildFires-LosAngeles-Jan-2025.ndjson"
    found = search(imagery(str(path), "2025-01-08/..", "../2025-01-07"), EVERYWHERE)
    assert ids(found.post) | ids(found.pre) == {one["id"] for one in los_angeles}
    assert not ids(found.post) & ids(found.pre)
    assert found.issues == []
    assert found.notes == []
    by_id = {one["id"]: one for one in los_angeles}
    for scene in found.post + found.pre:
        asset = by_id[scene.id]["assets"]["visual"]
        assert scene.href == asset["href"]
        assert scene.shape == tuple(asset["proj:shape"])
        assert list(scene.transform or ())[:6] == asset["proj:transform"][:6]
        assert scene.cloud_cover == by_id[scene.id]["properties"]["tile:clouds_percent"]
        assert scene.outline.equals(shape(by_id[scene.id]["geometry"]))
    expected = [one for one in los_angeles if one["properties"]["datetime"] >= "2025-01-08"]
    assert len(found.post) == len(expected)


@pytest.mark.data
@pytest.mark.parametrize("mutate", COSTLY + HARMLESS, ids=lambda f: f.__name__)
def test_mutated_items_are_named_and_the_rest_survive(
    los_angeles: list[Item], tmp_path: Path, mutate: Callable[[Item], None]
) -> None:
    items = copy.deepcopy(los_angeles)
    mutated = items[3::40]
    for one in mutated:
        mutate(one)
    path = tmp_path / "items.ndjson"
    path.write_text("\n".join(json.dumps(one) for one in items))
    every = imagery(str(path), "2024-01-01/..", None, max_cloud=100)
    found = search(every, EVERYWHERE)
    wanted = {one["id"] for one in mutated}
    if mutate in COSTLY:
        assert {issue.subject for issue in found.issues} == wanted
        assert ids(found.post) == {one["id"] for one in items} - wanted
        assert all(issue.kind == "item" and issue.cause for issue in found.issues)
    else:
        assert found.issues == []
        assert ids(found.post) == {one["id"] for one in items}
        assert len(found.notes) == 1
        assert f"{len(mutated)} items" in found.notes[0]
        assert sum(name in found.notes[0] for name in wanted) == min(len(mutated), NOTE_IDS)


@pytest.mark.data
def test_a_missing_asset_lists_those_there_are(los_angeles: list[Item], tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(los_angeles[0]))
    found = search(imagery(str(path), "2024-01-01/..", None, asset="rgb"), EVERYWHERE)
    assert found.post == []
    assert "no asset 'rgb': got assets data-mask, ms_analytic, pan_analytic, visual" in (
        found.issues[0].cause
    )


@pytest.mark.data
def test_the_opengeos_collection_becomes_items(data_dir: Path) -> None:
    path = data_dir / "maxar-opendata-stac" / "Kahramanmaras-turkey-earthquake-23.geojson"
    features = json.loads(path.read_text())["features"]
    found = search(imagery(str(path)), EVERYWHERE)
    wanted = {f"{f['properties']['quadkey']}_{f['properties']['catalog_id']}" for f in features}
    assert len(wanted) == 2115
    assert ids(found.post) | ids(found.pre) == wanted
    assert found.issues == []
    late = [f for f in features if f["properties"]["datetime"] >= "2023-02-06T01:17:34Z"]
    assert len(found.post) == len(late)
    assert all(s.href.endswith("-visual.tif") and "UTM zone 3" in s.crs_wkt for s in found.post)
    for asset, lacking in (("ms_analytic", 25), ("pan_analytic", 19)):
        some = search(imagery(str(path), asset=asset), EVERYWHERE)
        assert len(some.issues) == lacking
        assert len(some.post) + len(some.pre) == 2115 - lacking


@pytest.mark.data
def test_a_table_derived_from_it_keeps_zeros_and_places(data_dir: Path) -> None:
    name = "Kahramanmaras-turkey-earthquake-23_items_metadata.geojson"
    found = search(imagery(str(data_dir / "maxar-opendata-stac" / name)), EVERYWHERE)
    scene = next(s for s in found.post if s.id == "031133010322_1050050044DE7E00")
    assert scene.href == (
        "https://maxar-opendata.s3.amazonaws.com/events/Kahramanmaras-turkey-earthquake-23/ard/37/"
        "031133010322/2023-02-07/1050050044DE7E00-visual.tif"
    )
    assert scene.cloud_cover == 26
    assert scene.off_nadir_deg == 20.8


@pytest.mark.data
def test_real_static_examples_are_walked(data_dir: Path) -> None:
    catalog = data_dir / "stac-examples" / "stac-spec" / "catalog.json"
    found = search(imagery(str(catalog), "2010-01-01/..", None, asset="analytic"), EVERYWHERE)
    assert ids(found.post) == {"CS3-20160503_132131_08"}
    assert "proj-example" in {issue.subject for issue in found.issues}


# Odd items, made by hand --------------------------------------------------------------------


def test_times_odd_and_plain(tmp_path: Path) -> None:
    span = {"start_datetime": "2023-02-05T12:00:00Z", "end_datetime": "2023-02-07T12:00:00Z"}
    found = searched(
        tmp_path,
        [
            item("offset", "2023-02-06T04:00:00+03:00"),
            item("after", "2023-02-06T04:18:00+03:00"),
            item("straddles", None, **span),
            item("day-of-event", "2023-02-06"),
            item("naive-near", "2023-02-06T10:00:00"),
            item("naive-far", "2023-02-08T10:00:00"),
            item("number", 20230207),  # type: ignore[arg-type]
        ],
    )
    assert ids(found.post) == {"after", "naive-far"}
    causes = {issue.subject: issue.cause for issue in found.issues}
    # 01:00 UTC on the 6th is neither before the 6th nor after the event.
    assert set(causes) == {"straddles", "day-of-event", "naive-near", "number"}
    assert "give its exact time" in causes["day-of-event"]
    assert found.post[0].datetime == dt.datetime(2023, 2, 6, 1, 18, tzinfo=dt.UTC)


def test_filters_keep_what_does_not_say(tmp_path: Path) -> None:
    found = searched(
        tmp_path,
        [
            item("clear", **{"eo:cloud_cover": 10, "view:off_nadir": 5}),
            item("cloudy", **{"eo:cloud_cover": 90, "view:off_nadir": 5}),
            item("oblique", **{"eo:cloud_cover": 10, "view:off_nadir": 60}),
            item("eo-first", **{"eo:cloud_cover": 1, "tile:clouds_percent": 99}),
            item("silent"),
        ],
        max_cloud=50,
        max_off_nadir=40,
    )
    assert ids(found.post) == {"clear", "eo-first", "silent"}
    assert found.notes == [
        "1 item: post: cloud cover is unknown; used despite max_cloud: silent",
        "2 items: post: off-nadir angle is unknown; used despite max_off_nadir: eo-first, silent",
    ]


def test_only_what_touches_the_aoi(tmp_path: Path) -> None:
    far, broken_far = item("far"), item("broken-far")
    for one in (far, broken_far):
        one["geometry"] = shapely.geometry.mapping(box(10, 10, 11, 11))
    broken_far["assets"] = {}
    found = searched(tmp_path, [item("near"), far, broken_far])
    assert ids(found.post) == {"near"}
    assert found.issues == []


def test_repeated_and_nameless_items(tmp_path: Path) -> None:
    other = item("a")
    other["assets"]["visual"]["href"] = "./other.tif"
    nameless = item("")
    found = searched(tmp_path, [item("a"), item("a"), other, nameless])
    assert [scene.id for scene in found.post] == ["a"]
    assert any("another item has this id" in issue.cause for issue in found.issues)
    assert any("item has no id" in issue.cause for issue in found.issues)
    assert found.notes == ["1 item: listed twice in the catalogue: a"]


def test_projection_in_every_spelling(tmp_path: Path) -> None:
    code, wkt = item("code"), item("wkt")
    for one in (code, wkt):
        del one["properties"]["proj:epsg"]
    code["properties"]["proj:code"] = "EPSG:32637"
    wkt["properties"]["proj:wkt2"] = read_crs_wkt()
    on_asset = item("on-asset", gsd=0.3)
    on_asset["assets"]["visual"]["proj:shape"] = [10, 20]
    found = searched(tmp_path, [code, wkt, on_asset])
    assert found.notes == []
    scenes = {scene.id: scene for scene in found.post}
    assert scenes["on-asset"].shape == (10, 20)
    assert scenes["on-asset"].gsd_m == 0.3
    assert scenes["code"].gsd_m == 0.5
    assert "UTM zone 37N" in scenes["wkt"].crs_wkt


def read_crs_wkt() -> str:
    import pyproj

    return str(pyproj.CRS.from_epsg(32637).to_wkt())


def test_stac_geoparquet(tmp_path: Path) -> None:
    items = [item("p1"), item("p2")]
    rows = [
        {
            "id": one["id"],
            "geometry": shapely.to_wkb(shape(one["geometry"])),
            "assets": one["assets"],
            "datetime": dt.datetime(2023, 2, 7, 8, tzinfo=dt.UTC),
            "proj:epsg": 32637,
        }
        for one in items
    ]
    path = tmp_path / "items.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = search(imagery(str(path)), AOI)
    assert [scene.href for scene in found.post] == [
        str(tmp_path / "p1.tif"),
        str(tmp_path / "p2.tif"),
    ]
    assert found.issues == []


# Static catalogues --------------------------------------------------------------------------


def write_static(put: Callable[[str, bytes], None]) -> None:
    """A catalogue of a collection and a child, with one loop and three broken links."""

    def document(kind: str, *links: tuple[str, str | None]) -> bytes:
        found = [{"rel": rel, "href": href} for rel, href in links]
        return json.dumps(
            {"type": kind, "id": "c", "stac_version": "1.0.0", "links": found}
        ).encode()

    put(
        "catalog.json",
        document(
            "Catalog",
            ("root", "./catalog.json"),
            ("child", "a/c.json"),
            ("item", "./gone.json"),
            ("item", None),
            ("item", "./i1.json"),
        ),
    )
    put(
        "a/c.json",
        document(
            "Collection",
            ("child", "../catalog.json"),
            ("item", "./i2/i2.json"),
            ("item", "./broken.json"),
            ("parent", "../catalog.json"),
        ),
    )
    put("i1.json", json.dumps(item("i1")).encode())
    second = item("i2")
    second["assets"]["visual"]["href"] = "../../images/i2.tif"
    put("a/i2/i2.json", json.dumps(second).encode())
    put("a/broken.json", b'{"type": "Feature", "id": ')


def check_static(found: SearchResult, root: str) -> None:
    assert [(s.id, s.href) for s in found.post] == [
        ("i1", f"{root}/i1.tif"),
        ("i2", f"{root}/images/i2.tif"),
    ]
    subjects = sorted(issue.subject for issue in found.issues)
    assert subjects == [f"{root}/a/broken.json", f"{root}/catalog.json", f"{root}/gone.json"]
    assert all(issue.kind == "item" for issue in found.issues)


def test_a_static_catalogue_on_disk(tmp_path: Path) -> None:
    write_static(open_store(str(tmp_path)).put)
    check_static(search(imagery(str(tmp_path / "catalog.json")), AOI), str(tmp_path))


def test_a_static_catalogue_in_s3(moto: S3Server) -> None:
    root = f"{moto.make_bucket('stac')}/deep"
    write_static(open_store(root, moto.options).put)
    check_static(search(imagery(f"{root}/catalog.json"), AOI, moto.options), root)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"not json at all", "neither JSON"),
        (b"\xff\xfe\x00", "expected JSON in UTF-8"),
        (b'"text"', "expected an object or a list"),
    ],
)
def test_what_is_no_catalogue_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ConfigError, match=match):
        search(imagery(str(tmp_path / "c.json")), AOI)


def test_a_missing_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        search(imagery(str(tmp_path / "none.json")), AOI)


def test_a_broken_line_costs_one_item(tmp_path: Path) -> None:
    lines = [json.dumps(item("a")), '{"id": "cut', "7", json.dumps(item("b"))]
    (tmp_path / "c.ndjson").write_text("\n".join(lines))
    found = search(imagery(str(tmp_path / "c.ndjson")), AOI)
    assert ids(found.post) == {"a", "b"}
    assert ["line 2" in found.issues[0].cause, "line 3" in found.issues[1].cause] == [True, True]


# A STAC API ---------------------------------------------------------------------------------


class StacApi(http.server.BaseHTTPRequestHandler):
    """A small real one: landing page, collection, POST /search with bbox, datetime and paging."""

    items: list[Item]
    searches: list[dict[str, Any]]

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def do_GET(self) -> None:
        links = [
            {"rel": "root", "href": f"{self.root}/"},
            {
                "rel": "search",
                "href": f"{self.root}/search",
                "method": "POST",
                "type": "application/geo+json",
            },
        ]
        common = {"stac_version": "1.0.0", "description": "test"}
        if self.path == "/collections/c":
            links.append({"rel": "items", "href": f"{self.root}/collections/c/items"})
            extent = {
                "spatial": {"bbox": [[-180, -90, 180, 90]]},
                "temporal": {"interval": [[None, None]]},
            }
            self._send(
                common
                | {
                    "type": "Collection",
                    "id": "c",
                    "license": "other",
                    "extent": extent,
                    "links": links,
                }
            )
        elif self.path == "/":
            conforms = [
                "https://api.stacspec.org/v1.0.0/core",
                "https://api.stacspec.org/v1.0.0/item-search",
            ]
            self._send(
                common | {"type": "Catalog", "id": "api", "conformsTo": conforms, "links": links}
            )
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.searches.append(query)
        if query.get("collections") == ["down"]:
            self.send_error(503)
            return
        matching = [one for one in self.items if self._matches(one, query)]
        start = int(query.get("token", 0))
        page = matching[start : start + 3]
        links = []
        if start + 3 < len(matching):
            links = [
                {
                    "rel": "next",
                    "href": f"{self.root}/search",
                    "method": "POST",
                    "body": {**query, "token": str(start + 3)},
                }
            ]
        self._send({"type": "FeatureCollection", "features": page, "links": links})

    @staticmethod
    def _matches(one: Item, query: dict[str, Any]) -> bool:
        first, last = query.get("datetime", "../..").split("/")
        when = str(one["properties"]["datetime"])
        in_time = (first == ".." or first <= when) and (last == ".." or when <= last)
        return in_time and box(*query["bbox"]).intersects(box(*one["bbox"]))

    def _send(self, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[tuple[str, type[StacApi]]]:
    class Handler(StacApi):
        pass

    Handler.items = [item(f"i{n}") for n in range(7)] + [item("old", "2022-05-01T08:00:00Z")]
    Handler.searches = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Handler
    server.shutdown()
    server.server_close()


def test_a_stac_api_is_searched_page_by_page(api: tuple[str, type[StacApi]]) -> None:
    root, handler = api
    handler.items[2]["assets"]["visual"].pop("href")
    handler.items[3].pop("assets")
    handler.items[4]["geometry"] = None
    handler.items[5]["links"] = [{"rel": "self", "href": "s3://bucket/x/i5.json"}]
    found = search(imagery(f"{root}/"), AOI)
    assert ids(found.post) == {"i0", "i1", "i4", "i5", "i6"}
    assert ids(found.pre) == {"old"}
    assert {issue.subject for issue in found.issues} == {"i2", "i3"}
    assert next(s for s in found.post if s.id == "i5").href == "s3://bucket/x/i5.tif"
    tokens = [query.get("token") for query in handler.searches]
    assert tokens == [None, "3", "6", None]
    assert handler.searches[0]["bbox"] == [37.0, 37.0, 38.0, 38.0]
    assert handler.searches[0]["datetime"] == "2023-02-06T01:17:34.000Z/.."


def test_a_collection_of_an_api_is_searched_not_walked(api: tuple[str, type[StacApi]]) -> None:
    root, handler = api
    found = search(imagery(f"{root}/collections/c", pre=None), AOI)
    assert len(found.post) == 7
    assert all(query["collections"] == ["c"] for query in handler.searches)


def test_a_service_that_fails_is_no_empty_answer(api: tuple[str, type[StacApi]]) -> None:
    from quakestream.catalog.api import search_api

    root, _ = api
    said = r"search.*: cannot read: the server answers 50\d .*; run .*, or save its items to a file"
    with pytest.raises(StorageError, match=said):
        search_api(f"{root}/", ["down"], (37.0, 37.0, 38.0, 38.0), ["2023-01-01/.."])
