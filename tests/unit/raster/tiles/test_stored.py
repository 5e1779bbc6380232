"""Stored tiles lie on the grid's lattice, equal the scene, and fail when damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
import zarr
from affine import Affine

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ConfigError, ReadError, StorageError
from quakestream.raster.source import RasterioSource
from quakestream.raster.tiles import (
    TileEntry,
    TileSource,
    drop_entry,
    read_entry,
    survey_tiles,
    tile_source_factory,
    write_entry,
    write_root,
)
from quakestream.raster.tiles.entries import group_name
from quakestream.raster.tiles.placement import CHUNK_PX, SHARD_PX, on_lattice, squares
from quakestream.raster.tiles.stored import write_stored
from quakestream.storage import Store, open_store
from quakestream.synthetic import TINY, make_earthquake
from tests.helpers.tiles_case import (
    GRID,
    LOCAL,
    TRANSFORM,
    assert_same,
    direct,
    scene_of,
    windows,
    write_cog,
    write_tiff,
)

COARSE = Grid(epsg=32637, gsd_m=1.0)
NEIGHBOUR = Grid(epsg=32636, gsd_m=0.5)


def stored(scene: Scene, folder: Path, *grids: Grid) -> tuple[Store, TileEntry]:
    """A store of one scene."""
    store = open_store(str(folder))
    write_root(store)
    entry = write_stored(scene, grids or (GRID,), store)
    write_entry(store, entry)
    return store, entry


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    path = tmp_path_factory.mktemp("jpeg") / "scene.tif"
    return scene_of(write_cog(path, masked=True, COMPRESS="JPEG"))


@pytest.mark.parametrize("kind", ["jpeg, mask", "deflate, nodata", "LZW, strips", "alpha"])
def test_whole_pixels_are_stored_to_the_last_bit(kind: str, jpeg: Scene, tmp_path: Path) -> None:
    path = tmp_path / "other.tif"
    if kind == "deflate, nodata":
        scene = scene_of(write_tiff(path, compress="deflate", nodata=0))
    elif kind == "LZW, strips":
        scene = scene_of(write_tiff(path, compress="lzw", tiled=False, blockysize=33))
    elif kind == "alpha":
        scene = scene_of(write_tiff(path, compress="deflate", bands=4, alpha="yes"))
    else:
        scene = jpeg
    store, entry = stored(scene, tmp_path / "store")
    assert entry.grids[0].exact
    held = Window(row=11677287, col=633008, height=700, width=900)
    source = tile_source_factory(store.uri)(scene, GRID)
    assert isinstance(source, TileSource)
    with source, direct(scene) as oracle:
        for window in windows(held):
            assert_same(source.read(window), oracle.read(window))
        assert source.seamless


def test_both_scenes_of_a_synthetic_town(tmp_path: Path) -> None:
    town = make_earthquake(tmp_path / "town", seed=4, size=TINY)
    for path in (*town.pre, *town.post):
        scene = scene_of(path)
        store, entry = stored(scene, tmp_path / "store", GRID)
        with tile_source_factory(store.uri)(scene, GRID) as source, direct(scene) as oracle:
            for window in windows(entry.grids[0].window):
                assert_same(source.read(window), oracle.read(window))


@pytest.mark.parametrize("grid", [COARSE, NEIGHBOUR], ids=["coarser", "other zone"])
def test_resampled_squares_are_stored_as_they_are_read(grid: Grid, tmp_path: Path) -> None:
    """A resampled shard equals what the source reads for it, as shards are written one by one."""
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate", nodata=0))
    store, entry = stored(scene, tmp_path / "store", grid)
    tiles = entry.grids[0]
    assert not tiles.exact
    with tile_source_factory(store.uri)(scene, grid) as source, direct(scene, grid) as oracle:
        for shard in squares(tiles.window, SHARD_PX)[:2]:
            assert_same(source.read(shard), oracle.read(shard))
        row, col = np.argwhere(source.read(tiles.window).valid_YX).mean(axis=0).astype(int)
        row, col = tiles.window.row + row - 60, tiles.window.col + col - 60
        middle = Window(row=row, col=col, height=131, width=117)
        found, expected = source.read(middle), oracle.read(middle)
        apart_BYX = np.abs(found.counts_BYX.astype(int) - expected.counts_BYX)
        assert expected.valid_YX.mean() > 0.5
        assert apart_BYX.mean() < 0.5  # alone or in a shard: GDAL's 0.01 px of tolerance
        assert apart_BYX.max() <= 8
        assert (found.valid_YX != expected.valid_YX).mean() < 0.001
        around = tiles.window.grown(300)  # nothing of the scene lies outside the arrays
        everything = source.read(tiles.window).valid_YX.sum()
        assert abs(everything - oracle.read(around).valid_YX.sum()) < 0.001 * everything


def test_chunks_are_squares_of_the_grids_lattice(jpeg: Scene, tmp_path: Path) -> None:
    moved = TRANSFORM @ Affine.translation(333, 77)
    other = scene_of(write_tiff(tmp_path / "moved.tif", transform=moved, compress="deflate"))
    for scene in (jpeg, other):
        store, entry = stored(scene, tmp_path / "store")
        window = entry.grids[0].window
        assert window.row % SHARD_PX == window.col % SHARD_PX == 0
        counts = zarr.open_array(store.uri, path=f"{entry.group}/32637-0.5m/counts", mode="r")
        assert counts.metadata.zarr_format == 3
        assert counts.chunks == (3, CHUNK_PX, CHUNK_PX)
        assert counts.shards == (3, SHARD_PX, SHARD_PX)
        assert counts.shape[1:] == window.shape
        assert counts.dtype == np.uint8
        whole = [window.height // SHARD_PX, window.width // SHARD_PX]
        written = store.list(f"{entry.group}/32637-0.5m/counts/c/")
        assert len(written) == whole[0] * whole[1]  # empty chunks too: absent means lost


def test_lattice_windows_hold_what_they_are_made_of() -> None:
    window = Window(row=2047, col=4096, height=2, width=1)
    assert on_lattice(window, 2048) == Window(row=0, col=4096, height=4096, width=2048)
    assert [w.row for w in squares(on_lattice(window, 2048), 2048)] == [0, 2048]


def test_xarray_and_rioxarray_see_a_georeferenced_raster(jpeg: Scene, tmp_path: Path) -> None:
    store, entry = stored(jpeg, tmp_path / "store")
    window = entry.grids[0].window
    tiles = xr.open_zarr(store.uri, group=f"{entry.group}/32637-0.5m", consolidated=False)
    assert tiles["counts"].dims == ("band", "y", "x")
    assert tiles.rio.crs.to_epsg() == 32637
    assert tiles.rio.transform() == GRID.window_transform(window)
    assert tiles["counts"].rio.bounds() == GRID.bounds(window)


def test_the_group_says_what_it_was_made_of(jpeg: Scene, tmp_path: Path) -> None:
    store, entry = stored(jpeg, tmp_path / "store", GRID, COARSE)
    attributes = dict(zarr.open_group(store.uri, mode="r")[entry.group].attrs)
    assert attributes["scene"] == "scene"
    assert attributes["href"] == jpeg.href
    assert attributes["etag"] == jpeg.etag
    assert attributes["kind"] == "stored"
    assert attributes["gsd_m"] == jpeg.gsd_m
    assert Affine(*attributes["transform"]) == jpeg.transform
    assert [g["gsd_m"] for g in attributes["grid"]] == [0.5, 1.0]
    assert read_entry(store, "scene") == entry
    assert TileEntry.of(json.loads(json.dumps(entry.attributes()))) == entry


def test_another_version_is_refused_and_the_scene_is_read(jpeg: Scene, tmp_path: Path) -> None:
    store, _ = stored(jpeg, tmp_path / "store")
    newer = replace(jpeg, etag="12345-678")
    survey = survey_tiles(store.uri, [(newer, GRID)], LOCAL)
    (issue,) = survey.issues
    assert (issue.subject, issue.kind) == ("scene", "scene")
    assert jpeg.etag in issue.cause
    assert "12345-678" in issue.cause
    assert survey.token(newer, GRID) == ""
    assert isinstance(tile_source_factory(store.uri)(newer, GRID), RasterioSource)
    same = survey_tiles(store.uri, [(jpeg, GRID)], LOCAL)
    assert not same.issues
    assert not same.notes


def test_what_the_store_lacks_is_noted_and_read_itself(jpeg: Scene, tmp_path: Path) -> None:
    store, _ = stored(jpeg, tmp_path / "store")
    stranger = replace(jpeg, id="stranger")
    survey = survey_tiles(store.uri, [(jpeg, GRID), (jpeg, COARSE), (stranger, GRID)], LOCAL)
    assert "2 scenes not in " in survey.notes[0]
    assert "stranger" in survey.notes[0]
    assert not survey.issues
    factory = tile_source_factory(store.uri)
    assert isinstance(factory(jpeg, GRID), TileSource)
    assert isinstance(factory(jpeg, COARSE), RasterioSource)
    assert isinstance(factory(stranger, GRID), RasterioSource)


def test_an_unfinished_scene_is_not_there(jpeg: Scene, tmp_path: Path) -> None:
    store, _ = stored(jpeg, tmp_path / "store")
    drop_entry(store, "scene")
    assert read_entry(store, "scene") is None
    assert isinstance(tile_source_factory(store.uri)(jpeg, GRID), RasterioSource)


def test_a_place_without_a_store_is_a_wrong_request(jpeg: Scene, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tile store at .*quakestream tile"):
        survey_tiles(str(tmp_path), [(jpeg, GRID)], LOCAL)
    assert survey_tiles(None, [(jpeg, GRID)], LOCAL).entries == {}


@pytest.mark.parametrize("damage", ["missing", "cut off", "one bit", "no metadata"])
def test_a_damaged_chunk_is_a_read_error(damage: str, jpeg: Scene, tmp_path: Path) -> None:
    store, entry = stored(jpeg, tmp_path / "store")
    key = store.list(f"{entry.group}/32637-0.5m/counts/c/")[0]
    data = bytearray(store.get(key))
    if damage == "missing":
        store.delete(key)
    elif damage == "cut off":
        store.put(key, bytes(data[: len(data) * 2 // 3]))
    elif damage == "one bit":
        data[len(data) // 2] ^= 1
        store.put(key, bytes(data))
    else:
        shutil.rmtree(tmp_path / "store" / "scene" / "32637-0.5m")
    held = entry.grids[0].window
    with (
        pytest.raises(
            ReadError, match=r"tiles of scene scene.*cannot read tiles: .*quakestream tile"
        ),
        tile_source_factory(store.uri)(jpeg, GRID) as source,
    ):
        source.read(held)


def test_a_store_that_does_not_answer_is_no_reason_to_read_something_else(
    jpeg: Scene, tmp_path: Path
) -> None:
    store, entry = stored(jpeg, tmp_path / "store")
    (tmp_path / "store" / entry.group / "zarr.json").unlink()
    (tmp_path / "store" / entry.group / "zarr.json").mkdir()
    with pytest.raises(StorageError):
        tile_source_factory(store.uri)(jpeg, GRID)


def test_a_scene_that_cannot_be_read_is_named(jpeg: Scene, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "cut.tif", compress="deflate")
    scene = scene_of(path)
    path.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(ReadError, match=r"cut\.tif \(.*\): \d of \d shards failed, the first: "):
        stored(scene, tmp_path / "store")
    assert read_entry(open_store(str(tmp_path / "store")), "cut") is None


def test_a_store_that_cannot_be_written_is_a_storage_error(jpeg: Scene, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "scene").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        stored(jpeg, tmp_path / "store")


def test_any_id_has_a_group_of_its_own() -> None:
    ids = ["103001.tif", "a/b", "a_b", "ä", "..", "", "zarr.json", "__x", "x" * 300, "c d"]
    names = [group_name(i) for i in ids]
    assert len(set(names)) == len(ids)
    assert all(n not in ("", ".", "..", "zarr.json") and "/" not in n for n in names)
    assert group_name("103001.tif") == "103001.tif"


@pytest.mark.data
def test_real_scenes_to_the_last_bit(data_dir: Path, tmp_path: Path) -> None:
    paths = sorted(data_dir.glob("*2023*/imagery/*50cm.tif"))
    assert len(paths) == 16
    for path in paths[::3]:
        scene = scene_of(path)
        store, entry = stored(scene, tmp_path / "store")
        with tile_source_factory(store.uri)(scene, GRID) as source, direct(scene) as oracle:
            held = oracle.read(entry.grids[0].window)
            assert held.valid_YX.any()
            assert_same(source.read(entry.grids[0].window), held)
        shutil.rmtree(tmp_path / "store")


def test_a_shard_without_a_count_is_there_and_reads_as_zeros(tmp_path: Path) -> None:
    """Zarr writes none, and a shard that is missing is one that was lost."""
    import zarr

    from quakestream.raster.tiles.arrays import empty_shard, open_written

    zarr.create_array(
        tmp_path / "a", shape=(64, 64), chunks=(16, 16), shards=(32, 32), dtype="u1", fill_value=0
    )
    writes = open_written(str(tmp_path), LOCAL, "a", read_only=False)
    writes[:32, :32] = np.ones((32, 32), np.uint8)
    writes[32:, :32] = np.zeros((32, 32), np.uint8)
    reads = open_written(str(tmp_path), LOCAL, "a", read_only=True)
    with pytest.raises(ReadError, match="chunk is missing"):
        reads[32:, :32]
    (tmp_path / "a" / "c" / "1").mkdir(exist_ok=True)
    (tmp_path / "a" / "c" / "1" / "0").write_bytes(empty_shard(4))
    assert not reads[32:, :32].any()
    assert reads[:, :32].sum() == 32 * 32
    (tmp_path / "a" / "c" / "1" / "0").write_bytes(empty_shard(4)[:-1] + b"x")
    with pytest.raises(ValueError, match="checksum"):
        reads[32:, :32]
