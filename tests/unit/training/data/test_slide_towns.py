"""Ground without slides for an RGB set: pixels of 1 m, empty masks, nothing unseen."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy.special import expit

from quakestream.bundles import load_bundle
from quakestream.errors import RequestError
from training.data.slide_chips import ChipSetInfo, open_chips_of, write_info
from training.data.slide_scenery_rgb import INFO
from training.data.slide_towns import main, read_town
from training.onnx_graph import run_onnx
from training.slides.alarms import alarms, probabilities


def write_image(
    path: Path, *, gsd: float, epsg: int, y: float, side: int = 640, wide: int = 0
) -> np.ndarray:
    """Noise in squares of four pixels; the lowest quarter is nodata."""
    small = np.random.default_rng(1).integers(1, 255, (3, side // 4, side // 4), np.uint8)
    pixels = small.repeat(4, axis=1).repeat(4, axis=2)
    pixels[:, -side // 4 :] = 0
    pixels = pixels[:, :, : wide or side]
    _, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8"}
    where = {"crs": f"EPSG:{epsg}", "transform": from_origin(10.0, y, gsd, gsd), "nodata": 0}
    with rasterio.open(path, "w", **profile, **where) as file:
        file.write(pixels)
    return pixels


def test_pixels_are_averaged_to_a_metre_and_unseen_ground_is_left_out(tmp_path: Path):
    pixels = write_image(tmp_path / "town.tif", gsd=0.5, epsg=32637, y=4e6, side=1280)
    write_info(tmp_path / "set", INFO)
    assert main([str(tmp_path / "set"), "--validation", str(tmp_path / "town.tif")]) == 0
    chips = open_chips_of(tmp_path / "set", "validation")
    assert chips.info.description == f"{INFO.description}, and towns without slides"
    # 640 m a side hold two chips a row; the second row reaches 32 m into the nodata.
    assert len(chips) == 2
    image_NBYX, mask_NYX = chips.read(range(2))
    assert not mask_NYX.any()
    np.testing.assert_array_equal(image_NBYX[0], pixels[:, :512:2, :512:2])


def test_pixels_in_degrees_are_metres_of_their_latitude(tmp_path: Path):
    write_image(tmp_path / "town.tif", gsd=6e-6, epsg=4326, y=60.0)
    town = read_town(tmp_path / "town.tif")
    assert town.pixels_BYX.shape == (3, 427, 214)


@pytest.mark.parametrize("source", ["absent.tif", "seed:x"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, source: str, capsys):
    write_info(tmp_path, INFO)
    assert main([str(tmp_path), "--train", source]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    write_info(tmp_path, ChipSetInfo())
    assert main([str(tmp_path), "--train", source]) == 2
    assert "not one of RGB counts" in capsys.readouterr().err


def test_marked_ground_is_a_share_of_what_was_seen(tmp_path: Path):
    """Windows cover the image once, and what lies beyond its edge does not count."""
    write_image(tmp_path / "town.tif", gsd=1.0, epsg=32637, y=4e6, side=640, wide=384)
    bundle = load_bundle("landslide-rgb")
    town = read_town(tmp_path / "town.tif")
    p_YX = probabilities(bundle, town.pixels_BYX)
    assert p_YX.shape == (640, 384)
    core, halo = bundle.spec.core_px, bundle.spec.halo_px
    padded = np.pad(town.pixels_BYX, ((0, 0), (halo, 600), (halo, 600)), mode="symmetric")
    # The second of two windows.
    side = bundle.spec.window_px
    window = padded[:, core : core + side, :side]
    expected = expit(run_onnx(bundle.graph, {"post": np.ascontiguousarray(window[None])})[0, 0])
    np.testing.assert_allclose(
        p_YX[core : 2 * core, :core], expected[halo:-halo, halo:-halo], atol=1e-6
    )
    shares = alarms(bundle, [tmp_path / "town.tif"])
    limit = bundle.spec.thresholds.balanced
    assert shares["town"] == pytest.approx((p_YX[town.seen_YX] >= limit).mean(), abs=1e-4)
    with pytest.raises(RequestError, match="does not take RGB counts"):
        alarms(load_bundle("landslide-s2-synthetic"), [])
