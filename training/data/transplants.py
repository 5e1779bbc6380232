"""Ruins of another city, set into real pairs where a building stood.

Pairs of cities where little fell hold next to no real rubble. A crop of İslahiye after the event is
set into the image after the event, in the colours of that scene, over a building that stood. The
image before stays: it shows what stood there. Crops of buildings that stand are set in as well, and
are labelled intact, so that a network learns rubble and neither the seam nor the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely import STRtree
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Window
from training.data.islahiye import PostCrop
from training.data.pairs import Building, LabelledPair
from training.seeds import rng

F32 = NDArray[np.float32]

SHARE = 0.35
"""Share of a pair's intact buildings that a crop is tried on."""
RUINS = 0.6
"""Share of those crops that show a ruin."""
SEAM_PX = 4
"""Width of the seam in which a crop fades into the scene."""
SIDES_PX = (24, 110)
"""Shortest and longest side of crops that are set in."""
BLUR_PX = (0.2, 1.0)
"""Deviation of the blur that brings a crop to the sharpness of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Graft:
    """A crop at its place."""

    crop: PostCrop
    window: Window
    """Where it lies, in the pixels of the pair's grid."""
    ground: BaseGeometry
    outline: BaseGeometry
    """Bounds of its building."""


def with_transplants(
    pair: LabelledPair, crops: Sequence[PostCrop], *, seed: int, share: float = SHARE
) -> LabelledPair:
    """The pair with crops over some of its intact buildings.

    Buildings that a crop covers, wholly or in part, are replaced by the building of the crop. A
    place is passed over where another crop or a destroyed building would be touched.

    Args:
        pair: a pair of real images.
        crops: crops of both states, at the GSD of the pair.
        seed: decides places and crops.
        share: share of intact buildings that a crop is tried on.
    """
    draw = rng(seed, len(pair.buildings), len(crops))
    grafts = _placed(pair, _fitting(crops), draw, share)
    if not grafts:
        return pair
    pixels_BYX = pair.post.pixels_BYX.copy()
    mean_B1, spread_B1 = _colours(crops)
    for graft in grafts:
        score_BYX = (graft.crop.pixels_BYX - mean_B1[..., None]) / spread_B1[..., None]
        _set_in(pixels_BYX, pair, graft, score_BYX.astype(np.float32), draw)
    grounds = STRtree([graft.ground for graft in grafts])
    kept = [b for b in pair.buildings if not len(grounds.query(b.geometry, "intersects"))]
    added = [
        Building(id=f"graft-{pair.name}-{n}", geometry=g.outline, destroyed=g.crop.destroyed)
        for n, g in enumerate(grafts)
    ]
    post = replace(pair.post, pixels_BYX=pixels_BYX)
    return replace(pair, post=post, buildings=(*kept, *added))


def _fitting(crops: Sequence[PostCrop]) -> dict[bool, list[PostCrop]]:
    low, high = SIDES_PX
    sized = [c for c in crops if low <= min(c.inside_YX.shape) and max(c.inside_YX.shape) <= high]
    return {state: [c for c in sized if c.destroyed == state] for state in (True, False)}


def _placed(
    pair: LabelledPair,
    crops: dict[bool, list[PostCrop]],
    draw: np.random.Generator,
    share: float,
) -> list[_Graft]:
    """Crops over intact buildings, clear of each other and of what is destroyed."""
    intact = [b for b in pair.buildings if not b.destroyed]
    taken = [b.geometry for b in pair.buildings if b.destroyed]
    grafts: list[_Graft] = []
    for n in draw.permutation(len(intact))[: round(share * len(intact))]:
        choice = crops[bool(draw.random() < RUINS)]
        if not choice:
            continue
        crop = _turned(choice[int(draw.integers(len(choice)))], int(draw.integers(4)))
        graft = _at(pair, crop, intact[n].geometry.centroid.coords[0])
        clear = not any(graft.ground.intersects(other) for other in taken)
        if clear and pair.outline.contains(graft.ground):
            grafts.append(graft)
            taken.append(graft.ground)
    return grafts


def _turned(crop: PostCrop, quarters: int) -> PostCrop:
    return replace(
        crop,
        pixels_BYX=np.ascontiguousarray(np.rot90(crop.pixels_BYX, quarters, (1, 2))),
        inside_YX=np.ascontiguousarray(np.rot90(crop.inside_YX, quarters)),
    )


def _at(pair: LabelledPair, crop: PostCrop, centre: tuple[float, ...]) -> _Graft:
    col, row = ~pair.grid.transform @ (centre[0], centre[1])
    height, width = crop.inside_YX.shape
    window = Window(
        row=round(row - height / 2), col=round(col - width / 2), height=height, width=width
    )
    rows, cols = np.flatnonzero(crop.inside_YX.any(1)), np.flatnonzero(crop.inside_YX.any(0))
    inner = Window(
        row=window.row + int(rows[0]),
        col=window.col + int(cols[0]),
        height=int(rows[-1] - rows[0]) + 1,
        width=int(cols[-1] - cols[0]) + 1,
    )
    ground, outline = (box(*pair.grid.bounds(w)) for w in (window, inner))
    return _Graft(crop=crop, window=window, ground=ground, outline=outline)


def _colours(crops: Sequence[PostCrop]) -> tuple[F32, F32]:
    """Mean and deviation of each band over all crops, as columns."""
    colour_BP = np.concatenate([c.pixels_BYX.reshape(3, -1) for c in crops], axis=1)
    mean_B, std_B = colour_BP.mean(axis=1), np.maximum(colour_BP.std(axis=1), 1.0)
    return mean_B[:, None].astype(np.float32), std_B[:, None].astype(np.float32)


def _set_in(
    pixels_BYX: NDArray[np.uint8],
    pair: LabelledPair,
    graft: _Graft,
    score_BYX: F32,
    draw: np.random.Generator,
) -> None:
    """Blends a crop into the image, in place, in the colours of the scene."""
    rows, cols = graft.window.slices_in(pair.window)
    statistics = pair.post.statistics
    blur_px = float(draw.uniform(*BLUR_PX))
    fade_YX = _fade(graft.window.shape)
    for band in range(3):
        soft_YX = cv2.GaussianBlur(score_BYX[band], (0, 0), blur_px)
        counts_YX = soft_YX * statistics.std_B[band] + statistics.mean_B[band]
        there_YX = pixels_BYX[band, rows, cols]
        mixed_YX = there_YX + fade_YX * (counts_YX - there_YX)
        pixels_BYX[band, rows, cols] = np.clip(np.rint(mixed_YX), 1, 255).astype(np.uint8)


def _fade(shape: tuple[int, int]) -> F32:
    """1 inside, falling to 0 over the seam at the edges."""
    sides = [np.minimum(np.arange(n), np.arange(n)[::-1]) + 1.0 for n in shape]
    ramps = [np.clip(side / SEAM_PX, 0.0, 1.0) for side in sides]
    fade_YX: F32 = np.outer(*ramps).astype(np.float32)
    return fade_YX
