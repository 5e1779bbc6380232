"""Square crops with the buildings that they show whole, to train and to judge outlines on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quakestream.domain import Window
from quakestream.errors import RequestError
from training.data.pairs import Image, LabelledPair, pixels_inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutlineCrops:
    """Crops, and the objects in them: each object is in one crop."""

    pixels_NBYX: Tensor
    """Counts, uint8."""
    image_N: Tensor
    """Crop of each object."""
    mask_NYX: Tensor
    """True inside each object."""

    def __len__(self) -> int:
        return len(self.image_N)

    def box_N4(self) -> Tensor:
        """Left, top, right, bottom of each object, pixels; right and bottom are inside it."""
        columns, rows = self.mask_NYX.any(dim=1), self.mask_NYX.any(dim=2)
        ends = []
        for line in (columns, rows):
            first = line.float().argmax(dim=1)
            last = line.shape[1] - 1 - line.flip(1).float().argmax(dim=1)
            ends.append((first, last))
        (left, right), (top, bottom) = ends
        return torch.stack([left, top, right, bottom], dim=1).float()

    def of_images(self, chosen: Tensor) -> "OutlineCrops":
        """The crops of these numbers, with their objects."""
        place = torch.full((len(self.pixels_NBYX),), -1)
        place[chosen] = torch.arange(len(chosen))
        own = place[self.image_N] >= 0
        return OutlineCrops(
            pixels_NBYX=self.pixels_NBYX[chosen],
            image_N=place[self.image_N][own],
            mask_NYX=self.mask_NYX[own],
        )


def crops_of(
    pairs: Sequence[LabelledPair], side: int, *, most: int = 4, before: bool = True
) -> OutlineCrops:
    """Crops of a regular grid over pairs of images, without those that show no building whole.

    Args:
        pairs: images with footprints.
        side: side of a crop, pixels.
        most: objects of a crop; those nearest to its middle are taken.
        before: crops of the image before the event, else of the one after it.

    Raises:
        RequestError: if no crop shows a building whole.
    """
    pixels: list[NDArray[np.uint8]] = []
    image: list[int] = []
    masks: list[NDArray[np.bool_]] = []
    for pair in pairs:
        source = pair.pre if before else pair.post
        for window in _windows(source, side):
            found = _objects(pair, window, most)
            if found:
                image += [len(pixels)] * len(found)
                pixels.append(source.part(window).pixels_BYX)
                masks += found
    if not pixels:
        raise RequestError("no building lies whole in a crop", f"{len(pairs)} pairs")
    return OutlineCrops(
        pixels_NBYX=torch.from_numpy(np.stack(pixels)),
        image_N=torch.tensor(image),
        mask_NYX=torch.from_numpy(np.stack(masks)),
    )


def _windows(image: Image, side: int) -> list[Window]:
    whole = image.window
    return [
        Window(row=row, col=col, height=side, width=side)
        for row in range(whole.row, whole.row_end - side + 1, side)
        for col in range(whole.col, whole.col_end - side + 1, side)
    ]


def _objects(pair: LabelledPair, window: Window, most: int) -> list[NDArray[np.bool_]]:
    west, south, east, north = pair.grid.bounds(window)
    middle_x, middle_y = (west + east) / 2, (south + north) / 2
    whole = []
    for building in pair.buildings:
        a, b, c, d = building.geometry.bounds
        if a >= west and b >= south and c <= east and d <= north:
            away = max(abs((a + c) / 2 - middle_x), abs((b + d) / 2 - middle_y))
            whole.append((away, building.id, building.geometry))
    nearest = sorted(whole, key=lambda w: w[:2])[:most]
    masks = [pixels_inside(geometry, pair.grid, window) for *_, geometry in nearest]
    return [mask for mask in masks if mask.sum() >= 16]
