"""Building crops as a network takes them: cut to size, normalised, and augmented in training.

Both epochs and the footprint's mask are turned, mirrored and shifted alike. The exception is the
shift between epochs, which real pairs have too. Light is drawn for each epoch separately. Hazard
values describe the place, not the image, and stay as they are.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quakestream.errors import ShapeError
from training.data.augment import Augmentation, frames, recoloured, sample, shifts, uniform
from training.data.store import BuildingChips

ASPECT = (0.3, 3.3)
"""Smallest and largest width over height of an erased rectangle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropAugmentation:
    """How far crops are augmented."""

    image: Augmentation = field(default_factory=Augmentation)
    """Turns, scale, light, and the shift between epochs."""
    jitter_px: float = 4.0
    """Largest shift of the crop against the footprint, per axis, whole pixels."""
    erase_share: float = 0.0
    """Share of crops in which a rectangle is erased, in both epochs alike."""
    erase_area: tuple[float, float] = (0.02, 0.33)
    """Smallest and largest share of the crop that is erased."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crops:
    """A batch as a network takes it."""

    post_NBYX: Tensor
    """Normalised with the scene's statistics, float32."""
    pre_NBYX: Tensor | None
    inside_NYX: Tensor
    """bool: True inside the footprint."""
    hazard_NM: Tensor
    """float32 in the store's units, NaN where missing."""
    label_N: Tensor
    """int64, -1 unknown."""

    @property
    def pre(self) -> Tensor:
        """Pre-event crops, for networks that take both epochs.

        Raises:
            ShapeError: if there are none.
        """
        if self.pre_NBYX is None:
            raise ShapeError("crops have no pre-event image")
        return self.pre_NBYX


def margin_px(crop_px: int, how: CropAugmentation) -> int:
    """Pixels that a chip needs beyond the crop on each side, so that augmentation stays inside."""
    reach = (
        crop_px / 2 * 2**0.5 / min(how.image.scale[0], 1.0) if how.image.turn_share else crop_px / 2
    )
    return int(np.ceil(reach - crop_px / 2 + how.jitter_px + how.image.max_shift_px))


def plain_crops(chips: BuildingChips, crop_px: int) -> Crops:
    """The middle of each chip, normalised, as inference shows it to a model.

    Raises:
        ShapeError: if the crop is larger than the chips, or would lie half a pixel off the middle.
    """
    side = chips.post_NBYX.shape[-1]
    if crop_px > side or (side - crop_px) % 2:
        raise ShapeError(
            f"a crop of {crop_px} px cannot be centred in a chip of {side} px",
            remedy="use a crop that is smaller by an even number of pixels",
        )
    place = slice((side - crop_px) // 2, (side + crop_px) // 2)
    pre = None if chips.pre_NBYX is None else chips.pre_NBYX[..., place, place]
    return Crops(
        pre_NBYX=None if pre is None else _normalised(pre, chips, 0),
        post_NBYX=_normalised(chips.post_NBYX[..., place, place], chips, 2),
        inside_NYX=torch.from_numpy(np.ascontiguousarray(chips.inside_NYX[:, place, place])),
        hazard_NM=torch.from_numpy(chips.hazard_NM),
        label_N=torch.from_numpy(chips.label_N),
    )


def augment_crops(
    chips: BuildingChips, crop_px: int, how: CropAugmentation, generator: torch.Generator
) -> Crops:
    """Crops of `crop_px`, moved, recoloured and normalised.

    Beyond the edge of a chip lies the mean colour of its scene, as in inference beyond the edge
    of a scene.
    """
    count, side = len(chips), chips.post_NBYX.shape[-1]
    frame_N23 = frames(count, how.image, generator)
    jitter_N2 = torch.rand(count, 2, generator=generator) * 2 - 1
    frame_N23[:, :, 2] += (jitter_N2 * how.jitter_px).round()
    moved_N23 = frame_N23 + shifts(count, how.image, generator)
    hole_NYX = _holes(count, crop_px, how, generator)

    def augmented(pixels: NDArray[np.uint8], frame: Tensor, first: int) -> Tensor:
        mean, std = _statistics(chips, first)
        above = torch.from_numpy(pixels).float() - mean[:, :, None, None]
        counts = sample(above, frame, crop_px, side, "bilinear") + mean[:, :, None, None]
        image = recoloured(counts, mean, std, how.image, generator)
        noise = torch.randn(image.shape, generator=generator)
        return torch.where(hole_NYX[:, None], noise, image)

    # The order matters: both epochs draw from one generator, the pre-event image first.
    pre = None if chips.pre_NBYX is None else augmented(chips.pre_NBYX, moved_N23, 0)
    post = augmented(chips.post_NBYX, frame_N23, 2)
    mask_N1YX = torch.from_numpy(chips.inside_NYX[:, None]).float()
    return Crops(
        pre_NBYX=pre,
        post_NBYX=post,
        inside_NYX=sample(mask_N1YX, frame_N23, crop_px, side, "nearest")[:, 0] > 0.5,
        hazard_NM=torch.from_numpy(chips.hazard_NM),
        label_N=torch.from_numpy(chips.label_N),
    )


def _statistics(chips: BuildingChips, first: int) -> tuple[Tensor, Tensor]:
    statistics_N4B = torch.from_numpy(chips.statistics_N4B)
    return statistics_N4B[:, first], statistics_N4B[:, first + 1]


def _normalised(counts: NDArray[np.uint8], chips: BuildingChips, first: int) -> Tensor:
    mean, std = (s[:, :, None, None] for s in _statistics(chips, first))
    image: Tensor = (torch.from_numpy(np.ascontiguousarray(counts)).float() - mean) / std
    return image


def _holes(count: int, crop_px: int, how: CropAugmentation, generator: torch.Generator) -> Tensor:
    """True where a crop is erased: a rectangle inside some of the crops."""
    low, high = how.erase_area
    area = (low + (high - low) * uniform(count, generator)) * crop_px**2
    ratio = torch.exp(torch.empty(count).uniform_(*np.log(ASPECT), generator=generator))
    half_N2 = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=1) / 2
    middle_N2 = torch.rand(count, 2, generator=generator) * crop_px
    middle_N2 = middle_N2.clamp(
        half_N2.clamp(max=crop_px / 2), crop_px - half_N2.clamp(max=crop_px / 2)
    )
    chosen_N = uniform(count, generator) < how.erase_share
    place = torch.arange(crop_px) + 0.5
    row_NY, col_NX = ((place - middle_N2[:, [k]]).abs() < half_N2[:, [k]] for k in (0, 1))
    return row_NY[:, :, None] & col_NX[:, None, :] & chosen_N[:, None, None]
