"""No ground on both sides of a split: properties, the real scenes, and the field points."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.domain import Grid, Window
from quakestream.errors import RequestError, ShapeError
from quakestream.raster.statistics import SceneStatistics
from training.data.chips import ChipSource
from training.data.pairs import Building, Image, LabelledPair, pixels_inside
from training.data.splits import (
    BlockSplit,
    Fold,
    RegionSplit,
    RowSplit,
    block_folds,
    buildings_on,
    chosen_groups,
    group_folds,
    label_fraction,
    masks_of_table,
    paper_parts,
    random_split,
    table_block_folds,
    table_region_folds,
    training_fraction,
)
from training.data.turkiye import REGION_OF_SCENE, turkiye_pairs
from training.data.vectors import read_field_points

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
    raw = source.draw(1, range(2), of=2)
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


def points(count: int, seed: int, side: float = 10.0) -> np.ndarray:
    """Places in clusters, as buildings stand; shape (count, 2)."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-side, side, (6, 2))
    return middle[rng.integers(0, 6, count)] + rng.normal(0, side / 8, (count, 2))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(60, 300),
    block=st.sampled_from([0.5, 1.0, 2.0]),
    buffer=st.floats(0, 2.5),
    folds=st.integers(2, 5),
    seed=st.integers(0, 10_000),
)
def test_a_block_is_held_once_whole_and_the_buffer_keeps_training_away(
    count: int, block: float, buffer: float, folds: int, seed: int
) -> None:
    xy_N2 = points(count, seed)
    made = block_folds(xy_N2[:, 0], xy_N2[:, 1], block, buffer, folds, seed)
    held_NF = np.stack([fold.held_N for fold in made], axis=1)
    assert (held_NF.sum(axis=1) == 1).all()
    assert held_NF.any(axis=0).all()
    cells = [tuple(c) for c in np.floor(xy_N2 / block).astype(int).tolist()]
    for fold in made:
        assert not fold.train_N[fold.held_N].any()
        of = {
            cell: {bool(fold.held_N[n]) for n, c in enumerate(cells) if c == cell} for cell in cells
        }
        assert all(len(sides) == 1 for sides in of.values())
        apart = np.abs(xy_N2[fold.train_N][:, None] - xy_N2[fold.held_N][None])
        assert apart.max(axis=2, initial=0).min(initial=np.inf) >= buffer - 1e-9
        # Nothing is left out but what lies within the buffer of a held block with a row in it.
        held_cells = np.array([c for c, sides in of.items() if True in sides])
        low = held_cells[None] * block
        gap = np.maximum(low - xy_N2[:, None], xy_N2[:, None] - low - block).max(axis=2).min(axis=1)
        np.testing.assert_array_equal(fold.train_N, ~fold.held_N & (gap >= buffer))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(60, 200))
def test_folds_do_not_hang_on_the_order_of_rows_and_come_again(seed: int, count: int) -> None:
    xy_N2 = points(count, seed)
    order = np.random.default_rng(seed).permutation(count)
    first = block_folds(*xy_N2.T, 1.0, 0.3, 4, seed)
    again = block_folds(*xy_N2.T, 1.0, 0.3, 4, seed)
    mixed = block_folds(*xy_N2[order].T, 1.0, 0.3, 4, seed)
    for a, b, c in zip(first, again, mixed, strict=True):
        np.testing.assert_array_equal(a.held_N, b.held_N)
        np.testing.assert_array_equal(a.train_N, b.train_N)
        np.testing.assert_array_equal(a.train_N[order], c.train_N)


def test_block_folds_refuse_what_cannot_be_split() -> None:
    one = np.zeros(9)
    with pytest.raises(RequestError, match="got 1 of side 1 for 9 rows"):
        block_folds(one, one, 1.0, 0.1, 2)
    with pytest.raises(RequestError, match="no finite coordinates"):
        block_folds(np.array([0.0, np.nan]), np.zeros(2), 1.0, 0.1, 2)
    with pytest.raises(RequestError, match="expected a positive side, a buffer"):
        block_folds(one, one, 0.0, 0.1, 2)
    with pytest.raises(ShapeError):
        block_folds(one, one[:3], 1.0, 0.1, 2)


