"""The stretch from 16 to 8 bits: laws of its table, and the pixels that it is measured on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quakestream.domain import Quality, Scene, Stretch, View
from quakestream.domain.scene import SHOWN_HIGH, SHOWN_LOW
from quakestream.errors import SceneError
from quakestream.pipeline.work.prepare import PreparePair, PrepareScene
from quakestream.pipeline.work.scenes import stretch_notes
from quakestream.raster.masks import saturated
from quakestream.raster.prepare import prepare_scene
from quakestream.raster.statistics import statistics_of
from quakestream.raster.tiles import read_entry, tile_source_factory, write_entry, write_root
from quakestream.raster.tiles.placement import extent_on
from quakestream.raster.tiles.references import make_references
from quakestream.raster.tiles.stored import write_stored
from quakestream.storage import open_store
from tests.helpers.stretched_case import write_wide
from tests.helpers.tiles_case import (
    GRID,
    HEIGHT,
    LOCAL,
    TRANSFORM,
    WIDTH,
    assert_same,
    direct,
    scene_of,
    slant,
    texture,
    windows,
    write_tiff,
)
from tests.helpers.widening import GAIN, OFFSET, widened

counts = st.integers(0, 65_535)


@settings(max_examples=30)
@given(low_B=st.tuples(counts, counts, counts), span=counts.filter(bool), fill=counts)
def test_valid_counts_are_never_shown_as_nothing(
    low_B: tuple[int, int, int], span: int, fill: int
) -> None:
    table_BV = Stretch(low_B=low_B, span=span).tables([fill] * 3)
    assert table_BV.shape == (3, 65_536)
    for low, table_V in zip(low_B, table_BV, strict=True):
        assert table_V[fill] == 0
        valid_V = np.delete(table_V, fill)
        assert valid_V.min() >= 1
        assert (np.diff(valid_V.astype(int)) >= 0).all()
        if fill != 65_535:  # full is full, whatever the scene's brightest is
            assert table_V[65_535] == 255
            assert (valid_V == 255).sum() == 1
        for count, shown in ((low, SHOWN_LOW), (low + span, SHOWN_HIGH)):
            if count < 65_535 and count != fill:
                assert table_V[count] == shown


def test_a_stretch_survives_json() -> None:
    stretch = Stretch(low_B=(211, 190, 160), span=1843)
    assert Stretch.of(json.loads(json.dumps(stretch.attributes()))) == stretch


def write(path: Path, counts_BYX: NDArray[Any], **options: Any) -> Scene:
    """A probed scene of given counts, in three bands of half a metre."""
    bands, height, width = counts_BYX.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": bands}
    where = {"crs": "EPSG:32637", "transform": TRANSFORM, "dtype": counts_BYX.dtype.name}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "zstd"}
    with rasterio.open(path, "w", **profile, **where, **(blocks | options)) as made:
        made.write(counts_BYX)
    return scene_of(path)


def test_eight_bits_have_no_stretch(tmp_path: Path) -> None:
    assert scene_of(write_tiff(tmp_path / "scene.tif")).stretch is None


def test_the_ends_of_the_ground_are_the_ends_of_the_stretch(tmp_path: Path) -> None:
    """A thousand areas of known counts, larger than the pixels that are averaged."""
    ramp_YX = np.arange(1024).reshape(32, 32).repeat(32, 0).repeat(32, 1)
    counts_BYX = np.stack([ramp_YX + 300, 2 * ramp_YX + 200, ramp_YX // 2 + 100])
    stretch = write(tmp_path / "scene.tif", counts_BYX.astype(np.uint16)).stretch
    assert stretch is not None
    np.testing.assert_allclose(stretch.low_B, (305, 210, 103), atol=2)
    assert stretch.span == pytest.approx(0.99 * 2 * 1023, abs=4)


def test_colour_is_kept(tmp_path: Path) -> None:
    """Sand stays brighter in red than in blue, since masks take white areas for cloud."""
    rng = np.random.default_rng(0)
    sand_BYX = rng.normal(1, 0.04, (1, 600, 600)) * np.array([2400, 2000, 1300])[:, None, None]
    sand_BYX[:, :80] *= 0.1
    scene = write(tmp_path / "sand.tif", sand_BYX.astype(np.uint16))
    mean_B = prepare_scene(scene, LOCAL).statistics.mean_B
    assert mean_B[0] - mean_B[2] > 60
    assert prepare_scene(scene, LOCAL).quality.clear


def test_clouds_are_found_as_in_eight_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    row_YX, col_YX = np.mgrid[:HEIGHT, :WIDTH]
    counts_BYX = texture() * 0.7 + 20
    inside_YX = np.hypot(row_YX - 330, col_YX - 480) < 210
    counts_BYX[:, inside_YX] = 228 + rng.normal(0, 2, (3, inside_YX.sum()))
    visual = write(tmp_path / "visual.tif", counts_BYX.astype(np.uint8))
    analytic = scene_of(widened(Path(visual.href), tmp_path / "analytic.tif"))
    eight_YX, sixteen_YX = (
        prepare_scene(scene, LOCAL).quality.block_YX for scene in (visual, analytic)
    )
    assert (eight_YX == Quality.CLOUD).sum() > 100
    assert (eight_YX != sixteen_YX).sum() <= 0.05 * (eight_YX == Quality.CLOUD).sum()


def test_what_is_declared_invalid_has_no_say(tmp_path: Path) -> None:
    plain = scene_of(write_wide(tmp_path / "plain.tif")).stretch
    full = scene_of(write_wide(tmp_path / "full.tif", nodata=0, fill=65_535)).stretch
    masked = scene_of(write_wide(tmp_path / "mask.tif", masked=True)).stretch
    assert plain is not None
    for other in (full, masked):
        assert other is not None
        np.testing.assert_allclose(other.low_B, plain.low_B, atol=0.03 * plain.span)
        assert other.span == pytest.approx(plain.span, rel=0.03)


def test_overviews_and_their_absence_give_the_same(tmp_path: Path) -> None:
    stretches = [
        scene_of(write_wide(tmp_path / f"{n}.tif", masked=True, overviews=levels)).stretch
        for n, levels in enumerate(((), (2, 4), (2, 4, 8)))
    ]
    assert stretches[0] is not None
    assert stretches[0] == stretches[1] == stretches[2]


def test_of_a_large_scene_without_overviews_samples_are_read(tmp_path: Path) -> None:
    """Memory does not grow with the scene, and the ends are still found."""
    rng = np.random.default_rng(2)
    patch_BYX = rng.integers(400, 2000, (3, 24, 24)).astype(np.uint16)
    tile_BYX = patch_BYX.repeat(175, 1).repeat(175, 2)
    scene = write(tmp_path / "large.tif", tile_BYX, interleave="band", compress=None)
    assert tile_BYX[0].size > 4096 * 4096
    whole = Stretch(low_B=(400, 400, 400), span=1600)
    assert scene.stretch is not None
    np.testing.assert_allclose(scene.stretch.low_B, whole.low_B, atol=0.02 * whole.span)
    assert scene.stretch.span == pytest.approx(whole.span, rel=0.03)


def test_a_scene_that_shows_nothing_has_a_stretch_too(tmp_path: Path) -> None:
    scene = write(tmp_path / "empty.tif", np.full((3, 300, 300), 9, np.uint16), nodata=9)
    with direct(scene) as source:
        assert not source.read(extent_on(scene, GRID)).valid_YX.any()
    even = write(tmp_path / "even.tif", np.full((3, 300, 300), 9, np.uint16))
    with direct(even) as source:
        pixels = source.read(extent_on(even, GRID))
    assert pixels.valid_YX.all()
    assert (pixels.counts_BYX == SHOWN_LOW).all()


def test_only_a_full_sensor_is_saturated(tmp_path: Path) -> None:
    counts_BYX = texture().astype(np.uint16) * GAIN + OFFSET
    counts_BYX[:, 300:310, 300:320] = 9_000
    counts_BYX[:, 310:315, 300:320] = 65_535
    scene = write(tmp_path / "scene.tif", counts_BYX)
    with direct(scene) as source:
        assert saturated(source.read(extent_on(scene, GRID)).counts_BYX).sum() == 5 * 20


def test_statistics_are_those_of_what_is_read(tmp_path: Path) -> None:
    scene = scene_of(write_wide(tmp_path / "scene.tif", masked=True, compress="deflate"))
    with direct(scene) as source:
        pixels = source.read(extent_on(scene, GRID))
    fine = statistics_of(pixels.counts_BYX, pixels.valid_YX)
    coarse = prepare_scene(scene, LOCAL).statistics
    np.testing.assert_allclose(coarse.mean_B, fine.mean_B, atol=1.0)
    assert all(c <= f for c, f in zip(coarse.std_B, fine.std_B, strict=True))


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32"])
def test_other_counts_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=rf"expected uint8 .* or uint16, got {dtype}"):
        write(tmp_path / "scene.tif", (texture() + 1).astype(dtype))


def test_a_stretch_does_without_lost_blocks_and_needs_some(tmp_path: Path) -> None:
    path = write_wide(tmp_path / "scene.tif", compress="deflate")
    whole, data = scene_of(path).stretch, bytearray(path.read_bytes())
    third, half = len(data) // 3, len(data) // 2
    path.write_bytes(data[:third] + bytes(half - third) + data[half:])
    rest = scene_of(path).stretch
    assert whole is not None
    assert rest is not None
    assert abs(rest.span / whole.span - 1) < 0.1
    with tifffile.TiffFile(path) as tiff:
        blocks = list(zip(tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts, strict=True))
    for at, size in blocks:
        data[at : at + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(
        SceneError, match=r"scene\.tif: cannot measure how to bring 16-bit counts to 8 bits"
    ):
        scene_of(path)


def test_keys_follow_from_the_stretch(tmp_path: Path) -> None:
    """Results of one stretch are not used with another, and 8-bit keys do not change."""
    wide = scene_of(write_wide(tmp_path / "wide.tif"))
    visual = scene_of(write_tiff(tmp_path / "visual.tif"))
    other = replace(wide, stretch=Stretch(low_B=(1, 2, 3), span=4))
    assert visual.version == (visual.href, visual.etag)
    window = extent_on(wide, GRID)
    for make in (
        lambda scene: PrepareScene(scene=scene, options=LOCAL).key,
        lambda scene: (
            PreparePair(
                view=View(id="v", post=visual, pre=scene),
                pre=scene,
                epsg=32637,
                area=window,
                options=LOCAL,
            ).key
        ),
    ):
        assert make(wide) != make(other)
        assert make(wide) == make(replace(wide))


def test_scenes_of_sixteen_bits_are_told(tmp_path: Path) -> None:
    wide = scene_of(write_wide(tmp_path / "wide.tif"))
    visual = scene_of(write_tiff(tmp_path / "visual.tif"))
    assert stretch_notes([visual]) == []
    (note,) = stretch_notes([wide, visual, wide])
    assert "1 scene (wide) of 16 bits" in note


def test_stored_tiles_hold_what_is_read(tmp_path: Path) -> None:
    scene = scene_of(write_wide(tmp_path / "scene.tif", compress="deflate", nodata=0, fill=65535))
    store = open_store(str(tmp_path / "tiles.zarr"))
    write_root(store)
    write_entry(store, write_stored(scene, (GRID,), store))
    entry = read_entry(store, scene.id)
    assert entry is not None
    assert entry.stretch == scene.stretch
    assert entry.refusal(scene) is None
    with tile_source_factory(store.uri)(scene, GRID) as tiles, direct(scene) as source:
        for window in windows(extent_on(scene, GRID)):
            assert_same(tiles.read(window), source.read(window))
    other = replace(scene, stretch=Stretch(low_B=(1, 2, 3), span=4))
    assert "another stretch" in str(entry.refusal(other))


def test_references_are_refused(tmp_path: Path) -> None:
    scene = scene_of(write_wide(tmp_path / "scene.tif", compress="deflate"))
    with pytest.raises(SceneError, match="cannot be virtual: its counts have 16 bits"):
        make_references(scene, (GRID,), LOCAL)


def test_the_twin_in_sixteen_bits_shows_the_same_ground(tmp_path: Path) -> None:
    """A line in 16 bits is a line in 8 bits, within a count, except beyond the ends."""
    visual = write_tiff(tmp_path / "visual.tif", masked=True)
    scene = scene_of(widened(visual, tmp_path / "wide.tif"))
    assert scene.stretch is not None
    window = extent_on(scene, GRID)
    with direct(scene_of(visual)) as source, direct(scene) as twin:
        eight, shown = source.read(window), twin.read(window)
    np.testing.assert_array_equal(shown.valid_YX, eight.valid_YX)
    low_B = np.array(scene.stretch.low_B)[:, None, None]
    wide_BYX = eight.counts_BYX.astype(float) * GAIN + OFFSET
    line_BYX = SHOWN_LOW + (wide_BYX - low_B) * (SHOWN_HIGH - SHOWN_LOW) / scene.stretch.span
    within_BYX = (line_BYX > 1) & (line_BYX < 254) & eight.valid_YX & (eight.counts_BYX > 0)
    assert within_BYX.mean() > 0.8
    assert np.abs(shown.counts_BYX - line_BYX)[within_BYX].max() <= 0.5
    assert slant().shape == (HEIGHT, WIDTH) == eight.valid_YX.shape
