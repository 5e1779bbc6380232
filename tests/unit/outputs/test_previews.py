"""Previews: right place, right size, and no picture is worth a map."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from pyproj import Transformer
from rasterio.transform import from_origin

from quakestream.domain import Scene, StatedBands, View
from quakestream.outputs.previews import scene_previews
from quakestream.raster.probe import probe
from quakestream.storage import StorageOptions

WEST, NORTH = 317000.0, 4161000.0


def _scene(folder: Path, name: str, day: int, pixels: np.ndarray, **profile: object) -> Scene:
    """A GeoTIFF of 1 m pixels, EPSG:32637, and the scene that names it."""
    path = folder / f"{name}.tif"
    bands, height, width = pixels.shape
    settings = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": pixels.dtype.name,
        "crs": "EPSG:32637",
        "transform": from_origin(WEST, NORTH, 1, 1),
    }
    with rasterio.open(path, "w", **(settings | profile)) as out:
        out.write(pixels)
    return Scene(
        id=name,
        href=str(path),
        datetime=datetime(2023, 2, day, tzinfo=UTC),
        outline=shapely.box(36, 37, 38, 38),
    )


def _noise(side: int = 600, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (3, side, side)).astype(dtype)


def _picture(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGBA"))


def test_a_landmark_is_where_the_ground_is(tmp_path: Path):
    pixels = np.full((3, 300, 400), 40, dtype=np.uint8)
    pixels[:, 60:80, 300:320] = 250
    scene = _scene(tmp_path, "s", 7, pixels)
    shown = scene_previews([View(id="v", post=scene)], 10**6, StorageOptions()).shown
    (picture,) = shown
    bright = np.argwhere(_picture(picture.webp)[..., 0] > 200).mean(axis=0)
    south, west, north, east = picture.bounds
    to_mercator = Transformer.from_crs(4326, 3857, always_xy=True)
    (x0, x1), (y0, y1) = to_mercator.transform((west, east), (south, north))
    x = x0 + (bright[1] + 0.5) / picture.width * (x1 - x0)
    y = y1 - (bright[0] + 0.5) / picture.height * (y1 - y0)
    utm = Transformer.from_crs(3857, 32637, always_xy=True).transform(x, y)
    assert utm == pytest.approx((WEST + 310, NORTH - 70), abs=1.0)
    assert picture.reduction == 1.0


def test_ground_the_scene_did_not_see_is_transparent(tmp_path: Path):
    pixels = _noise(200)
    pixels[:, :100] = 0
    scene = _scene(tmp_path, "s", 7, pixels, nodata=0)
    (picture,) = scene_previews([View(id="v", post=scene)], 10**6, StorageOptions()).shown
    alpha = _picture(picture.webp)[..., 3]
    assert alpha[: picture.height // 3].max() == 0
    assert alpha[-picture.height // 3 : -10, 20:-20].min() == 255


def test_pictures_stay_within_the_budget_and_say_how_much_they_shrank(tmp_path: Path):
    scenes = [_scene(tmp_path, f"s{d}", d, _noise()) for d in (3, 1, 2)]
    views = [View(id=s.id, post=s) for s in scenes]
    budget = 150_000
    got = scene_previews(views, budget, StorageOptions())
    assert [p.scene for p in got.shown] == ["s1", "s2", "s3"]  # oldest first
    assert sum(len(p.webp) for p in got.shown) <= budget
    assert all(p.reduction > 1 for p in got.shown)


def test_no_room_is_said_by_name(tmp_path: Path):
    got = scene_previews(
        [View(id="v", post=_scene(tmp_path, "s", 7, _noise()))], 2000, StorageOptions()
    )
    assert got.shown == ()
    assert got.left_out == (("s", "no room within the viewer's size"),)


def test_the_newest_scenes_have_pictures_where_there_is_no_room_for_all(tmp_path: Path):
    flat = np.full((3, 220, 220), 90, dtype=np.uint8)
    views = [View(id=s, post=_scene(tmp_path, s, d, flat)) for d, s in enumerate("abcd", 1)]
    room_for_two = int(2.5 * 0.35 * 192**2)
    got = scene_previews(views, room_for_two, StorageOptions())
    assert [p.scene for p in got.shown] == ["c", "d"]
    assert [name for name, _ in got.left_out] == ["a", "b"]


def test_an_unreadable_scene_loses_its_picture_only(tmp_path: Path):
    good = _scene(tmp_path, "good", 7, _noise(220))
    bad = _scene(tmp_path, "bad", 8, _noise(220))
    Path(bad.href).write_bytes(b"not a TIFF at all")
    nowhere = _scene(tmp_path, "nowhere", 9, _noise(220), crs=None)
    views = [View(id=s.id, post=s, pre=good) for s in (bad, nowhere)]
    got = scene_previews(views, 10**6, StorageOptions())
    assert [(p.scene, p.epoch) for p in got.shown] == [("good", "pre")]
    assert [name for name, _ in got.left_out] == ["bad", "nowhere"]
    assert "no CRS" in got.left_out[1][1]


@pytest.mark.parametrize("bands", [3, 4])
def test_counts_of_sixteen_bits_are_shown_by_the_scenes_stretch(tmp_path: Path, bands: int):
    pixels = np.linspace(200, 2200, 90_000).reshape(1, 300, 300).repeat(bands, 0).astype("uint16")
    pixels[:, :40] = 0
    plain = _scene(tmp_path, "s", 7, pixels, nodata=0)
    scene = probe(replace(plain, stated=StatedBands(order=(1, 2, 3))), StorageOptions())
    (picture,) = scene_previews([View(id="v", post=scene)], 10**6, StorageOptions()).shown
    seen = _picture(picture.webp)
    assert seen[:30, 60:-60, 3].max() == 0
    values = seen[60:-60, 60:-60, 0]
    assert 32 <= values.min() < 80
    assert 170 < values.max() <= 232


def test_a_scene_without_a_stretch_for_its_counts_has_no_picture(tmp_path: Path):
    scene = _scene(tmp_path, "s", 7, _noise(dtype="uint16"))
    got = scene_previews([View(id="v", post=scene)], 10**6, StorageOptions())
    assert got.shown == ()
    assert (
        "another dtype than in its plan: it was changed or never probed: expected uint8, got uint16"
        in got.left_out[0][1]
    )