@settings(max_examples=40, deadline=None)
@given(
    label=st.lists(st.integers(-1, 3), min_size=1, max_size=80).map(np.array),
    fractions=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 99),
)
def test_fractions_are_stratified_and_the_small_one_is_inside_the_large_one(
    label: np.ndarray, fractions: list[float], seed: int
) -> None:
    small, large = (label_fraction(label, fraction, seed) for fraction in fractions)
    assert not (small & ~large).any()
    assert not (large & (label < 0)).any()
    for value in set(label[label >= 0].tolist()):
        of_class = (label == value).sum()
        kept = (small & (label == value)).sum()
        assert kept == np.ceil(of_class * fractions[0] - 1e-9) >= 1
    np.testing.assert_array_equal(label_fraction(label, 1.0, seed), label >= 0)


def test_a_fraction_is_of_the_training_side() -> None:
    label = np.arange(200) % 2
    whole = random_split(200, seed=1)
    train_N = training_fraction(whole.train_N, label, 0.1, seed=2)
    fold = Fold(train_N=train_N, held_N=whole.held_N)
    for value in (0, 1):
        of_class = (whole.train_N & (label == value)).sum()
        assert (fold.train_N & (label == value)).sum() == -(-of_class // 10)
    assert not (fold.train_N & ~whole.train_N).any()
    assert not (fold.train_N & fold.held_N).any()
    with pytest.raises(RequestError, match="label fraction is out of range"):
        label_fraction(label, 0.0, 1)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(20, 3000), seed=st.integers(0, 99))
def test_the_papers_random_splits_by_name(n: int, seed: int) -> None:
    two = paper_parts("paper-85-15", n, seed)
    three = paper_parts("paper-70-15-15", n, seed)
    for parts in (two, three):
        np.testing.assert_array_equal(np.sum(list(parts.values()), axis=0), 1)
    assert two["train"].sum() == n * 85 // 100
    assert three["train"].sum() == n * 70 // 100
    np.testing.assert_array_equal(two["train"], random_split(n, 0.85, seed).train_N)


def test_the_papers_counts_come_out() -> None:
    """QuakeMetaFormer: L 81,424/14,369, S 13,277/2,343."""
    for train, test in ((81_424, 14_369), (13_277, 2_343)):
        fold = random_split(train + test)
        assert (fold.train_N.sum(), fold.held_N.sum()) == (train, test)
    with pytest.raises(RequestError, match="unknown split: expected one of paper-85-15"):
        paper_parts("mine", 100)
    with pytest.raises(RequestError, match="none is left for train: got 1 row"):
        random_split(1)
    with pytest.raises(RequestError, match="add up to 1"):
        random_split(100, 1.5)


@given(region=st.lists(st.sampled_from("abcd"), min_size=2, max_size=40))
def test_each_region_is_left_out_once_and_is_never_on_both_sides(region: list[str]) -> None:
    if len(set(region)) < 2:
        with pytest.raises(RequestError, match="expected two or more"):
            group_folds(region)
        return
    folds = group_folds(region)
    assert list(folds) == sorted(set(region))
    for name, fold in folds.items():
        assert {r for r, held in zip(region, fold.held_N, strict=True) if held} == {name}
        assert name not in {r for r, seen in zip(region, fold.train_N, strict=True) if seen}
        assert (fold.held_N | fold.train_N).all()


def test_chosen_sources_leave_the_others_out() -> None:
    source = ["izmir", "hatay", "puebla", "hatay"]
    fold = chosen_groups(source, train=["hatay"], test=["puebla"])
    assert fold.train_N.tolist() == [False, True, False, True]
    assert fold.held_N.tolist() == [False, False, True, False]
    for train, test, says in (
        (["hatay"], ["nowhere"], "expected one of hatay, izmir, puebla, got nowhere"),
        (["hatay"], ["hatay", "izmir"], "hatay is on both sides"),
        ([], ["hatay"], "name groups"),
    ):
        with pytest.raises(RequestError, match=says):
            chosen_groups(source, train, test)


def test_a_fold_with_a_row_on_both_sides_cannot_be_made() -> None:
    with pytest.raises(ShapeError):
        Fold(train_N=np.array([True, False]), held_N=np.array([True, True]))


def chips_table(x_m: np.ndarray, y_m: np.ndarray, epsg: np.ndarray) -> pd.DataFrame:
    scene = np.array(["a", "b"], object)[np.arange(len(x_m)) % 2]
    return pd.DataFrame(
        {"x_m": x_m, "y_m": y_m, "epsg": epsg, "scene": scene, "source": "s", "region": scene}
    )


