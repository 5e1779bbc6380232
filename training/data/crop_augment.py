"""Building crops as a network takes them: cut to size, normalised, in training also varied.

Both epochs and the footprint's mask are turned, mirrored and shifted alike, but for the shift
between epochs that real pairs have; light is drawn for each epoch alone. Hazard values are of
the place, not of the picture, and stay as they are.
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
"""Of an erased rectangle: width over height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropAugmentation:
    """How far crops are varied."""

    image: Augmentation = field(default_factory=Augmentation)
    """Turns, scale, light, and the shift between epochs."""
    jitter_px: float = 4.0
    """Largest shift of the crop against the footprint, per axis, whole pixels."""
    erase_share: float = 0.0
    """Share of crops with a rectangle erased, in both epochs alike."""
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


def margin_px(crop_px: int, how: CropAugmentation) -> int:
    """Pixels a chip needs beyond the crop on each side, so that no variation looks past it."""
    reach = (
        crop_px / 2 * 2**0.5 / min(how.image.scale[0], 1.0) if how.image.turn_share else crop_px / 2
    )
    return int(np.ceil(reach - crop_px / 2 + how.jitter_px + how.image.max_shift_px))


def plain_crops(chips: BuildingChips, crop_px: int) -> Crops:
    """The middle of each chip, normalised: what inference shows a model.

    Raises:
        ShapeError: if the crop is larger than the chips, or lies half a pixel off their middle.
    """
    side = chips.post_NBYX.shape[-1]
    if crop_px > side or (side - crop_px) % 2:
        raise ShapeError(
            f"a crop of {crop_px} px has no middle place in chips of {side} px: take one that is "
            "smaller by an even number"
        )
    place = slice((side - crop_px) // 2, (side + crop_px) // 2)
    images = [
        None if pixels is None else _normalised(pixels[..., place, place], chips, first)
        for pixels, first in ((chips.pre_NBYX, 0), (chips.post_NBYX, 2))
    ]
    inside = torch.from_numpy(np.ascontiguousarray(chips.inside_NYX[:, place, place]))
    return _crops(chips, images, inside)


def augment_crops(
    chips: BuildingChips, crop_px: int, how: CropAugmentation, generator: torch.Generator
) -> Crops:
    """Crops of `crop_px`, moved, recoloured and normalised; past a chip's edge lies its scene's
    mean colour, as inference has it past a scene's edge.
    """
    count, side = len(chips), chips.post_NBYX.shape[-1]
    frame_N23 = frames(count, how.image, generator)
    jitter_N2 = torch.rand(count, 2, generator=generator) * 2 - 1
    frame_N23[:, :, 2] += (jitter_N2 * how.jitter_px).round()
    moved_N23 = frame_N23 + shifts(count, how.image, generator)
    hole_NYX = _holes(count, crop_px, how, generator)
    images: list[Tensor | None] = []
    for pixels, frame, first in ((chips.pre_NBYX, moved_N23, 0), (chips.post_NBYX, frame_N23, 2)):
        if pixels is None:
            images.append(None)
            continue
        mean, std = _statistics(chips, first)
        above = torch.from_numpy(pixels).float() - mean[:, :, None, None]
        counts = sample(above, frame, crop_px, side, "bilinear") + mean[:, :, None, None]
        image = recoloured(counts, mean, std, how.image, generator)
        noise = torch.randn(image.shape, generator=generator)
        images.append(torch.where(hole_NYX[:, None], noise, image))
    mask_N1YX = torch.from_numpy(chips.inside_NYX[:, None]).float()
    inside = sample(mask_N1YX, frame_N23, crop_px, side, "nearest")[:, 0] > 0.5
    return _crops(chips, images, inside)


def _crops(chips: BuildingChips, images: list[Tensor | None], inside: Tensor) -> Crops:
    pre, post = images
    assert post is not None  # every store keeps the post epoch
    return Crops(
        pre_NBYX=pre,
        post_NBYX=post,
        inside_NYX=inside,
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
    """True where a crop is erased: a rectangle inside some of them."""
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
