"""Imitates the differences between two images of an undamaged building.

Geometry is the same for both epochs, except for the shift between them that real pairs have.
Radiometry (season, sun, haze, sharpness) is drawn for each epoch separately.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data.chips import RawChips


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far chips are moved and recoloured.

    A field without a range is a standard deviation. Radiometry is in units of the scene's
    deviation.
    """

    turn_share: float = 0.3
    """Share of chips turned by any angle and scaled; all others keep their pixels exactly."""
    scale: tuple[float, float] = (0.8, 1.25)
    shift_px: float = 2.5
    """Shift of the pre-event image against the post-event image, per axis."""
    max_shift_px: float = 6.0
    gamma: float = 0.1
    contrast: float = 0.1
    brightness: float = 0.12
    cast: float = 0.05
    """Contrast and brightness of one band against the others."""
    haze: float = 0.15
    """Largest amplitude of smooth haze."""
    sharpness: tuple[float, float] = (-0.4, 0.6)
    """Below 0 sharpened, 0 unchanged, 1 blurred."""
    noise: float = 0.05
    grey_share: float = 0.0
    """Share of images that are partly turned grey."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chips:
    """A training batch."""

    pre_NBYX: Tensor
    """Normalised, float32."""
    post_NBYX: Tensor
    owner_NYX: Tensor
    """int64, as in `RawChips`."""


def augment(raw: RawChips, chip_px: int, how: Augmentation, generator: torch.Generator) -> Chips:
    """Chips of `chip_px`, moved, recoloured and normalised with their scenes' statistics."""
    raw_px = raw.post_NBYX.shape[-1]
    frame_N23 = frames(len(raw.post_NBYX), how, generator)
    moved_N23 = frame_N23 + shifts(len(frame_N23), how, generator)
    owner_N1YX = sample(raw.owner_NYX[:, None], frame_N23, chip_px, raw_px, "nearest")
    images = []
    for pixels, frame, first in ((raw.pre_NBYX, moved_N23, 0), (raw.post_NBYX, frame_N23, 2)):
        counts = sample(pixels.float(), frame, chip_px, raw_px, "bilinear")
        mean, std = raw.statistics_N4B[:, first], raw.statistics_N4B[:, first + 1]
        images.append(recoloured(counts, mean, std, how, generator))
    return Chips(pre_NBYX=images[0], post_NBYX=images[1], owner_NYX=owner_N1YX[:, 0].long())


def frames(count: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Affine maps from output to input offsets (pixels from the centre), one a chip, (N, 2, 3)."""
    quarter = torch.randint(0, 4, (count,), generator=generator) * (torch.pi / 2)
    free = uniform(count, generator) < how.turn_share
    angle = quarter + torch.where(free, uniform(count, generator) * torch.pi / 2, 0.0)
    low, high = how.scale
    scale = torch.where(free, low * (high / low) ** uniform(count, generator), 1.0)
    mirror = torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1.0
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    zero = torch.zeros(count)
    rows = [torch.stack([mirror * cos, -sin, zero], 1), torch.stack([mirror * sin, cos, zero], 1)]
    return torch.stack(rows, dim=1)


def shifts(count: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift of the pre-event image, whole pixels for half of the chips, (N, 2, 3)."""
    shift_N2 = torch.randn(count, 2, generator=generator) * how.shift_px
    shift_N2 = shift_N2.clamp(-how.max_shift_px, how.max_shift_px)
    whole = uniform(count, generator) < 0.5
    shift_N2 = torch.where(whole[:, None], shift_N2.round(), shift_N2)
    return nn.functional.pad(shift_N2[:, :, None], (2, 0))


def sample(image: Tensor, frame_N23: Tensor, chip_px: int, raw_px: int, mode: str) -> Tensor:
    """Samples the image through each frame; 0 outside the image."""
    offset = torch.arange(chip_px) - (chip_px - 1) / 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    out_YX3 = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    # grid_sample counts from -1 to 1 over the outer edges of the input's pixels.
    grid_NYX2 = torch.einsum("yxk,nck->nyxc", out_YX3, frame_N23) * (2.0 / raw_px)
    return nn.functional.grid_sample(image, grid_NYX2, mode=mode, align_corners=False)


def recoloured(
    counts: Tensor, mean_NB: Tensor, std_NB: Tensor, how: Augmentation, generator: torch.Generator
) -> Tensor:
    """Normalised images after gamma, sharpness, contrast, brightness, cast, veil and noise."""
    n, bands = mean_NB.shape

    def normal(spread: float, channels: int = 1) -> Tensor:
        return torch.randn(n, channels, 1, 1, generator=generator) * spread

    gamma = torch.exp(normal(how.gamma))
    image = 255.0 * (counts / 255.0).clamp(1e-3, 1.0) ** gamma
    image = (image - mean_NB[:, :, None, None]) / std_NB[:, :, None, None]
    image = _resharpened(image, how, generator)
    grey = torch.where(uniform(n, generator) < how.grey_share, uniform(n, generator), 0.0)
    image = image.lerp(image.mean(dim=1, keepdim=True), grey[:, None, None, None])
    image = image * torch.exp(normal(how.contrast) + normal(how.cast, bands))
    image = image + normal(how.brightness) + normal(how.cast, bands)
    amplitude = uniform(n, generator)[:, None, None, None] * how.haze
    veil = torch.rand(n, 1, 4, 4, generator=generator) * amplitude
    image = image + nn.functional.interpolate(veil, image.shape[-2:], mode="bilinear")
    grain = uniform(n, generator)[:, None, None, None] * how.noise
    return image + torch.randn(image.shape, generator=generator) * grain


def _resharpened(image: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    low, high = how.sharpness
    amount = low + (high - low) * uniform(len(image), generator)
    touched = uniform(len(image), generator) < 0.6
    amount = torch.where(touched, amount, 0.0)[:, None, None, None]
    return image.lerp(nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False), amount)


def uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator)
