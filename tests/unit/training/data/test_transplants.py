"""Ruins set into real pairs: what is replaced, what is kept, and in which colours."""

from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import box

from quakestream.domain import Grid, Window
from quakestream.raster.statistics import SceneStatistics
from training.data.islahiye import PostCrop
from training.data.pairs import Building, Image, LabelledPair
from training.data.transplants import with_transplants

GRID = Grid(epsg=32637, gsd_m=0.5)
SIDE_PX = 400


def image(level: int) -> Image:
    window = Window(row=-8_000_000, col=600_000, height=SIDE_PX, width=SIDE_PX)
    pixels_BYX = np.full((3, SIDE_PX, SIDE_PX), level, np.uint8)
    statistics = SceneStatistics(mean_B=(90.0, 100.0, 110.0), std_B=(10.0, 20.0, 30.0))
    return Image(grid=GRID, window=window, pixels_BYX=pixels_BYX, statistics=statistics)


def pair_of(destroyed: set[int]) -> LabelledPair:
    """Sixteen houses of 20 m, 50 m apart; some are destroyed."""
    here = LabelledPair(name="t", region="r", pre=image(60), post=image(61), buildings=())
    west, south, _, _ = here.outline.bounds
    places = [(west + 15 + 50 * i, south + 15 + 50 * j) for i in range(4) for j in range(4)]
    houses = tuple(
        Building(id=str(n), geometry=box(x, y, x + 20, y + 20), destroyed=n in destroyed)
        for n, (x, y) in enumerate(places)
    )
    return replace(here, buildings=houses)


def crops(height: int = 40, width: int = 30) -> list[PostCrop]:
    """Of both states, dark and bright pixels by turns."""
    found = []
    for n in range(8):
        pixels_BYX = np.full((3, height, width), 200 if n % 2 else 100, np.uint8)
        inside_YX = np.zeros((height, width), bool)
        inside_YX[10:-10, 8:-8] = True
        found.append(
            PostCrop(
                id=str(n), destroyed=n < 4, block=0, pixels_BYX=pixels_BYX, inside_YX=inside_YX
            )
        )
    return found


def test_a_building_under_a_crop_becomes_the_crops_and_the_others_stay() -> None:
    pair = pair_of({0, 5})
    grafted = with_transplants(pair, crops(), seed=2, share=0.5)
    added = [b for b in grafted.buildings if b.id.startswith("graft")]
    kept = [b for b in grafted.buildings if not b.id.startswith("graft")]
    assert len(added) == 7  # half of the fourteen that stand
    assert {b.destroyed for b in added} == {True, False}
    assert {"0", "5"} <= {b.id for b in kept}
    assert len(kept) == 16 - 7
    assert all(
        sorted(np.ptp(np.reshape(b.geometry.bounds, (2, 2)), axis=0)) == [7, 10] for b in added
    )
    assert np.array_equal(grafted.pre.pixels_BYX, pair.pre.pixels_BYX)
    changed_YX = (grafted.post.pixels_BYX != pair.post.pixels_BYX).any(axis=0)
    assert 0.9 < changed_YX.sum() / (7 * 40 * 30) <= 1.0


def test_crops_take_the_colours_of_the_scene() -> None:
    """Pixels at the mean plus or minus one deviation of all crops stay so far from the scene's."""
    grafted = with_transplants(pair_of(set()), crops(), seed=2, share=0.5)
    values_B = [set(np.unique(band)) - {61} for band in grafted.post.pixels_BYX]
    for band, (mean, std) in enumerate(((90, 10), (100, 20), (110, 30))):
        assert {mean - std, mean + std} <= values_B[band]


def test_no_crop_touches_what_fell_or_leaves_the_image() -> None:
    fallen = pair_of(set(range(16)) - {3})
    wide = with_transplants(fallen, crops(height=108, width=108), seed=1, share=1.0)
    assert wide is fallen
    assert with_transplants(pair_of(set()), crops(height=20), seed=1, share=1.0).buildings == (
        pair_of(set()).buildings
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides_places_and_crops(seed: int) -> None:
    one, again, other = (with_transplants(pair_of(set()), crops(), seed=s) for s in (seed, seed, 3))
    assert np.array_equal(one.post.pixels_BYX, again.post.pixels_BYX)
    assert not np.array_equal(one.post.pixels_BYX, other.post.pixels_BYX)
