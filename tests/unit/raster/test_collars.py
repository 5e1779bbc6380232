"""Collars without a tag: what vendors fill in beside the swath says nothing of the ground."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quakestream.domain import Quality, Scene, Window
from quakestream.pipeline.work.quality import WindowPixels, with_quality
from quakestream.pipeline.work.tasks import WorkerScene
from quakestream.raster.prepare import prepare_scene
from quakestream.raster.tiles.placement import extent_on
from tests.helpers.tiles_case import GRID, HEIGHT, LOCAL, WIDTH, direct, texture
from tests.unit.raster.test_bands import probed, write

GROUND: NDArray[np.uint8] = np.clip(texture(), 20, 230)
"""Neither black nor white anywhere."""
STRAIGHT = 320
"""Width of the collar, pixels: 160 m."""


def collar() -> NDArray[np.bool_]:
    """True on the collar, whose edge is slanted and cuts through blocks; shape (y, x)."""
    row_YX, col_YX = np.mgrid[:HEIGHT, :WIDTH]
    outside_YX: NDArray[np.bool_] = col_YX < STRAIGHT - row_YX // 5
    return outside_YX


def known(scene: Scene) -> WorkerScene:
    done = prepare_scene(scene, LOCAL)
    return WorkerScene(
        scene=scene, statistics=done.statistics, qualities=((scene.crs_wkt, done.quality),)
    )


def shown(scene: Scene, window: Window) -> WindowPixels:
    with direct(scene, GRID) as source:
        return with_quality(source.read(window), known(scene), GRID, window)


def filled(path: Path, fill: int, **more: Any) -> Scene:
    counts_BYX = GROUND.copy()
    counts_BYX[:, collar()] = fill
    return probed(write(path, counts_BYX, **more))


@pytest.mark.parametrize("fill", [0, 255])
def test_a_collar_is_no_ground_and_takes_no_part_in_statistics(fill: int, tmp_path: Path) -> None:
    scene = filled(tmp_path / "collar.tif", fill)
    tagged = filled(tmp_path / "tag.tif", fill, nodata=fill)
    whole = extent_on(scene, GRID)
    quality_YX = shown(scene, whole).quality_YX
    inner = slice(8, None)  # the masks begin at the scene's edge, parts of a pixel off the grid's
    np.testing.assert_array_equal((quality_YX == Quality.NODATA)[inner], collar()[inner])
    np.testing.assert_array_equal(quality_YX != 0, collar())  # no cloud or snow beside it
    mean_B, expected_B = (np.array(known(s).statistics.mean_B) for s in (scene, tagged))
    std_B, expected_std_B = (np.array(known(s).statistics.std_B) for s in (scene, tagged))
    assert np.abs(mean_B - expected_B).max() < 2  # 4 m pixels on the edge differ
    assert np.abs(std_B - expected_std_B).max() < 2
    # what a model sees there is the mean colour
    np.testing.assert_array_equal(
        shown(scene, whole).counts_BYX[:, 20, 20], np.rint(mean_B).astype(np.uint8)
    )


@pytest.mark.parametrize("fill", [0, 255])
def test_a_collar_does_not_depend_on_the_window(fill: int, tmp_path: Path) -> None:
    scene = filled(tmp_path / "collar.tif", fill)
    whole = extent_on(scene, GRID)
    expected = shown(scene, whole)
    for row, col, side in ((0, 0, 96), (131, 250, 177), (401, 203, 64), (690, 100, 128)):
        window = Window(row=whole.row + row, col=whole.col + col, height=side, width=side)
        part = expected.part(whole, window.shared(whole))
        found = shown(scene, window.shared(whole))
        np.testing.assert_array_equal(found.quality_YX, part.quality_YX)
        np.testing.assert_array_equal(found.counts_BYX, part.counts_BYX)


def test_a_white_roof_at_the_edge_is_no_collar(tmp_path: Path) -> None:
    """It is smaller than a hectare."""
    counts_BYX = GROUND.copy()
    counts_BYX[:, 300:380, :90] = 255
    scene = probed(write(tmp_path / "roof.tif", counts_BYX))
    found = shown(scene, extent_on(scene, GRID)).quality_YX
    assert (found[300:380, :90] == Quality.SATURATED).all()
    assert not (found == Quality.NODATA).any()