def test_the_buffer_holds_across_the_border_of_utm_zones() -> None:
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(35.99, 36.01, 400), rng.uniform(37.0, 37.02, 400)
    epsg = np.where(lon < 36, 32636, 32637)
    xy = np.empty((400, 2))
    for zone in (32636, 32637):
        here = epsg == zone
        to_metres = pyproj.Transformer.from_crs(4326, zone, always_xy=True)
        xy[here] = np.stack(to_metres.transform(lon[here], lat[here]), axis=1)
    geod = pyproj.Geod(ellps="WGS84")
    folds = table_block_folds(chips_table(*xy.T, epsg), 300.0, 64.0, 4)
    assert (np.sum([fold.held_N for fold in folds], axis=0) == 1).all()
    for fold in folds:
        train, held = np.flatnonzero(fold.train_N), np.flatnonzero(fold.held_N)
        pairs = np.stack(np.meshgrid(train, held), -1).reshape(-1, 2)
        ends = (lon[pairs[:, 0]], lat[pairs[:, 0]], lon[pairs[:, 1]], lat[pairs[:, 1]])
        assert geod.inv(*ends)[2].min() > 63.5
        crossing = epsg[pairs[:, 0]] != epsg[pairs[:, 1]]
        assert crossing.any()


def test_a_scene_of_two_regions_is_refused() -> None:
    table = chips_table(np.arange(6.0), np.arange(6.0), np.full(6, 32637))
    folds = table_region_folds(table)
    assert set(folds) == {"a", "b"}
    scenes = table["scene"].to_numpy()
    for fold in folds.values():
        assert not set(scenes[fold.train_N]) & set(scenes[fold.held_N])
    table.loc[0, "region"] = "b"
    with pytest.raises(RequestError, match="scene a of s: scene shows more than one region"):
        table_region_folds(table)


@pytest.mark.data
def test_field_points_fall_into_five_even_folds_of_blocks(data_dir: Path) -> None:
    field = read_field_points(data_dir)
    folds = block_folds(field.lon_N, field.lat_N)
    assert (np.sum([fold.held_N for fold in folds], axis=0) == 1).all()
    for fold in folds:
        assert abs(fold.held_N.sum() - len(field) / 5) < 10
        assert fold.train_N.sum() > 0.55 * len(field)
        counts = np.bincount(field.label_N[fold.held_N], minlength=5)
        assert counts.min() > 20
        place = np.round(np.stack([field.lon_N, field.lat_N], axis=1), 6)
        shared = {*map(tuple, place[fold.train_N])} & {*map(tuple, place[fold.held_N])}
        assert not shared
    # The papers' split puts many of the places that several buildings share on both sides.
    random = random_split(len(field))
    place = np.round(np.stack([field.lon_N, field.lat_N], axis=1), 6)
    assert {*map(tuple, place[random.train_N])} & {*map(tuple, place[random.held_N])}


def digest(*masks: np.ndarray) -> str:
    return hashlib.blake2b(np.packbits(np.concatenate(masks)).tobytes(), digest_size=8).hexdigest()


SPLITS = {
    RowSplit(split="blocks", block=2000.0, buffer=300.0, fold=2): "fbb091c2c6bcbe45",
    RowSplit(
        split="blocks", block=5000.0, buffer=64.0, folds=4, labels=0.3, seed=5
    ): "daa8fe09af24dce5",
    RowSplit(split="regions", held=("b",), block=2000.0, buffer=300.0): "bbc29e164d0e40af",
    RowSplit(split="sources", held=("t",), block=2000.0, buffer=300.0, seed=3): "5be67c7125ad458e",
    RowSplit(split="paper-85-15"): "45e5baa0b564d840",
    RowSplit(split="paper-70-15-15", labels=0.1, seed=2): "85a902309efb4f01",
}
"""Masks of runs that are published: a split must never change."""


@pytest.mark.parametrize(("rows", "expected"), SPLITS.items(), ids=lambda v: str(v)[:40])
def test_splits_are_those_of_earlier_versions_bit_for_bit(rows: RowSplit, expected: str) -> None:
    rng = np.random.default_rng(11)
    count = 2000
    epsg = np.where(rng.random(count) < 0.2, 32636, 32637)
    table = chips_table(
        rng.uniform(3e5, 3.4e5, count), rng.uniform(4.1e6, 4.14e6, count), epsg
    ).assign(
        label=rng.integers(-1, 4, count),
        source=np.array(["s", "t", "u"], object)[np.arange(count) % 3],
    )
    masks = masks_of_table(table, rows)
    assert digest(masks.train_N, masks.validation_N, masks.test_N) == expected
