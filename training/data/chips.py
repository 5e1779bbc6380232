"""Chips around labelled buildings of the training side of a split, as raw counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.features import rasterize
from torch import Tensor

from quakestream.errors import RequestError
from training.data.pairs import Building, LabelledPair, pixels_inside
from training.data.splits import GroundSplit, blanked, buildings_on
from training.seeds import rng


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawChips:
    """N chips before augmentation, with margin for it."""

    pre_NBYX: Tensor
    """uint8 sensor counts."""
    post_NBYX: Tensor
    owner_NYX: Tensor
    """float32: k inside the k-th building if destroyed, -k if intact; 0 where unknown."""
    statistics_N4B: Tensor
    """float32: pre mean, pre deviation, post mean and post deviation of the chip's scenes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ground:
    """The training side of one pair, padded so that every chip can be cut."""

    pre_BYX: NDArray[np.uint8]
    post_BYX: NDArray[np.uint8]
    owner_YX: NDArray[np.int32]
    statistics_4B: NDArray[np.float32]
    centres_N2: NDArray[np.int64]
    """Row and column of each building's centre, padding included."""
    destroyed_N: NDArray[np.bool_]


class ChipSource:
    """Draws chips: half around destroyed buildings, half around intact ones.

    A scene is drawn in proportion to the square root of its number of buildings, so that small
    scenes of other towns count for more than their share.

    Raises:
        RequestError: if no destroyed or no intact building is on the training side.
    """

    def __init__(
        self,
        pairs: Sequence[LabelledPair],
        split: GroundSplit,
        *,
        raw_px: int,
        jitter_px: int,
        buffer_m: float,
        seed: int,
    ) -> None:
        self._raw_px = raw_px
        self._jitter_px = jitter_px
        self._seed = seed
        margin = raw_px // 2 + jitter_px
        self._grounds = [_ground(pair, split, margin, buffer_m) for pair in pairs]
        self._shares = {flag: self._scene_shares(flag) for flag in (True, False)}

    def counts(self) -> tuple[int, int]:
        """Number of destroyed and of intact training buildings."""
        destroyed = sum(int(g.destroyed_N.sum()) for g in self._grounds)
        return destroyed, sum(len(g.destroyed_N) for g in self._grounds) - destroyed

    def draw(self, step: int, places: range, *, of: int) -> RawChips:
        """Chips `places` of the `of` chips of a step; a step always gives the same chips."""
        picks = [self._pick(rng(self._seed, step, n), destroyed=n < of // 2) for n in places]
        cuts = [self._cut(ground, row, col) for ground, row, col in picks]
        return RawChips(
            pre_NBYX=torch.from_numpy(np.stack([c[0] for c in cuts])),
            post_NBYX=torch.from_numpy(np.stack([c[1] for c in cuts])),
            owner_NYX=torch.from_numpy(np.stack([c[2] for c in cuts]).astype(np.float32)),
            statistics_N4B=torch.from_numpy(np.stack([g.statistics_4B for g, _, _ in picks])),
        )

    def _scene_shares(self, destroyed: bool) -> NDArray[np.float64]:
        share_G = np.sqrt([(g.destroyed_N == destroyed).sum() for g in self._grounds])
        if not share_G.sum():
            state = "destroyed" if destroyed else "intact"
            raise RequestError(
                f"no {state} building is on the training side",
                "training data",
                remedy="hold out less",
            )
        return np.asarray(share_G / share_G.sum(), np.float64)

    def _pick(self, draw: np.random.Generator, *, destroyed: bool) -> tuple[_Ground, int, int]:
        ground = self._grounds[draw.choice(len(self._grounds), p=self._shares[destroyed])]
        chosen = draw.choice(np.flatnonzero(ground.destroyed_N == destroyed))
        jitter_2 = draw.integers(-self._jitter_px, self._jitter_px + 1, 2)
        row, col = ground.centres_N2[chosen] + jitter_2
        return ground, int(row), int(col)

    def _cut(
        self, ground: _Ground, row: int, col: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]]:
        top, left = row - self._raw_px // 2, col - self._raw_px // 2
        place = (slice(top, top + self._raw_px), slice(left, left + self._raw_px))
        return ground.pre_BYX[:, *place], ground.post_BYX[:, *place], ground.owner_YX[place]


def _ground(pair: LabelledPair, split: GroundSplit, margin: int, buffer_m: float) -> _Ground:
    held = split.held_ground(pair)
    held_YX = pixels_inside(held, pair.grid, pair.window) if not held.is_empty else None
    images = [image.pixels_BYX for image in (pair.pre, pair.post)]
    if held_YX is not None:
        images = [blanked(pixels_BYX, held_YX) for pixels_BYX in images]
    buildings = buildings_on("train", pair, held, buffer_m=buffer_m)
    owner_YX = owner_map(pair, buildings)
    around = ((0, 0), (margin, margin), (margin, margin))
    statistics = (pair.pre.statistics, pair.post.statistics)
    return _Ground(
        pre_BYX=np.pad(images[0], around),
        post_BYX=np.pad(images[1], around),
        owner_YX=np.pad(owner_YX, margin),
        statistics_4B=np.array([v for s in statistics for v in (s.mean_B, s.std_B)], np.float32),
        centres_N2=_centres(pair, buildings) + margin,
        destroyed_N=np.array([b.destroyed for b in buildings], bool),
    )


def owner_map(pair: LabelledPair, buildings: Sequence[Building]) -> NDArray[np.int32]:
    """±(index + 1) of the building that a pixel's centre lies in, + if destroyed; 0 if unknown."""
    if not buildings:
        return np.zeros(pair.window.shape, np.int32)
    owner_YX: NDArray[np.int32] = rasterize(
        [(b.geometry, i if b.destroyed else -i) for i, b in enumerate(buildings, start=1)],
        out_shape=pair.window.shape,
        transform=pair.grid.window_transform(pair.window),
        dtype=np.int32,
    )
    return owner_YX


def _centres(pair: LabelledPair, buildings: Sequence[Building]) -> NDArray[np.int64]:
    to_pixel = ~pair.grid.window_transform(pair.window)
    points = [to_pixel @ (b.geometry.centroid.x, b.geometry.centroid.y) for b in buildings]
    return np.array([(int(row), int(col)) for col, row in points], np.int64).reshape(-1, 2)
