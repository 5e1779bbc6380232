"""Stores out of image pairs: chips are what inference would read, and nothing goes unsaid."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine

from quakestream.domain import Grid, Window
from quakestream.errors import RequestError, SceneError, ShapeError
from quakestream.raster.source import RasterioSource
from quakestream.raster.statistics import SceneStatistics
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import EPSG, GSD_M, NORTH_M, WEST_M, write_scene
from quakestream.tiling import crop_windows
from tests.helpers.training_data_case import make_store
from training.data.filters import TileFilter
from training.data.pair_store import (
    ImagePair,
    PairStoreOptions,
    cut_pair,
    of_labelled,
    turkiye_store,
    write_pair_store,
)
from training.data.pairs import Building, Image, LabelledPair
from training.data.scenes import image_on, probed, read_pair
from training.data.store import ChipStore, StoreWriter
from training.data.store_writer import ShardStream
from training.data.turkiye import turkiye_pairs

SIDE = 120
GRID = Grid(epsg=EPSG, gsd_m=GSD_M)
CUTTING = PairStoreOptions(classes=("intact", "destroyed"), gsd_m=GSD_M, crop_px=32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two scenes of noise; the later has a corner that was not seen."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    paths = folder / "pre.tif", folder / "post.tif"
    for path in paths:
        counts_BYX = rng.integers(1, 256, (3, SIDE, SIDE)).astype(np.uint8)
        if path.stem == "post":
            counts_BYX[:, :30, :30] = 0
        write_scene(path, counts_BYX)
    return paths


def outlines() -> np.ndarray:
    """In the middle, at the edge, in the unseen corner, and smaller than a pixel."""
    corners = [(20.0, 22.3, 9.0), (55.1, 30.0, 8.0), (1.0, 2.0, 7.0), (40.1, 40.1, 0.1)]
    return np.array(
        [
            shapely.box(WEST_M + x, NORTH_M - y - s, WEST_M + x + s, NORTH_M - y)
            for x, y, s in corners
        ]
    )


def image_pair(scenes: tuple[Path, Path]) -> ImagePair:
    pre, post = read_pair(str(scenes[0]), str(scenes[1]))
    return ImagePair(
        name="scene-1",
        region="here",
        source="noise",
        pre=pre,
        post=post,
        id_N=("middle", "edge", "unseen", "speck"),
        polygon_N=outlines(),
        label_N=np.array([1, 0, 1, -1], np.int8),
    )


def test_chips_are_what_the_librarys_reader_gives_around_each_footprint(
    scenes: tuple[Path, Path],
) -> None:
    pair = image_pair(scenes)
    pixels, rows, reason_N = cut_pair(pair, CUTTING)
    assert reason_N.tolist() == [None, None, "not seen", "too small"]
    windows = crop_windows(shapely.bounds(pair.polygon_N), GRID, 32)
    for epoch, path, image in (("pre", scenes[0], pair.pre), ("post", scenes[1], pair.post)):
        assert image is not None
        mean_B = np.rint(image.statistics.mean_B).astype(np.uint8)
        with RasterioSource(probed(str(path)), GRID) as source:
            for n, window in enumerate(windows):
                read = source.read(window)
                seen = np.where(read.valid_YX, read.counts_BYX, mean_B[:, None, None])
                np.testing.assert_array_equal(pixels[epoch][n], seen)
    for n, window in enumerate(windows):
        west, _, _, north = GRID.bounds(window)
        assert rows["x_m"][n] == west + 8
        assert rows["y_m"][n] == north - 8
        col, row = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5)
        points = shapely.points(west + col * GSD_M, north - row * GSD_M)
        np.testing.assert_array_equal(
            pixels["inside"][n], shapely.contains(pair.polygon_N[n], points)
        )


def test_a_store_of_pairs_holds_what_was_cut_and_counts_what_was_not(
    scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    pair = image_pair(scenes)
    second = replace(pair, name="scene-2", region="there")
    store = write_pair_store(str(tmp_path), [pair, second], CUTTING)
    assert store.table["building_id"].tolist() == ["middle", "edge"] * 2
    assert store.table["scene"].tolist() == ["scene-1"] * 2 + ["scene-2"] * 2
    assert store.meta.provenance["dropped"] == {"not seen": 2, "too small": 2}
    pixels, rows, _ = cut_pair(pair, CUTTING)
    chips = store.read([3, 0])
    np.testing.assert_array_equal(chips.post_NBYX, pixels["post"][[1, 0]])
    np.testing.assert_array_equal(chips.pre_NBYX, pixels["pre"][[1, 0]])
    assert chips.label_N.tolist() == [0, 1]
    assert pair.pre is not None
    expected = [pair.pre.statistics.mean_B, pair.pre.statistics.std_B]
    expected += [pair.post.statistics.mean_B, pair.post.statistics.std_B]
    np.testing.assert_allclose(chips.statistics_N4B[0], expected, rtol=1e-6)
    assert rows["epsg"].tolist() == [EPSG] * 4


def test_post_alone_is_kept_where_that_is_asked_for(
    scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    pair = replace(image_pair(scenes), pre=None)
    store = write_pair_store(str(tmp_path), [pair], replace(CUTTING, epochs=("post",)))
    chips = store.read([0])
    assert chips.pre_NBYX is None
    np.testing.assert_array_equal(chips.statistics_N4B[0, :2], [[0, 0, 0], [1, 1, 1]])
    with pytest.raises(RequestError, match=r"pair scene-1: .*got 0.5 m pixels and epochs post"):
        cut_pair(pair, CUTTING)


def test_filtered_chips_are_counted(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    strict = replace(CUTTING, tile_filter=TileFilter(variance=0.2, snow=None, black=None))
    with pytest.raises(RequestError, match="no chip to store"):
        write_pair_store(str(tmp_path / "none"), [image_pair(scenes)], strict)
    black = replace(CUTTING, tile_filter=TileFilter(variance=None, snow=None, black=0.05))
    store = write_pair_store(str(tmp_path / "some"), [image_pair(scenes)], black)
    assert store.table["building_id"].tolist() == ["middle"]  # the edge's chip looks past it
    assert store.meta.provenance["dropped"] == {"black": 1, "not seen": 1, "too small": 1}


def test_no_pair_and_another_pixel_size_are_refused(
    scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="no chip to store"):
        write_pair_store(str(tmp_path), [], CUTTING)
    with pytest.raises(RequestError, match=r"expected 0.3 m pixels.*got 0.5 m pixels"):
        cut_pair(image_pair(scenes), replace(CUTTING, gsd_m=0.3))
    with pytest.raises(ShapeError):
        replace(image_pair(scenes), id_N=("one",))


@pytest.mark.parametrize("parts", [[23], [1, 4, 5, 6, 7], [3] * 7 + [2]])
def test_a_stream_of_chips_makes_the_store_that_shards_make(
    tmp_path: Path, parts: list[int]
) -> None:
    made = make_store(str(tmp_path / "shards"))
    writer = StoreWriter(uri=str(tmp_path / "stream"), meta=replace(made.meta, chips=0))
    writer.begin()
    stream = ShardStream(writer)
    for start, count in zip(np.cumsum([0, *parts]), parts, strict=False):
        place = slice(start, start + count)
        stream.add({name: array[place] for name, array in made.arrays.items()})
    stream.finish(made.table)
    store = ChipStore.open(writer.uri)
    assert store.meta == made.meta
    chips, whole = store.read(range(23)), ChipStore.open(made.uri).read(range(23))
    np.testing.assert_array_equal(chips.post_NBYX, whole.post_NBYX)
    np.testing.assert_array_equal(chips.inside_NYX, whole.inside_NYX)


def test_buildings_of_two_states_are_shown_by_their_bounds() -> None:
    window = Window(row=20_000_000, col=900_000, height=40, width=40)
    image = Image(
        grid=GRID,
        window=window,
        pixels_BYX=np.full((3, 40, 40), 9, np.uint8),
        statistics=SceneStatistics(mean_B=(9.0,) * 3, std_B=(1.0,) * 3),
    )
    disc = shapely.Point(GRID.bounds(window)[0] + 10, GRID.bounds(window)[1] + 10).buffer(4)
    buildings = (
        Building(id="round", geometry=disc, destroyed=True),
        Building(id="square", geometry=shapely.box(*disc.bounds), destroyed=False),
    )
    pair = LabelledPair(name="p", region="r", pre=image, post=image, buildings=buildings)
    pixels, rows, _ = cut_pair(of_labelled(pair, "test"), CUTTING)
    np.testing.assert_array_equal(pixels["inside"][0], pixels["inside"][1])
    assert rows["label"].tolist() == [1, 0]


def test_scenes_of_different_ground_make_no_pair(tmp_path: Path) -> None:
    noise = np.full((3, 40, 40), 7, np.uint8)
    for name, east in (("a", 0.0), ("b", 900.0)):
        place = Affine(GSD_M, 0, WEST_M + east, 0, -GSD_M, NORTH_M)
        write_scene(tmp_path / f"{name}.tif", noise, transform=place)
    with pytest.raises(SceneError, match="shares no ground"):
        read_pair(str(tmp_path / "a.tif"), str(tmp_path / "b.tif"))


@pytest.mark.data
def test_mosaics_of_different_crs_come_to_lie_on_each_other(data_dir: Path) -> None:
    """Joplin: pre in EPSG:26915 at 0.6 m, post in EPSG:4326 at 6e-6 degrees."""
    folder = data_dir / "joplin-2011"
    pre, post = read_pair(*(str(folder / f"joplin_{e}_mosaic.tif") for e in ("pre", "post")))
    assert pre.grid == post.grid == Grid(epsg=32615, gsd_m=pytest.approx(0.666, abs=1e-3))  # type: ignore[arg-type]
    assert pre.window == post.window
    assert min(pre.window.shape) > 1400
    for image in (pre, post):
        assert (image.pixels_BYX == 0).all(axis=0).mean() < 0.03

    def edges(image: Image) -> Any:
        grey = image.pixels_BYX[:, 100:1300, 100:1300].astype(float).mean(axis=0)
        row, col = np.gradient(grey)
        return np.hypot(row, col)

    fixed, moving = edges(pre), edges(post)
    score = {
        (r, c): np.corrcoef(
            fixed[40:-40, 40:-40].ravel(), np.roll(moving, (r, c), (0, 1))[40:-40, 40:-40].ravel()
        )[0, 1]
        for r in range(-24, 25, 6)
        for c in range(-24, 25, 6)
    }
    row, col = max(score, key=lambda k: score[k])
    assert max(abs(row), abs(col)) <= 12  # off-nadir views and terrain: a few metres


@pytest.mark.data
def test_a_store_of_a_turkiye_scene(data_dir: Path, tmp_path: Path) -> None:
    (pair,) = (p for p in turkiye_pairs(data_dir) if p.name == "hatay_ekinci")
    store = turkiye_store(str(tmp_path), [pair], crop_px=96)
    assert store.meta.classes == ("intact", "destroyed")
    assert set(store.table["region"]) == {"turkoglu-hatay"}
    assert len(store) == len(pair.buildings)
    assert store.table["label"].sum() == sum(b.destroyed for b in pair.buildings) == 1
    chips = store.read(range(len(store)))
    middle = chips.inside_NYX[:, 47:49, 47:49].all(axis=(1, 2))
    assert middle.all()  # a box holds the middle of its bounds
    assert isinstance(store.table, pd.DataFrame)


def test_images_are_read_as_inference_reads_them(scenes: tuple[Path, Path]) -> None:
    scene = probed(str(scenes[1]))
    window = GRID.window(WEST_M, NORTH_M - 60, WEST_M + 60, NORTH_M)
    image = image_on(scene, GRID, window, StorageOptions())
    assert (image.pixels_BYX[:, :30, :30] == 0).all()
    assert (image.pixels_BYX[:, 40:, 40:] > 0).all()
