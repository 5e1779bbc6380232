"""No ground on both sides of a split: a property, and the real scenes."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.domain import Grid, Window
from quakestream.raster.statistics import SceneStatistics
from training.data.chips import ChipSource
from training.data.pairs import Building, Image, LabelledPair, pixels_inside
from training.data.split import BlockSplit, RegionSplit, buildings_on
from training.data.turkiye import REGION_OF_SCENE, turkiye_pairs

GRID = Grid(epsg=32637, gsd_m=0.5)


def pair_at(row: int, col: int, height: int, width: int, seed: int) -> LabelledPair:
    """A pair whose every pixel is 255, with small buildings strewn over it."""
    window = Window(row=row, col=col, height=height, width=width)
    image = Image(
        grid=GRID,
        window=window,
        pixels_BYX=np.full((3, height, width), 255, np.uint8),
        statistics=SceneStatistics(mean_B=(100.0,) * 3, std_B=(50.0,) * 3),
    )
    rng = np.random.default_rng(seed)
    west, south, east, north = GRID.bounds(window)
    corners = rng.uniform((west, south), (east - 12, north - 12), (60, 2))
    buildings = tuple(
        Building(id=str(i), geometry=shapely.box(x, y, x + 12, y + 12), destroyed=i % 2 == 0)
        for i, (x, y) in enumerate(corners)
    )
    return LabelledPair(name="p", region="r", pre=image, post=image, buildings=buildings)


@settings(max_examples=25, deadline=None)
@given(
    offset=st.tuples(st.integers(-300, 300), st.integers(-300, 300)),
    block_m=st.sampled_from([40.0, 75.0, 150.0]),
    folds=st.integers(2, 6),
    buffer_m=st.floats(0.5, 15.0),
)
def test_two_scenes_of_one_ground_never_train_on_what_either_holds_out(
    offset: tuple[int, int], block_m: float, folds: int, buffer_m: float
) -> None:
    split = BlockSplit(block_m=block_m, folds=folds, fold=0)
    first = pair_at(20_000_000, 900_000, 400, 500, seed=0)
    second = pair_at(20_000_000 + offset[0], 900_000 + offset[1], 400, 500, seed=1)
    held = [split.held_ground(pair) for pair in (first, second)]
    for pair, own in ((first, held[0]), (second, held[1])):
        trained = buildings_on("train", pair, own, buffer_m=buffer_m)
        judged = buildings_on("held", pair, own, buffer_m=buffer_m)
        assert not {b.id for b in trained} & {b.id for b in judged}
        for building in trained:
            assert building.geometry.distance(shapely.union_all(held)) > 0
        assert all(own.contains(b.geometry) for b in judged)
    # What both show is held out by both or by neither.
    shared = first.outline.intersection(second.outline)
    gap = held[0].intersection(shared).symmetric_difference(held[1].intersection(shared))
    assert gap.area < 1e-6


@given(i=st.integers(0, 10_000), j=st.integers(0, 60_000), folds=st.integers(2, 8))
def test_every_block_is_in_one_fold(i: int, j: int, folds: int) -> None:
    inside = [BlockSplit(folds=folds, fold=f).fold_of(32637, i, j) for f in range(folds)]
    assert len(set(inside)) == 1
    assert inside[0] in range(folds)


def test_chips_show_no_held_out_pixel() -> None:
    pair = pair_at(20_000_000, 900_000, 400, 400, seed=2)
    split = BlockSplit(block_m=50.0, folds=3)
    held_YX = pixels_inside(split.held_ground(pair), pair.grid, pair.window)
    assert 0.1 < held_YX.mean() < 0.7
    source = ChipSource([pair], split, raw_px=900, jitter_px=0, buffer_m=2.0, seed=0)
    raw = source.draw(2)
    # Such a chip shows the whole pair; what is not 0 is what training may see.
    for image in (raw.pre_NBYX, raw.post_NBYX):
        assert int((image[0] > 0).all(dim=0).sum()) == int((~held_YX).sum())


def test_whole_regions_are_held_out() -> None:
    pair = pair_at(20_000_000, 900_000, 200, 200, seed=3)
    away = RegionSplit(held_regions=frozenset({"r"})).held_ground(pair)
    here = RegionSplit(held_regions=frozenset({"s"})).held_ground(pair)
    assert buildings_on("train", pair, away, buffer_m=1.0) == ()
    assert len(buildings_on("held", pair, away, buffer_m=1.0)) == 60
    assert len(buildings_on("train", pair, here, buffer_m=1.0)) == 60
    assert buildings_on("held", pair, here, buffer_m=1.0) == ()


@pytest.mark.data
def test_the_scenes_that_overlap_are_one_region_and_share_no_label(data_dir: Path) -> None:
    pairs = {pair.name: pair for pair in turkiye_pairs(data_dir)}
    assert set(pairs) == set(REGION_OF_SCENE)
    third, fourth = pairs["adiyaman3"], pairs["adiyaman4"]
    overlap = third.outline.intersection(fourth.outline)
    assert overlap.area > 100_000
    assert third.region == fourth.region
    assert not any(b.geometry.intersects(overlap) for b in fourth.buildings)
    assert (
        sum(b.geometry.within(overlap) for b in third.buildings if b.destroyed) >= 10
    )  # 17, less those the edge cuts
    split = BlockSplit()
    a, b = (split.held_ground(pair).intersection(overlap) for pair in (third, fourth))
    assert a.symmetric_difference(b).area < 1e-6
    destroyed = [x.id for pair in pairs.values() for x in pair.buildings if x.destroyed]
    assert len(destroyed) == len(set(destroyed))
    assert 240 <= len(destroyed) <= 260
