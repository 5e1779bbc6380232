"""Training crops of landslide chips: turns, flips, zoom, and another light for RGB counts."""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import SlideView

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def training_crop(
    image_BYX: F32, mask_YX: U8, view: SlideView, rng: np.random.Generator
) -> tuple[F32, U8]:
    """One augmented crop, a function of the chip and of the generator.

    Flips and quarter turns suit chips whose bands have no direction. Slope has none; a chip with
    the aspect as a band must not be turned.
    """
    image_BYX, mask_YX = _zoomed_crop(image_BYX, mask_YX, view, rng)
    turns, flip_y, flip_x = int(rng.integers(4)), rng.random() < 0.5, rng.random() < 0.5
    image_BYX, mask_YX = np.rot90(image_BYX, turns, (1, 2)), np.rot90(mask_YX, turns)
    if flip_y:
        image_BYX, mask_YX = image_BYX[:, ::-1], mask_YX[::-1]
    if flip_x:
        image_BYX, mask_YX = image_BYX[:, :, ::-1], mask_YX[:, ::-1]
    if view.recolour:
        image_BYX = recoloured(image_BYX, view.recolour, rng)
    return np.ascontiguousarray(image_BYX), np.ascontiguousarray(mask_YX)


def recoloured(image_BYX: F32, strength: float, rng: np.random.Generator) -> F32:
    """Counts 0..255 under another light and another sensor."""
    gain = np.exp(strength * rng.normal(0.0, 0.25))
    cast_B = np.exp(strength * rng.normal(0.0, 0.10, len(image_BYX)))
    gamma = np.exp(strength * rng.normal(0.0, 0.18))
    haze = strength * max(rng.normal(0.0, 18.0), 0.0)
    scaled = np.clip(image_BYX / 255.0, 0.0, 1.0) ** gamma * gain
    counts = scaled * cast_B[:, None, None] * (255.0 - haze) + haze
    if rng.random() < 0.3 * strength:
        counts = np.stack([cv2.GaussianBlur(b, (0, 0), rng.uniform(0.4, 1.1)) for b in counts])
    counts = counts + rng.normal(0.0, 3.0 * strength, counts.shape)
    return np.asarray(np.clip(counts, 0.0, 255.0), np.float32)


def coarsened(image_NBYX: F32, factor: int) -> F32:
    """Values averaged over squares of `factor` pixels and repeated: another GSD, same size."""
    if factor == 1:
        return image_NBYX
    *_, height, width = image_NBYX.shape
    high, wide = height // factor, width // factor
    square = image_NBYX[..., : high * factor, : wide * factor]
    mean = square.reshape(*image_NBYX.shape[:2], high, factor, wide, factor).mean(axis=(3, 5))
    large = mean.repeat(factor, axis=2).repeat(factor, axis=3)
    edge = ((0, 0), (0, 0), (0, height - high * factor), (0, width - wide * factor))
    return np.asarray(np.pad(large, edge, mode="edge"), np.float32)


def _zoomed_crop(
    image_BYX: F32, mask_YX: U8, view: SlideView, rng: np.random.Generator
) -> tuple[F32, U8]:
    """A square of the chip, resampled to `crop_px`; the whole chip if it has that side."""
    side, (height, width) = view.crop_px, mask_YX.shape
    if (height, width) == (side, side) and view.zoom == 1.0:
        return image_BYX, mask_YX
    factor = np.exp(rng.uniform(-1.0, 1.0) * np.log(view.zoom))
    cut = int(min(round(side * factor), height, width))
    top, left = int(rng.integers(height - cut + 1)), int(rng.integers(width - cut + 1))
    part = image_BYX[:, top : top + cut, left : left + cut]
    mask = mask_YX[top : top + cut, left : left + cut]
    if cut == side:
        return part, mask
    method = cv2.INTER_AREA if cut > side else cv2.INTER_LINEAR
    resized = np.stack([cv2.resize(b, (side, side), interpolation=method) for b in part])
    share = cv2.resize(mask.astype(np.float32), (side, side), interpolation=method)
    return resized.astype(np.float32), (share >= 0.5).astype(np.uint8)
