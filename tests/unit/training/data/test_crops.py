"""Crops for building models: both epochs and the mask move alike, hazard values never."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.errors import ShapeError
from training.data.augment import Augmentation
from training.data.crop_augment import (
    CropAugmentation,
    Crops,
    augment_crops,
    margin_px,
    plain_crops,
)
from training.data.store import BuildingChips

STILL = Augmentation(
    turn_share=0.0,
    shift_px=0.0,
    gamma=0.0,
    contrast=0.0,
    brightness=0.0,
    cast=0.0,
    haze=0.0,
    sharpness=(0.0, 0.0),
    noise=0.0,
)
"""Quarter turns and mirrors alone."""


def chips(count: int = 4, side: int = 24, seed: int = 0, pre: bool = True) -> BuildingChips:
    """Noise; the mask is where the red band of the post image is bright."""
    rng = np.random.default_rng(seed)
    post = rng.integers(0, 256, (count, 3, side, side)).astype(np.uint8)
    hazard = rng.random((count, 3)).astype(np.float32)
    hazard[0, 1] = np.nan
    statistics = np.tile(np.array([100, 50, 120, 60], np.float32)[None, :, None], (count, 1, 3))
    return BuildingChips(
        post_NBYX=post,
        pre_NBYX=255 - post if pre else None,
        inside_NYX=post[:, 0] > 128,
        statistics_N4B=statistics,
        hazard_NM=hazard,
        label_N=np.arange(count) - 1,
    )


def counts(crops: Crops) -> tuple[torch.Tensor, torch.Tensor]:
    """Pre and post back in sensor counts."""
    assert crops.pre_NBYX is not None
    return crops.pre_NBYX * 50 + 100, crops.post_NBYX * 60 + 120


def augmented(given: BuildingChips, crop_px: int, how: CropAugmentation, seed: int = 0) -> Crops:
    return augment_crops(given, crop_px, how, torch.Generator().manual_seed(seed))


def test_the_plain_crop_is_the_middle_normalised() -> None:
    given = chips()
    crops = plain_crops(given, 16)
    pre, post = counts(crops)
    np.testing.assert_allclose(post, given.post_NBYX[:, :, 4:20, 4:20], atol=1e-3)
    assert given.pre_NBYX is not None
    np.testing.assert_allclose(pre, given.pre_NBYX[:, :, 4:20, 4:20], atol=1e-3)
    np.testing.assert_array_equal(crops.inside_NYX, given.inside_NYX[:, 4:20, 4:20])
    np.testing.assert_array_equal(crops.hazard_NM, given.hazard_NM)
    assert crops.label_N.tolist() == [-1, 0, 1, 2]
    for size in (15, 26):
        with pytest.raises(ShapeError):
            plain_crops(given, size)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), jitter=st.integers(0, 4))
def test_mirrors_turns_and_jitter_move_both_epochs_and_the_mask_alike(
    seed: int, jitter: int
) -> None:
    given = chips(seed=seed)
    how = CropAugmentation(image=STILL, jitter_px=float(jitter))
    crops = augmented(given, 16, how, seed)
    pre, post = counts(crops)
    # The pre image is the negative of the post image, the mask is where that is bright in red.
    np.testing.assert_allclose(pre.numpy(), 255 - post.numpy(), atol=0.3)
    np.testing.assert_array_equal(crops.inside_NYX, post[:, 0] > 128.5)
    # Pixels are those of the chip, moved at most by the jitter: none is made up.
    for n in range(len(given)):
        known = {tuple(p) for p in given.post_NBYX[n].reshape(3, -1).T.tolist()}
        found = post[n].round().int().reshape(3, -1).T.tolist()
        assert {tuple(p) for p in found} <= known
    np.testing.assert_array_equal(crops.hazard_NM, given.hazard_NM)
    np.testing.assert_array_equal(crops.label_N, given.label_N)


def test_all_eight_ways_to_lay_a_crop_occur() -> None:
    given = chips(1, 8)
    seen = set()
    for seed in range(80):
        _, post = counts(augmented(given, 8, CropAugmentation(image=STILL, jitter_px=0.0), seed))
        seen.add(post[0].round().int().numpy().tobytes())
    turned = [np.rot90(given.post_NBYX[0], k, (1, 2)) for k in range(4)]
    ways = {np.ascontiguousarray(w).astype(np.int32).tobytes() for w in turned}
    ways |= {np.ascontiguousarray(w[..., ::-1]).astype(np.int32).tobytes() for w in turned}
    assert seen == ways


def test_light_is_drawn_for_each_epoch_alone() -> None:
    given = chips(6)
    same = BuildingChips(
        post_NBYX=given.post_NBYX,
        pre_NBYX=given.post_NBYX,
        inside_NYX=given.inside_NYX,
        statistics_N4B=given.statistics_N4B[:, [2, 3, 2, 3]],
        hazard_NM=given.hazard_NM,
        label_N=given.label_N,
    )
    crops = augmented(same, 16, CropAugmentation(image=Augmentation(shift_px=0.0)))
    assert crops.pre_NBYX is not None
    apart = (crops.pre_NBYX - crops.post_NBYX).mean(dim=(1, 2, 3)).abs()
    assert (apart > 0.01).all()


def test_past_a_chips_edge_lies_the_scenes_mean_colour() -> None:
    given = chips(3, 16)
    crops = augmented(given, 32, CropAugmentation(image=STILL, jitter_px=0.0))
    assert crops.post_NBYX[:, :, :8].abs().max() == 0
    assert not crops.inside_NYX[:, :8].any()


def test_erasing_takes_the_same_rectangle_from_both_epochs() -> None:
    given = chips(200, 16)
    how = CropAugmentation(image=STILL, jitter_px=0.0, erase_share=0.5, erase_area=(0.1, 0.3))
    pre, post = counts(augmented(given, 16, how))
    whole_pre, whole_post = counts(
        augmented(given, 16, CropAugmentation(image=STILL, jitter_px=0.0))
    )
    gone = ((post - whole_post).abs() > 0.01).any(dim=1)
    also = ((pre - whole_pre).abs() > 0.01).any(dim=1)
    np.testing.assert_array_equal(gone, also)
    share = gone.float().mean(dim=(1, 2))
    assert 0.35 < (share > 0).float().mean() < 0.65
    erased = share[share > 0]
    assert erased.min() > 0.03
    assert erased.max() < 0.42
    for mask in gone[share > 0]:
        rows, cols = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        box = mask[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
        assert box.all()


def test_post_alone_is_augmented_too_and_the_same_seed_gives_the_same() -> None:
    given = chips(3, pre=False)
    how = CropAugmentation(erase_share=0.5)
    first, again = augmented(given, 16, how, 5), augmented(given, 16, how, 5)
    other = augmented(given, 16, how, 6)
    assert first.pre_NBYX is None
    torch.testing.assert_close(first.post_NBYX, again.post_NBYX, rtol=0, atol=0)
    assert (first.post_NBYX - other.post_NBYX).abs().max() > 0.1
    assert first.hazard_NM.isnan().sum() == 1


@pytest.mark.parametrize("turns", [0.0, 1.0])
def test_with_the_margin_no_variation_looks_past_a_chip(turns: float) -> None:
    how = CropAugmentation(
        image=Augmentation(turn_share=turns, shift_px=3.0), jitter_px=3.0, erase_share=0.0
    )
    side = 16 + 2 * margin_px(16, how)
    given = chips(64, side)
    white = BuildingChips(
        post_NBYX=given.post_NBYX,
        pre_NBYX=given.pre_NBYX,
        inside_NYX=np.ones_like(given.inside_NYX),
        statistics_N4B=given.statistics_N4B,
        hazard_NM=given.hazard_NM,
        label_N=given.label_N,
    )
    assert augmented(white, 16, how).inside_NYX.all()
