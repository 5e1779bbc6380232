"""A scene without overviews and without some of its blocks: prepared from the rest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError
from quakestream.raster import lost_blocks
from quakestream.raster.coregistration import find_shifts
from quakestream.raster.prepare import prepare_scene
from quakestream.raster.probe import probe
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import EPSG, NORTH_M, WEST_M, write_scene
from tests.helpers.noise import scene_at
from tests.helpers.servers import web_server

LOCAL = StorageOptions()
SIDE_PX, BLOCK_PX = 1024, 128
NODES = Grid(epsg=EPSG, gsd_m=1.0)
AREA = NODES.window(WEST_M, NORTH_M - SIDE_PX / 2, WEST_M + SIDE_PX / 2, NORTH_M)


def ground(seed: int) -> NDArray[np.uint8]:
    """Brightness that rises from north to south, with a pattern that pairs share."""
    pattern = np.random.default_rng(9).integers(0, 90, (SIDE_PX // 4, SIDE_PX // 4))
    noise = np.random.default_rng(seed).integers(0, 20, (3, SIDE_PX, SIDE_PX))
    rise = np.linspace(10, 120, SIDE_PX).astype(int)[:, None]
    return (np.kron(pattern, np.ones((4, 4), int)) + rise + noise).astype(np.uint8)


def lose(path: Path, blocks: list[tuple[int, int]]) -> None:
    """Spoils blocks (row, column) of a tiled file."""
    with tifffile.TiffFile(path) as tiff:
        offsets, sizes = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    data = bytearray(path.read_bytes())
    for row, col in blocks:
        n = row * (SIDE_PX // BLOCK_PX) + col
        data[offsets[n] : offsets[n] + sizes[n]] = bytes(sizes[n])
    path.write_bytes(data)


def probed(path: Path) -> Scene:
    return probe(scene_at(path), LOCAL)


def seen(lost: list[tuple[int, int]]) -> NDArray[np.bool_]:
    block_YX = np.ones((SIDE_PX // BLOCK_PX,) * 2, bool)
    for row, col in lost:
        block_YX[row, col] = False
    return np.kron(block_YX, np.ones((BLOCK_PX, BLOCK_PX), bool))


TWO_ROWS = [(row, col) for row in (4, 5) for col in range(8)]


@pytest.mark.parametrize("lost", [[(3, 4)], [(0, 0), (7, 7)], TWO_ROWS])
def test_statistics_are_those_of_the_pixels_that_can_be_read(
    tmp_path: Path, lost: list[tuple[int, int]]
) -> None:
    counts_BYX = ground(1)
    write_scene(tmp_path / "a.tif", counts_BYX)
    lose(tmp_path / "a.tif", lost)
    found = prepare_scene(probed(tmp_path / "a.tif"), LOCAL)
    means_BYX = counts_BYX.reshape(3, SIDE_PX // 8, 8, SIDE_PX // 8, 8).mean(axis=(2, 4))
    valid_YX = seen(lost)[::8, ::8]
    assert found.pixels == valid_YX.sum()
    np.testing.assert_allclose(
        found.statistics.mean_B, means_BYX[:, valid_YX].mean(axis=1), atol=0.05
    )
    np.testing.assert_allclose(found.statistics.std_B, means_BYX[:, valid_YX].std(axis=1), atol=0.1)
    again = prepare_scene(probed(tmp_path / "a.tif"), LOCAL)
    assert (again.statistics, again.pixels) == (found.statistics, found.pixels)


def test_strips_and_a_cut_end_cost_their_own_rows(tmp_path: Path) -> None:
    counts_BYX = ground(1)
    path = tmp_path / "strips.tif"
    write_scene(
        path, counts_BYX, tiled=False, interleave="pixel", blockxsize=SIDE_PX, blockysize=16
    )
    with tifffile.TiffFile(path) as tiff:
        (first_lost,) = tiff.pages[0].dataoffsets[40:41]
    path.write_bytes(path.read_bytes()[: int(first_lost)])
    found = prepare_scene(probed(path), LOCAL)
    assert 600 * SIDE_PX / 64 <= found.pixels <= 640 * SIDE_PX / 64


def test_shifts_are_those_of_the_pair_but_where_blocks_are_lost(tmp_path: Path) -> None:
    for name, seed in (("pre", 1), ("post", 2)):
        moved_BYX = np.roll(ground(seed), (6, -4) if name == "pre" else (0, 0), axis=(1, 2))
        write_scene(tmp_path / f"{name}.tif", moved_BYX)
    pre, post = (probed(tmp_path / f"{name}.tif") for name in ("pre", "post"))
    whole = find_shifts(post, pre, NODES, AREA, LOCAL)
    lose(tmp_path / "post.tif", [(3, 4), (4, 4)])
    hurt = find_shifts(probed(tmp_path / "post.tif"), pre, NODES, AREA, LOCAL)
    assert (whole.pair.rows, whole.pair.cols) == (3, -2)
    for row in range(AREA.row, AREA.row_end, 64):
        window = Window(row=row, col=AREA.col + 40, height=32, width=32)
        one, other = whole.at(NODES, window), hurt.at(NODES, window)
        assert (one.rows, one.cols) == (other.rows, other.cols)


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "dropped"])
def test_what_a_server_lacks_is_told_from_what_it_did_not_send(tmp_path: Path, cut: bool) -> None:
    path = tmp_path / "a.tif"
    write_scene(path, ground(1))
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with web_server(tmp_path) as server:
        scene = probe(replace(scene_at(path), href=f"{server.url}/a.tif"), LOCAL)
        if cut:
            assert 0 < prepare_scene(scene, LOCAL).pixels < (SIDE_PX // 8) ** 2
            return
        server.faults["a.tif"] = 0.75
        with pytest.raises(ReadError, match=r"a\.tif"):
            prepare_scene(scene, LOCAL)


def test_a_scene_of_which_too_much_is_lost_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "a.tif", ground(1))
    lose(tmp_path / "a.tif", [(0, 0), (7, 7)])
    scene = probed(tmp_path / "a.tif")
    monkeypatch.setattr(lost_blocks, "MOST_ERRORS", 5)
    with pytest.raises(ReadError, match="block is damaged: its deflate data cannot be decoded"):
        prepare_scene(scene, LOCAL)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert not dataset.overviews(1)
