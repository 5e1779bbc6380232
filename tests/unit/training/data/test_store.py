"""The training store: what is written is read, and what is half-written or damaged is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.errors import RequestError, ShapeError, StorageError
from quakestream.storage import open_store
from tests.helpers.servers import S3Server
from tests.helpers.training_data_case import HAZARD, MadeStore, make_store, noise, rows_of
from training.data.store import ChipStore, HazardColumn, StoreMeta, StoreWriter
from training.data.store_format import COLUMNS, MANIFEST, shard_chips_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeStore:
    return make_store(str(tmp_path_factory.mktemp("stores") / "store"))


def check_read(store: ChipStore, made: MadeStore, index: list[int]) -> None:
    chips = store.read(index)
    np.testing.assert_array_equal(chips.post_NBYX, made.arrays["post"][index])
    assert chips.pre_NBYX is not None
    np.testing.assert_array_equal(chips.pre_NBYX, made.arrays["pre"][index])
    np.testing.assert_array_equal(chips.inside_NYX, made.arrays["inside"][index])
    assert chips.inside_NYX.dtype == np.bool_
    names = list(made.meta.hazard_names)
    expected = made.table[names].to_numpy(np.float32)[index]
    np.testing.assert_array_equal(chips.hazard_NM, expected)
    np.testing.assert_array_equal(chips.label_N, made.table["label"].to_numpy()[index])


@settings(max_examples=40, deadline=None)
@given(index=st.lists(st.integers(0, 22), max_size=12))
def test_any_rows_come_back_in_the_order_asked_for(made: MadeStore, index: list[int]) -> None:
    check_read(ChipStore.open(made.uri), made, index)


@settings(max_examples=25, deadline=None)
@given(index=st.lists(st.integers(0, 22), min_size=1, max_size=12))
def test_an_object_store_gives_what_files_give(index: list[int]) -> None:
    uri = "memory://training-store"
    try:
        store = ChipStore.open(uri)
        there = MadeStore(
            uri=uri, meta=store.meta, arrays=noise(store.meta), table=rows_of(store.meta)
        )
    except RequestError:
        there = make_store(uri)
    check_read(ChipStore.open(uri), there, index)


def test_statistics_come_as_pre_mean_pre_deviation_post_mean_post_deviation(
    made: MadeStore,
) -> None:
    chips = ChipStore.open(made.uri).read([4])
    row = made.table.iloc[4]
    expected = [
        [row[f"{epoch}_{figure}_{band}"] for band in range(3)]
        for epoch in ("pre", "post")
        for figure in ("mean", "std")
    ]
    np.testing.assert_allclose(chips.statistics_N4B[0], expected, rtol=1e-6)


def test_any_zarr_reader_reads_the_arrays(made: MadeStore) -> None:
    group = zarr.open_group(f"{made.uri}/chips.zarr", mode="r")
    assert sorted(group.array_keys()) == ["inside", "post", "pre"]
    for name, array in made.arrays.items():
        found = group[name]
        assert isinstance(found, zarr.Array)
        np.testing.assert_array_equal(found[:], array)
        assert found.metadata.zarr_format == 3


def test_post_alone_and_no_hazard_make_a_store(tmp_path: Path) -> None:
    made = make_store(str(tmp_path), epochs=("post",), hazard=(), chips=3, shard_chips=9)
    chips = ChipStore.open(made.uri).read([2, 0])
    assert chips.pre_NBYX is None
    assert chips.hazard_NM.shape == (2, 0)
    np.testing.assert_array_equal(chips.post_NBYX, made.arrays["post"][[2, 0]])


def test_the_manifest_comes_back_as_it_was(made: MadeStore) -> None:
    meta = ChipStore.open(made.uri).meta
    assert meta == made.meta
    assert meta.hazard_names == ("dpm", "mmi", "pga_g", "vs30_m_s")
    assert meta.hazard_groups == (1, 2, 1)


def test_chips_that_could_not_be_read_have_a_place_and_no_row(tmp_path: Path) -> None:
    meta = make_store(str(tmp_path / "whole")).meta
    writer = StoreWriter(uri=str(tmp_path / "holed"), meta=meta)
    writer.begin()
    arrays = noise(meta)
    for shard in range(meta.shards):
        part = slice(shard * 5, shard * 5 + 5)
        writer.write(shard, {name: array[part] for name, array in arrays.items()})
    writer.finish(rows_of(meta).iloc[3::4])
    store = ChipStore.open(writer.uri)
    np.testing.assert_array_equal(store.read([0, 2]).post_NBYX, arrays["post"][[3, 11]])


def test_a_store_without_its_manifest_is_half_written(tmp_path: Path) -> None:
    made = make_store(str(tmp_path / "s"))
    (tmp_path / "s" / MANIFEST).unlink()
    with pytest.raises(RequestError, match=r"half-written.*run the command") as caught:
        ChipStore.open(made.uri)
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="nothing: no training store"):
        ChipStore.open(str(tmp_path / "nothing"))


def test_a_finished_store_is_not_overwritten_unasked_and_an_unfinished_one_is(
    tmp_path: Path,
) -> None:
    made = make_store(str(tmp_path))
    writer = StoreWriter(uri=made.uri, meta=made.meta)
    with pytest.raises(RequestError, match="--fresh"):
        writer.begin()
    (tmp_path / "notes.txt").write_text("not ours")
    writer.begin(replace=True)
    with pytest.raises(RequestError, match="half-written"):
        ChipStore.open(made.uri)
    writer.begin()  # what an unfinished attempt left is no obstacle
    assert (tmp_path / "notes.txt").exists()
    assert not any("/c/" in key for key in open_store(made.uri).list())


def test_a_lost_shard_is_damage_not_black_pixels(tmp_path: Path) -> None:
    made = make_store(str(tmp_path))
    (tmp_path / "chips.zarr/post/c/3/0/0/0").unlink()
    with pytest.raises(RequestError, match=r"damaged: 1 of 5 shards of post is missing"):
        ChipStore.open(made.uri)
    with pytest.raises(ShapeError, match="missing"):
        StoreWriter(uri=made.uri, meta=made.meta).finish(made.table)


def test_a_shard_cut_off_while_reading_is_told(tmp_path: Path) -> None:
    made = make_store(str(tmp_path))
    store = ChipStore.open(made.uri)
    shard = tmp_path / "chips.zarr/inside/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:100])
    store.read([0])
    with pytest.raises(StorageError, match="inside/c/0/0/0: truncated"):
        store.read([1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 0}, "expected 1, got 0"),
        ({"epochs": ["post", "pre"]}, "not the manifest of a training store"),
        ({"chips": "many"}, "not the manifest of a training store"),
        ({"hazard": [{"label": "mmi"}]}, "not the manifest of a training store"),
        ({"table_sha256": "0"}, "table.parquet has another digest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    make_store(str(tmp_path))
    file = tmp_path / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RequestError, match=says) as caught:
        ChipStore.open(str(tmp_path))
    assert "\n" not in str(caught.value)
    file.write_text("{")
    with pytest.raises(RequestError, match="not JSON"):
        ChipStore.open(str(tmp_path))


def test_stores_that_are_alike_are_read_as_one(tmp_path: Path) -> None:
    first = make_store(str(tmp_path / "a"), seed=1)
    second = make_store(str(tmp_path / "b"), seed=2, chips=7, shard_chips=3)
    both = ChipStore.open(first.uri, second.uri)
    assert len(both) == 30
    chips = both.read([24, 3, 23])
    expected = [second.arrays["post"][1], first.arrays["post"][3], second.arrays["post"][0]]
    np.testing.assert_array_equal(chips.post_NBYX, expected)
    other = make_store(str(tmp_path / "c"), classes=("intact", "destroyed"))
    with pytest.raises(RequestError, match="other classes: expected"):
        ChipStore.open(first.uri, other.uri)
    with pytest.raises(RequestError, match="no training store named"):
        ChipStore.open()


def test_rows_outside_the_table_are_an_error(made: MadeStore) -> None:
    store = ChipStore.open(made.uri)
    for row in (-1, 23):
        with pytest.raises(ShapeError):
            store.read([row])


def test_shards_of_the_wrong_size_are_refused(tmp_path: Path) -> None:
    meta = make_store(str(tmp_path / "a")).meta
    writer = StoreWriter(uri=str(tmp_path / "b"), meta=meta)
    writer.begin()
    arrays = noise(meta)
    with pytest.raises(ShapeError, match="shard 4 of"):
        writer.write(4, {name: array[:5] for name, array in arrays.items()})  # the last has 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.drop(columns="mmi"),
        lambda t: t.assign(chip=0),
        lambda t: t.assign(chip=t["chip"] + 1),
        lambda t: t.assign(label=3),
        lambda t: t.drop(columns=next(iter(COLUMNS))),
    ],
)
def test_a_table_that_does_not_describe_the_arrays_is_refused(
    tmp_path: Path, spoil: object
) -> None:
    made = make_store(str(tmp_path))
    assert callable(spoil)
    with pytest.raises(ShapeError):
        StoreWriter(uri=made.uri, meta=made.meta).finish(spoil(made.table))


def test_a_store_without_a_chip_is_refused(tmp_path: Path) -> None:
    made = make_store(str(tmp_path))
    with pytest.raises(RequestError, match="no chip to store"):
        StoreWriter(uri=made.uri, meta=made.meta).finish(pd.DataFrame())


def test_groups_of_hazard_columns_stand_together() -> None:
    apart = (*HAZARD, HazardColumn(name="sar_vv", unit="", group="layers"))
    sizes = {"gsd_m": 0.5, "crop_px": 8, "epochs": ("post",), "chips": 1, "shard_chips": 1}
    with pytest.raises(ShapeError, match="stand together"):
        StoreMeta(classes=("a",), hazard=apart, **sizes)  # type: ignore[arg-type]


def test_shards_hold_megabytes_whatever_the_side() -> None:
    for side in (32, 128, 384, 4096):
        assert shard_chips_of(side) * 3 * side**2 <= max(16_000_000, 3 * side**2)


def test_a_writer_travels(made: MadeStore) -> None:
    writer = StoreWriter(uri=made.uri, meta=made.meta)
    assert pickle.loads(pickle.dumps(writer)) == writer


def test_chips_come_from_a_bucket_as_from_files(moto: S3Server) -> None:
    uri = f"{moto.make_bucket('chips')}/store"
    made = make_store(uri, options=moto.options)
    store = ChipStore.open(uri, options=moto.options)
    chips = store.read([20, 1, 2, 2])
    np.testing.assert_array_equal(chips.post_NBYX, made.arrays["post"][[20, 1, 2, 2]])
    np.testing.assert_array_equal(chips.inside_NYX, made.arrays["inside"][[20, 1, 2, 2]])
