"""The frozen backbone gives what the published network gives in torch."""

import numpy as np
import pytest
import torch

from quakestream.errors import ShapeError
from training.adapt.backbone import FEATURES, MEAN, STD, backbone_features
from training.networks.efficientnet import EfficientNetLite, load_imagenet


@pytest.fixture(scope="module")
def pixels_NBYX() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (2, 3, 8, 4)).repeat(8, 2).repeat(8, 3).astype(np.uint8)


def test_features_are_the_means_of_the_maps_in_torch(pixels_NBYX: np.ndarray) -> None:
    network = EfficientNetLite(3, deepest=16).eval()
    load_imagenet(network, ("red", "green", "blue"))
    with torch.inference_mode():
        maps = network((torch.from_numpy(pixels_NBYX).float() - MEAN) / STD)[2:4]
    expected_ND = np.concatenate([m.mean((2, 3)).numpy() for m in maps], axis=1)
    got_ND = backbone_features(pixels_NBYX)
    assert got_ND.shape == (2, FEATURES)
    assert np.abs(got_ND - expected_ND).max() < 0.01 * expected_ND.std()


def test_weights_choose_the_pixels_that_count(pixels_NBYX: np.ndarray) -> None:
    inside_NYX = np.zeros((2, 64, 32), bool)
    inside_NYX[0, 16:48, :16] = True
    plain_ND = backbone_features(pixels_NBYX)
    chosen_ND = backbone_features(pixels_NBYX, inside_NYX)
    np.testing.assert_array_equal(chosen_ND[1], plain_ND[1])  # no weight: the whole crop
    assert np.abs(chosen_ND[0] - plain_ND[0]).max() > 0.05
    np.testing.assert_allclose(
        backbone_features(pixels_NBYX, np.ones((2, 64, 32))), plain_ND, rtol=1e-4, atol=1e-5
    )


def test_other_sides_are_refused() -> None:
    with pytest.raises(ShapeError, match="wrong crops for the backbone"):
        backbone_features(np.zeros((1, 3, 40, 64), np.uint8))
