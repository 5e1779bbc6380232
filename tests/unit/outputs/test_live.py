"""What `quakestream view` serves: the whole map by parts, scenes by their ids, nothing else."""

import gzip
import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from pyproj import Transformer
from rasterio.transform import from_origin

from quakestream.cli.view import map_server
from quakestream.domain import Scene, View
from quakestream.outputs import geoparquet
from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.live import LiveMap
from quakestream.outputs.pictures import WORLD_M
from quakestream.outputs.publish import publish
from quakestream.outputs.viewer_rows import core_blob, core_columns
from quakestream.storage import Store, open_store
from tests.helpers.outputs_case import LABELS, buildings, products

WEST, NORTH = 316900.0, 4161000.0
NAME = "post/1 ?x"
"""The id of a scene, with what an address would misread."""
PIXELS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published map of 3,000 buildings in several row groups, over one scene of 0.5 m."""
    folder = tmp_path_factory.mktemp("live")
    pixels = np.full((3, 800, 1200), PIXELS, np.uint8)
    pixels[:, 200:220, 300:320] = 250
    with rasterio.open(
        folder / "s.tif",
        "w",
        driver="GTiff",
        count=3,
        height=800,
        width=1200,
        dtype="uint8",
        crs="EPSG:32637",
        transform=from_origin(WEST, NORTH, 0.5, 0.5),
    ) as out:
        out.write(pixels)
    scene = Scene(
        id=NAME,
        href=str(folder / "s.tif"),
        datetime=datetime(2023, 2, 7, tzinfo=UTC),
        outline=shapely.box(36, 37, 38, 38),
        gsd_m=0.5,
    )
    rows = buildings(3000)
    rows["scene_post"] = NAME
    rows.loc[0, "scene_post"] = f"{NAME};gone"
    record = {"id": NAME, "href": scene.href, "datetime": scene.datetime.isoformat(), "gsd_m": 0.5}
    run = {
        "event": {"id": "test"},
        "counts": {"footprints": 3000},
        "inputs": {"scenes": [record, {**record, "id": "gone", "href": str(folder / "gone.tif")}]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geoparquet, "ROWS_PER_GROUP", 700)
        publish(
            open_store(str(folder / "out")),
            products(buildings=rows, run=run, views=[View(id="v", post=scene)]),
        )
    return folder / "out"


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(str(folder))


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    with map_server(store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_parts_together_are_the_table(store: Store):
    live = LiveMap(store)
    rows = ordered_buildings(buildings(3000).assign(scene_post=NAME), LABELS, ("dpm",))
    assert live.content.layers == ("dpm",)
    assert live.core == core_blob(core_columns(rows, LABELS))
    groups = [json.loads(gzip.decompress(live.details(g))) for g in (0, 1)]
    assert [i for g in groups for i in g["id"]] == rows["building_id"].tolist()
    assert np.cumsum(groups[1]["row"]).tolist() == list(range(2000, 3000))
    assert live.details(2) is None
    assert groups[0]["hazard"][0]["values"] == [8.25] * 2000


def test_each_tile_of_an_acquisition_has_its_pictures(address: str):
    with urllib.request.urlopen(address) as reply:
        text = reply.read().decode()
    frames = json.loads(text.split('id="data-pictures">')[1].split("<")[0])
    assert [(f["epoch"], f["scene"]) for f in frames] == [("post", "gone"), ("post", NAME)]


def test_an_id_is_found_exactly_first(store: Store):
    live = LiveMap(store)
    found = live.find("b12")
    assert found[0]["id"] == "b12"
    assert len(found) == 8
    assert all("b12" in one["id"] for one in found)
    assert live.find("B2999")[0]["id"] == "b2999"
    assert live.find("nothing of the kind") == []


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_a_window_is_the_ground_at_full_resolution(store: Store):
    to_degrees = Transformer.from_crs(32637, 4326, always_xy=True)
    lon, lat = to_degrees.transform(WEST + 155, NORTH - 105)  # the middle of the bright square
    half = 0.00005
    data = LiveMap(store).window(NAME, (lon - half, lat - half, lon + half, lat + half))
    seen = _pixels(data)
    assert seen.shape[0] == seen.shape[1]
    assert pytest.approx(seen.shape[0], abs=3) == 50 / 0.5  # 50 m at 0.5 m a pixel
    bright = np.argwhere(seen[..., 0] > 150)
    assert bright.mean(axis=0) == pytest.approx([seen.shape[0] / 2] * 2, abs=1.5)
    assert len(bright) == pytest.approx(20 * 20, rel=0.15)


def test_a_tile_is_where_the_web_tiling_says(store: Store):
    live, z = LiveMap(store), 18
    to_mercator = Transformer.from_crs(32637, 3857, always_xy=True)
    x, y = to_mercator.transform(WEST + 155, NORTH - 105)
    step = WORLD_M / 2**z
    column, row = (x + WORLD_M / 2) / step, (WORLD_M / 2 - y) / step
    seen = _pixels(live.tile(NAME, z, int(column), int(row)))
    bright = np.argwhere(seen[..., 0] > 150).mean(axis=0)
    assert bright == pytest.approx([row % 1 * 256, column % 1 * 256], abs=2)
    assert _pixels(live.tile(NAME, z, 0, 0)).shape == (1, 1, 4)
    assert _pixels(live.tile(NAME, z, 0, 0))[0, 0, 3] == 0
    assert live.tile(NAME, 13, 0, 0) is None
    assert live.tile("another", z, int(column), int(row)) is None


def test_scenes_go_by_their_ids_and_never_by_an_address(address: str, folder: Path):
    with urllib.request.urlopen(f"{address}/live/scenes/{quote(NAME, safe='')}/18/1/1") as reply:
        assert reply.headers["Content-Type"] == "image/webp"
    target = quote(str(folder.parent / "s.tif"), safe="")
    bounds = "36.93,37.57,36.9301,37.5701"
    for path, code in {
        f"live/scenes/{target}/18/1/1": 404,
        f"live/scenes/{target}/window?bounds={bounds}": 404,
        f"live/scenes/gone/window?bounds={bounds}": 502,
        f"live/scenes/{quote(NAME, safe='')}/window?bounds=1,2": 404,
        f"live/scenes/{quote(NAME, safe='')}/window?bounds=0,0,9,9": 404,
        f"live/scenes/{quote(NAME, safe='')}/window?bounds=nan,nan,nan,nan": 404,
        "live/details/99": 404,
        "live/details/-1": 404,
        "live/core/x": 404,
    }.items():
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{address}/{path}")
        assert error.value.code == code, path


def test_the_page_asks_its_own_server_alone(address: str):
    with urllib.request.urlopen(address) as reply:
        text = reply.read().decode()
    policy = text.split('Content-Security-Policy" content="')[1].split('"')[0]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert len(text) < 400_000  # no buildings and no pictures inside
