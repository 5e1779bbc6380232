"""The bound within which JPEG decoders may differ, and the table of codecs."""

import numcodecs.registry
import numpy as np
import pytest
import tifffile
from imagecodecs.numcodecs import register_codecs
from numpy.typing import NDArray

from quakestream.raster.cog.agreement import JPEG_BIAS_COUNTS, JPEG_LUMA_COUNTS, disagreement
from quakestream.raster.cog.codec_table import CODEC_OF_NUMBER, TRAITS
from tests.helpers.tiles_case import texture


def test_exact_codecs_may_not_differ_at_all() -> None:
    image_BYX = texture()
    other_BYX = image_BYX.copy()
    assert disagreement(image_BYX, other_BYX, exact=True) == ""
    other_BYX[1, 5, 7] += 1
    assert "1 at most" in disagreement(image_BYX, other_BYX, exact=True)
    assert disagreement(image_BYX, other_BYX, exact=False) == ""


def test_nan_is_equal_to_nan() -> None:
    image_BYX = np.full((1, 4, 4), np.nan, np.float32)
    assert disagreement(image_BYX, image_BYX.copy(), exact=True) == ""


def shifted(*counts: float) -> NDArray[np.float64]:
    """The texture with a constant added to each band."""
    return texture() + np.array(counts)[:, None, None]


@pytest.mark.parametrize(
    "wrong_BYX",
    [
        texture()[::-1],
        texture().transpose(0, 2, 1)[:, :600, :600],
        shifted(0, 0, 1.1 * JPEG_BIAS_COUNTS),
        shifted(*[1.1 * JPEG_LUMA_COUNTS] * 3),
    ],
    ids=["red and blue swapped", "rows and columns swapped", "one band brighter", "brighter"],
)
def test_mistakes_are_no_difference_between_decoders(wrong_BYX: NDArray[np.float64]) -> None:
    right_BYX = texture()[:, : wrong_BYX.shape[1], : wrong_BYX.shape[2]]
    assert disagreement(wrong_BYX.astype(np.float64), right_BYX, exact=False)


def test_chroma_may_differ_as_long_as_brightness_does_not() -> None:
    """Red and blue move against each other by 20 counts, without a bias."""
    sign_YX = np.where(np.indices(texture().shape[1:]).sum(axis=0) % 2, 20.0, -20.0)
    apart_BYX = np.stack([sign_YX * 0.114 / 0.299, 0 * sign_YX, -sign_YX])
    assert disagreement(texture() + apart_BYX, texture(), exact=False) == ""


def test_codecs_have_tiffs_numbers_and_zarrs_names() -> None:
    register_codecs(verbose=False)
    names = {"none": {"NONE"}, "deflate": {"ADOBE_DEFLATE", "DEFLATE"}}
    for number, codec in CODEC_OF_NUMBER.items():
        assert tifffile.COMPRESSION(number).name in names.get(codec, {codec.upper()})
    ids = {traits.zarr_id for traits in TRAITS.values() if traits.zarr_id}
    assert ids <= {*numcodecs.registry.codec_registry, *numcodecs.registry.entries}
