"""Real RGB chips: overlapping scenes stay together, and a colour threshold is judged beside."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from quakestream.errors import RequestError
from training.data.slide_chips import info_of, open_chips_of, write_info
from training.data.slide_photos import Photo, groups_of, halves, read_photos
from training.data.slide_scenery_rgb import INFO, write_photos
from training.slides.photos import bareness, colour_threshold


def ground(seed: int, side: int = 700) -> np.ndarray:
    """Blobs of grey with corners to match, (3, y, x)."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    smooth = gaussian_filter(noise, 2.0)
    grey = np.clip(127 + 90 * smooth / smooth.std(), 0, 255)
    return np.repeat(grey[None], 3, axis=0).astype(np.uint8)


def photo(name: str, pixels: np.ndarray, slid: int) -> Photo:
    mask = np.zeros(pixels.shape[1:], np.uint8)
    mask[:slid] = 1
    return Photo(name=name, pixels_BYX=np.ascontiguousarray(pixels), mask_YX=mask)


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    """`a` and `b` share two thirds of their ground; `c` and `d` are elsewhere."""
    first = ground(1)
    return [
        photo("a", first[:, :300, :300], 90),
        photo("b", first[:, 40:340, 70:370], 60),
        photo("c", ground(2)[:, :300, :300], 100),
        photo("d", ground(3)[:, :300, :300], 40),
    ]


def test_scenes_that_share_ground_are_one_group(photos: list[Photo]):
    assert [[p.name for p in group] for group in groups_of(photos)] == [["a", "b"], ["c"], ["d"]]
    sides = [[p.name for p in side] for side in halves(photos)]
    assert sides == [["a", "b"], ["c", "d"]]


def test_left_out_scenes_are_neither_trained_nor_validated_on(photos: list[Photo], tmp_path: Path):
    write_info(tmp_path, INFO)
    assert write_photos(tmp_path, photos, 0) == 2
    names = [n for part in ("train",) for n in open_chips_of(tmp_path, part).names]
    assert {n[1] for n in names} == {"c", "d"}
    assert (tmp_path / "left_out.txt").read_text().split() == ["a", "b"]
    image, mask = open_chips_of(tmp_path, "train").read([0])
    assert image.shape == (1, 3, 256, 256)
    assert mask.shape == (1, 256, 256)
    assert info_of(tmp_path).dtype == "uint8"


def test_files_come_back_and_a_missing_mask_is_named(photos: list[Photo], tmp_path: Path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for p in photos[:2]:
        Image.fromarray(np.moveaxis(p.pixels_BYX, 0, -1)).save(tmp_path / f"images/{p.name}.png")
        Image.fromarray(p.mask_YX * 255).save(tmp_path / f"masks/{p.name}.png")
    read = read_photos(tmp_path)
    np.testing.assert_array_equal(read[1].pixels_BYX, photos[1].pixels_BYX)
    np.testing.assert_array_equal(read[1].mask_YX, photos[1].mask_YX)
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(RequestError) as caught:
        read_photos(tmp_path)
    assert caught.value.where.endswith("b.png")


def test_bare_soil_is_barer_than_trees_water_and_shadow():
    colours = {
        "soil": (150, 120, 90),
        "tree": (60, 90, 45),
        "water": (40, 60, 70),
        "dark": (25, 22, 20),
    }
    value = {
        name: float(bareness(np.array(rgb, np.uint8).reshape(3, 1, 1))[0, 0])
        for name, rgb in colours.items()
    }
    assert value["soil"] > 2 * max(value["tree"], value["water"], value["dark"])
    pixels = np.array([colours["soil"], colours["tree"]], np.uint8).T.reshape(3, 1, 2)
    both = Photo(name="x", pixels_BYX=pixels, mask_YX=np.array([[1, 0]], np.uint8))
    assert value["tree"] < colour_threshold([both]) <= value["soil"]
