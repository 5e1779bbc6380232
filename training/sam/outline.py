"""Outlines on a georeferenced image from points and boxes."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import Point, Polygon, shape
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Window
from training.data.pairs import Image
from training.networks.sam import PIXEL_MEAN, Sam
from training.networks.sam_prompts import POSITIVE, Prompts
from training.sam.tune import enlarged

SIMPLIFIED_PX = 0.5


def outlines(
    network: Sam, image: Image, prompts: Sequence[BaseGeometry]
) -> list[tuple[Polygon, float] | None]:
    """The outline of each prompt in map coordinates, with the IoU that the network predicts.

    Windows of the network's side lie half a side apart, and each prompt goes to the window whose
    middle is nearest, so that a window is encoded once for all its prompts.

    Args:
        network: in evaluation mode.
        image: red, green and blue.
        prompts: points, or shapes whose bounds are boxes, in the CRS of the image.

    Returns:
        None for a prompt that lies off the image or got an empty mask.
    """
    side = network.image_px
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        col, row = ~image.grid.transform @ (prompt.centroid.x, prompt.centroid.y)
        row, col = row - image.window.row, col - image.window.col
        if 0 <= row < image.window.height and 0 <= col < image.window.width:
            corner = [round(place / (side / 2) - 1) * (side // 2) for place in (row, col)]
            groups[corner[0], corner[1]].append(number)
    found: list[tuple[Polygon, float] | None] = [None] * len(prompts)
    for (row, col), numbers in groups.items():
        window = Window(
            row=image.window.row + row, col=image.window.col + col, height=side, width=side
        )
        for number, outline in zip(
            numbers, _in_window(network, image, window, [prompts[n] for n in numbers]), strict=True
        ):
            found[number] = outline
    return found


def polygon_of(mask_YX: NDArray[np.bool_]) -> Polygon | None:
    """The largest part of a mask without its holes, in pixels; None for an empty mask."""
    parts = [shape(s) for s, _ in shapes(mask_YX.astype(np.uint8), mask=mask_YX)]
    if not parts:
        return None
    largest = max(parts, key=lambda p: float(p.area))
    assert isinstance(largest, Polygon)
    whole = Polygon(largest.exterior)
    simple = whole.simplify(SIMPLIFIED_PX)
    return simple if isinstance(simple, Polygon) and simple.is_valid else whole


@torch.inference_mode()
def _in_window(
    network: Sam, image: Image, window: Window, prompts: Sequence[BaseGeometry]
) -> list[tuple[Polygon, float] | None]:
    embedding = network.embed(torch.from_numpy(_pixels(image, window))[None])
    to_map = image.grid.window_transform(window)
    found: list[tuple[Polygon, float] | None] = []
    for prompt in prompts:
        logits, iou = network.masks(embedding, _prompt(prompt, ~to_map))
        mask_YX = (enlarged(logits[:, :1], network.image_px)[0, 0] > 0).numpy()
        polygon = polygon_of(mask_YX)
        if polygon is None:
            found.append(None)
            continue
        ring = [to_map @ (x, y) for x, y in polygon.exterior.coords]
        found.append((Polygon(ring), float(iou[0, 0])))
    return found


def _prompt(geometry: BaseGeometry, to_pixel: object) -> Prompts:
    """Pixel coordinates count from the middle of the first pixel, as the prompts do."""
    west, south, east, north = geometry.bounds
    (left, top), (right, bottom) = (
        to_pixel @ corner  # type: ignore[operator]
        for corner in ((west, north), (east, south))
    )
    if isinstance(geometry, Point):
        point = torch.tensor([[[left - 0.5, top - 0.5]]], dtype=torch.float32)
        return Prompts(point_N2=point, kind_N=torch.tensor([[POSITIVE]]))
    box = [left - 0.5, top - 0.5, right - 0.5, bottom - 0.5]
    return Prompts(box_N4=torch.tensor([box], dtype=torch.float32))


def _pixels(image: Image, window: Window) -> NDArray[np.float32]:
    """Counts of a window; ground off the image has the mean colour."""
    whole = image.window
    top, left = max(window.row, whole.row), max(window.col, whole.col)
    bottom, right = min(window.row_end, whole.row_end), min(window.col_end, whole.col_end)
    counts_BYX = np.empty((3, window.height, window.width), np.float32)
    counts_BYX[:] = np.array(PIXEL_MEAN, np.float32)[:, None, None]
    part = image.part(Window(row=top, col=left, height=bottom - top, width=right - left))
    rows = slice(top - window.row, bottom - window.row)
    cols = slice(left - window.col, right - window.col)
    counts_BYX[:, rows, cols] = part.pixels_BYX
    return counts_BYX
