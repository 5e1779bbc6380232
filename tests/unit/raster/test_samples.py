"""Preparing costs a stated number of pixels, whatever the size of a scene."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from quakestream.domain import Scene
from quakestream.raster import prepare, samples
from quakestream.raster.bands import BandReader
from quakestream.raster.prepare import PreparedScene, prepare_scene
from tests.helpers.tiles_case import HEIGHT, LOCAL, WIDTH, texture
from tests.unit.raster.test_bands import probed, write

LIMIT_PX, SQUARES = 100_000, (3, 4)
SIDE_PX = 64
"""32 m at 0.5 m."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pixels of the file and pixels of the answer, of each read; scenes of 0.6 MPx are large."""
    for module in (samples, prepare):
        monkeypatch.setattr(module, "WHOLE_PX", LIMIT_PX)
    monkeypatch.setattr(samples, "SAMPLES", SQUARES)
    counted: list[tuple[int, int]] = []
    read = BandReader.read

    def counting(
        self: BandReader, window: Any, shape: tuple[int, int], resampling: Resampling
    ) -> Any:
        counted.append((int(window.height * window.width), shape[0] * shape[1]))
        return read(self, window, shape, resampling)

    monkeypatch.setattr(BandReader, "read", counting)
    return counted


def scene_of(path: Path, counts_BYX: NDArray[np.uint8], *, overviews: bool = False) -> Scene:
    write(path, counts_BYX)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4, 8], Resampling.average)
    return probed(path)


def bright(counts_BYX: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image under a cloud of 2.5 hectares in its middle."""
    clouded_BYX = counts_BYX.copy()
    clouded_BYX[:, 200:520, 300:620] = 235
    return clouded_BYX


def apart(one: PreparedScene, other: PreparedScene) -> float:
    pairs = (
        (one.statistics.mean_B, other.statistics.mean_B),
        (one.statistics.std_B, other.statistics.std_B),
    )
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


@pytest.mark.parametrize("times", [1, 3])
def test_squares_are_read_of_a_large_scene_and_as_many_of_a_larger_one(
    times: int, reads: list[tuple[int, int]], tmp_path: Path
) -> None:
    counts_BYX = np.tile(texture(), (1, times, times))
    scene = scene_of(tmp_path / "large.tif", counts_BYX)
    reads.clear()
    found = prepare_scene(scene, LOCAL)
    assert reads == [(SIDE_PX**2, SIDE_PX**2)] * (SQUARES[0] * SQUARES[1])
    assert found.quality.clear  # without overviews, nothing tells where clouds are
    assert any("too large to be read whole" in note for note in scene.notes)
    again = prepare_scene(scene, LOCAL)
    assert again.statistics == found.statistics


def test_statistics_of_squares_are_near_those_of_the_whole(
    reads: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts_BYX = texture()
    counts_BYX[:, :90, :70] = counts_BYX[:, 100:190, 100:170]  # one square is a twelfth of all
    scene = scene_of(tmp_path / "large.tif", counts_BYX)
    sampled = prepare_scene(scene, LOCAL)
    for module in (samples, prepare):
        monkeypatch.setattr(module, "WHOLE_PX", HEIGHT * WIDTH)
    reads.clear()
    whole = prepare_scene(scene, LOCAL)
    assert sum(px for px, _ in reads) > 0.9 * HEIGHT * WIDTH
    assert 0 < apart(sampled, whole) < 8
    assert sampled.pixels < whole.pixels / 4


def test_clouds_of_a_large_scene_are_found_in_its_overview_at_a_bounded_cost(
    reads: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(tmp_path / "large.tif", bright(texture()), overviews=True)
    assert not any("too large" in note for note in scene.notes)
    reads.clear()
    found = prepare_scene(scene, LOCAL)
    assert not found.quality.clear
    assert sum(px for _, px in reads) <= SQUARES[0] * SQUARES[1] * SIDE_PX**2 + LIMIT_PX
    for module in (samples, prepare):
        monkeypatch.setattr(module, "WHOLE_PX", HEIGHT * WIDTH)
    whole = prepare_scene(scene, LOCAL).quality
    place = scene.transform
    assert place is not None
    for row, col, hidden in ((360, 460, True), (100, 700, False), (600, 100, False)):
        x_1, y_1 = (np.array([v]) for v in place @ (col + 0.5, row + 0.5))
        assert bool(found.quality.at(x_1, y_1)[0]) is bool(whole.at(x_1, y_1)[0]) is hidden


def test_a_white_square_takes_no_part(reads: list[tuple[int, int]], tmp_path: Path) -> None:
    """It lies on a collar; ground is seen in the other squares."""
    counts_BYX = np.clip(texture(), 20, 200)
    counts_BYX[:, :100] = 255
    found = prepare_scene(scene_of(tmp_path / "white.tif", counts_BYX), LOCAL)
    assert max(found.statistics.mean_B) < 200
    assert found.pixels == (SQUARES[0] - 1) * SQUARES[1] * (SIDE_PX // 8) ** 2
