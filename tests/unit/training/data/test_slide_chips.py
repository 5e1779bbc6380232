"""Chips in the layout of Landslide4Sense: read as written, bad files named, truth as generated."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from quakestream.errors import RequestError
from training.data.slide_chips import (
    L4S_BANDS,
    ChipSetInfo,
    info_of,
    mask_file,
    open_chips_of,
    write_chip,
    write_info,
)
from training.data.slide_scenery import STYLES, main, make_region, write_set
from training.data.slide_spectra import REFERENCE_B


def official_chip(root: Path, number: int) -> np.ndarray:
    """A file as the data set has it: float64, no `about.json`."""
    image_YXB = np.random.default_rng(number).normal(1.0, 0.3, (128, 128, 14))
    mask_YX = np.zeros((128, 128), np.uint8)
    mask_YX[3:9, 4] = 1
    for kind, name, key, values in (
        ("images", "image", "img", image_YXB),
        ("annotations", "mask", "mask", mask_YX),
    ):
        folder = root / kind / "train"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"{name}_{number}.h5", "w") as file:
            file[key] = values
    return image_YXB


def test_official_layout_is_read_by_band_name_in_the_order_of_numbers(tmp_path: Path):
    images = {number: official_chip(tmp_path, number) for number in (10, 9, 1)}
    chips = open_chips_of(tmp_path, "train", ["nir", "red", "slope"])
    assert chips.names == ("1", "9", "10")
    image_NBYX, mask_NYX = chips.read([1])
    np.testing.assert_array_equal(image_NBYX[0, 1], images[9][..., 3].astype(np.float32))
    np.testing.assert_array_equal(image_NBYX[0, 0], images[9][..., 7].astype(np.float32))
    np.testing.assert_array_equal(image_NBYX[0, 2], images[9][..., 12].astype(np.float32))
    assert mask_NYX.sum() == 6
    assert mask_NYX[0, 3:9, 4].all()
    assert chips.info == ChipSetInfo()
    assert [len(image) for image, _ in chips.batches(2)] == [2, 1]


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"not HDF5"), "not a readable HDF5 file"),
        (lambda path: h5py.File(path, "w").close(), "no dataset mask"),
    ],
)
def test_a_broken_mask_is_named(tmp_path: Path, break_it, what: str):
    official_chip(tmp_path, 1)
    path = mask_file(tmp_path, "train", "1")
    break_it(path)
    with pytest.raises(RequestError) as caught:
        open_chips_of(tmp_path, "train").read([0])
    assert caught.value.what == what
    assert caught.value.where == str(path)


def test_absent_parts_bands_and_wrong_shapes_are_refused(tmp_path: Path):
    official_chip(tmp_path, 1)
    with pytest.raises(RequestError, match="no chips"):
        open_chips_of(tmp_path, "test")
    with pytest.raises(RequestError, match="no band nir08"):
        open_chips_of(tmp_path, "train", ["nir08"])
    write_info(tmp_path, ChipSetInfo(bands=("red", "green", "blue"), gsd_m=1.0, dtype="uint8"))
    with pytest.raises(RequestError, match="wrong shape of img"):
        open_chips_of(tmp_path, "train").read([0])


def test_about_comes_back_as_written(tmp_path: Path):
    info = ChipSetInfo(bands=("red",), gsd_m=0.5, physical_per_stored=(1.0,), dtype="uint8")
    write_info(tmp_path, info)
    assert info_of(tmp_path) == info
    image, mask = np.ones((1, 16, 16), np.float32), np.eye(16, dtype=np.uint8)
    write_chip(tmp_path, "test", "7", image, mask)
    read, read_mask = open_chips_of(tmp_path, "test").read([0])
    np.testing.assert_array_equal(read[0], image)
    np.testing.assert_array_equal(read_mask[0], mask)


def test_a_generated_set_has_the_layout_and_the_truth_of_its_region(tmp_path: Path):
    assert main(["-o", str(tmp_path / "bad"), "--regions", "1,0,1"]) == 2
    write_set(tmp_path, seed=3, regions=(1, 1, 1), side_px=128)
    region = make_region(3000, STYLES["humid"], 128)
    chips = open_chips_of(tmp_path, "train")
    image_NBYX, mask_NYX = chips.read([0])
    assert chips.bands == L4S_BANDS
    np.testing.assert_allclose(
        image_NBYX[0] * REFERENCE_B[:, None, None], region.image_BYX, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(mask_NYX[0], region.mask_YX)
    others = [open_chips_of(tmp_path, part).read([0])[0] for part in ("validation", "test")]
    assert not any(np.array_equal(other, image_NBYX) for other in others)


def test_slides_are_bare_and_steep_and_two_hundredths_of_the_ground():
    region = make_region(11, STYLES["humid"], 256)
    slid = region.mask_YX == 1
    red, nir, slope = region.image_BYX[3], region.image_BYX[7], region.image_BYX[12]
    ndvi = (nir - red) / (nir + red)
    assert ndvi[slid].mean() < ndvi[~slid].mean() - 0.2
    assert slope[slid].mean() > slope[~slid].mean()
    assert 0.005 < slid.mean() < 0.06
    # Look-alikes: much more ground is as bare as a slide than slides cover.
    assert (ndvi[~slid] < np.median(ndvi[slid])).sum() > 0.3 * slid.sum()
