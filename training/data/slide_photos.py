"""Real RGB chips with landslide masks, and scenes that overlap kept on one side of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quakestream.errors import RequestError

U8 = NDArray[np.uint8]
SAME_GROUND = 25
"""Matches that agree on one shift, from which two scenes show the same ground."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    """One chip."""

    name: str
    pixels_BYX: U8
    mask_YX: U8
    """1 on landslides."""


def read_photos(folder: Path) -> list[Photo]:
    """Chips in `images/` with masks of the same name in `masks/`.

    Raises:
        RequestError: if there are none, or a mask is missing or of another size.
    """
    photos = []
    for path in sorted((folder / "images").glob("*")):
        mask_path = folder / "masks" / f"{path.stem}.png"
        if not mask_path.exists():
            raise RequestError("is missing", str(mask_path))
        with Image.open(path) as image, Image.open(mask_path) as mask:
            pixels_YXB, mask_YX = np.asarray(image.convert("RGB")), np.asarray(mask)
        if mask_YX.ndim == 3:
            mask_YX = mask_YX.max(axis=2)
        if mask_YX.shape != pixels_YXB.shape[:2]:
            raise RequestError(
                "mask and image differ in shape",
                str(mask_path),
                expected=str(pixels_YXB.shape[:2]),
                got=str(mask_YX.shape),
            )
        pixels_BYX = np.ascontiguousarray(np.moveaxis(pixels_YXB, -1, 0))
        slid_YX = (mask_YX > 0).astype(np.uint8)
        photos.append(Photo(name=path.stem, pixels_BYX=pixels_BYX, mask_YX=slid_YX))
    if not photos:
        raise RequestError("no images", str(folder / "images"))
    return photos


def groups_of(photos: Sequence[Photo]) -> list[list[Photo]]:
    """Scenes that share ground, together. A model must not train on one and be judged on another.

    Two scenes share ground where many corner features match and agree on one shift.
    """
    finder = cv2.ORB_create(nfeatures=1500)  # type: ignore[attr-defined]
    found = [finder.detectAndCompute(np.moveaxis(p.pixels_BYX, 0, -1), None) for p in photos]
    parent = list(range(len(photos)))
    for a in range(len(photos)):
        for b in range(a + 1, len(photos)):
            if _agreeing(found[a], found[b]) >= SAME_GROUND:
                low, high = sorted((_root(parent, a), _root(parent, b)))
                parent[high] = low
    groups: dict[int, list[Photo]] = {}
    for number, photo in enumerate(photos):
        groups.setdefault(_root(parent, number), []).append(photo)
    return list(groups.values())


def halves(photos: Sequence[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Two halves of about as much landslide, with groups of overlapping scenes kept whole."""
    groups = sorted(groups_of(photos), key=lambda g: -sum(int(p.mask_YX.sum()) for p in g))
    sides: tuple[list[Photo], list[Photo]] = ([], [])
    for group in groups:
        slid = [sum(int(p.mask_YX.sum()) for p in side) for side in sides]
        sides[int(slid[1] < slid[0])].extend(group)
    first, second = (sorted(side, key=lambda p: p.name) for side in sides)
    return first, second


def _agreeing(first: tuple, second: tuple) -> int:  # type: ignore[type-arg]
    """Number of feature matches of two scenes that agree on one shift within 6 px."""
    (points_a, descriptors_a), (points_b, descriptors_b) = first, second
    if descriptors_a is None or descriptors_b is None:
        return 0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors_a, descriptors_b)
    near = [m for m in matches if m.distance < 40]
    if not near:
        return 0
    shift_P2 = np.array(
        [np.subtract(points_b[m.trainIdx].pt, points_a[m.queryIdx].pt) for m in near]
    )
    apart = np.abs(shift_P2[:, None] - shift_P2[None]).max(axis=-1)
    return int((apart < 6).sum(axis=1).max())


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        node = parent[node]
    return node
