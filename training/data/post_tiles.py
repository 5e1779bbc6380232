"""Tiles of images after the event, with the pixels of buildings whose state is known.

Smart Transfer trains on such tiles. Its own masks call all other ground undamaged. Here labels are
incomplete, so that only pixels of buildings of known state have a label.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import RequestError
from training.data.chips import owner_map
from training.data.islahiye import PostCrop, islahiye_crops
from training.data.pairs import LabelledPair, outlined_by_bounds
from training.data.synthetic import synthetic_pairs
from training.data.turkiye import default_data_dir, turkiye_pairs

SIDE_PX = 128
GSD_M = 0.5
BLOCK_M = 150.0
"""Side of a block of ground, for intervals, metres."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostTiles:
    """N tiles of one domain and the table of its buildings."""

    pixels_NBYX: NDArray[np.uint8]
    state_NYX: NDArray[np.int8]
    """1 where a building is destroyed, 0 where one is not, -1 where nothing is known."""
    owner_NYX: NDArray[np.int32]
    """Row of the building that a pixel is judged for, plus 1; 0 where there is none. Buildings are
    judged inside their axis-aligned bounds where destroyed ones have outlines and others boxes."""
    buildings: pd.DataFrame
    """A row per building: id, destroyed, area_px, block, domain."""

    def __len__(self) -> int:
        return len(self.state_NYX)

    def some(self, tile_N: NDArray[np.int64]) -> "PostTiles":
        """Some of the tiles; the table stays whole."""
        return PostTiles(
            pixels_NBYX=self.pixels_NBYX[tile_N],
            state_NYX=self.state_NYX[tile_N],
            owner_NYX=self.owner_NYX[tile_N],
            buildings=self.buildings,
        )

    @property
    def damaged_share(self) -> float:
        """Share of destroyed buildings."""
        return float(self.buildings["destroyed"].mean())


def joined(parts: Sequence[PostTiles]) -> PostTiles:
    """Tiles of several domains as one.

    Raises:
        RequestError: if there are none.
    """
    if not parts:
        raise RequestError("no domain to read tiles of")
    starts = np.cumsum([0, *(len(p.buildings) for p in parts[:-1])])
    owners = [np.where(p.owner_NYX, p.owner_NYX + s, 0) for p, s in zip(parts, starts, strict=True)]
    return PostTiles(
        pixels_NBYX=np.concatenate([p.pixels_NBYX for p in parts]),
        state_NYX=np.concatenate([p.state_NYX for p in parts]),
        owner_NYX=np.concatenate(owners).astype(np.int32),
        buildings=pd.concat([p.buildings for p in parts], ignore_index=True),
    )


def tiles_of_pair(pair: LabelledPair, domain: str) -> PostTiles:
    """Tiles side by side over a pair's image after the event, those with a known building."""
    state_YX = np.sign(owner_map(pair, pair.buildings)).astype(np.int8)
    state_YX = np.where(state_YX == 0, -1, np.maximum(state_YX, 0)).astype(np.int8)
    judged = outlined_by_bounds(pair)
    owner_YX = np.abs(owner_map(judged, judged.buildings))
    places = [
        (row, col)
        for row in _starts(pair.window.height)
        for col in _starts(pair.window.width)
        if owner_YX[row : row + SIDE_PX, col : col + SIDE_PX].any()
    ]
    cut = [(slice(r, r + SIDE_PX), slice(c, c + SIDE_PX)) for r, c in places]
    shape = (0, SIDE_PX, SIDE_PX)
    return PostTiles(
        pixels_NBYX=np.array([pair.post.pixels_BYX[:, *p] for p in cut], np.uint8).reshape(
            -1, 3, SIDE_PX, SIDE_PX
        ),
        state_NYX=np.array([state_YX[p] for p in cut], np.int8).reshape(-1, *shape[1:]),
        owner_NYX=np.array([owner_YX[p] for p in cut], np.int32).reshape(-1, *shape[1:]),
        buildings=_table(judged, domain),
    )


def tiles_of_crops(crops: Iterable[PostCrop], domain: str) -> PostTiles:
    """A tile per crop, the building in its middle; ground beyond the crop has the count 0."""
    pixels, states, owners, rows = [], [], [], []
    for number, crop in enumerate(crops, start=1):
        small = crop.resized(GSD_M)
        inside_YX = _centred(small.inside_YX[None], 0)[0].astype(bool)
        pixels.append(_centred(small.pixels_BYX, 0))
        states.append(np.where(inside_YX, int(crop.destroyed), -1).astype(np.int8))
        owners.append(np.where(inside_YX, number, 0).astype(np.int32))
        area = int(crop.inside_YX.sum())
        rows.append((crop.id, crop.destroyed, area, f"{domain}-{crop.block}", domain))
    columns = ["id", "destroyed", "area_px", "block", "domain"]
    return PostTiles(
        pixels_NBYX=np.stack(pixels),
        state_NYX=np.stack(states),
        owner_NYX=np.stack(owners),
        buildings=pd.DataFrame(rows, columns=columns),
    )


def load_domain(name: str) -> PostTiles:
    """The tiles of a domain: a city, or generated towns.

    Raises:
        RequestError: if there is no such domain, or its data are missing.
    """
    if name not in DOMAINS:
        raise RequestError(
            "unknown domain", "domains", expected=f"one of {', '.join(DOMAINS)}", got=repr(name)
        )
    return DOMAINS[name]()


def _city(name: str) -> PostTiles:
    pairs = turkiye_pairs(default_data_dir())
    return joined([tiles_of_pair(p, name) for p in pairs if p.region == name])


def _islahiye() -> PostTiles:
    return tiles_of_crops(islahiye_crops(default_data_dir()), "islahiye")


def _synthetic() -> PostTiles:
    return joined([tiles_of_pair(pair, "synthetic") for pair in synthetic_pairs((101, 102))])


PAIR_CITIES = ("adiyaman", "turkoglu-hatay")
"""Regions of the Türkiye pairs; the second is two small scenes with three destroyed buildings."""
DOMAINS: dict[str, Callable[[], PostTiles]] = {
    **{name: partial(_city, name) for name in PAIR_CITIES},
    "islahiye": _islahiye,
    "synthetic": _synthetic,
}
"""A domain is a city: parts of one city share its houses, its images and its shaking."""
POSITION = {
    "adiyaman": (435.0, 4179.0),
    "turkoglu-hatay": (277.0, 4076.0),
    "islahiye": (289.0, 4101.0),
    "synthetic": (1e6, 1e6),
}
"""Middle of each domain in UTM zone 37, kilometres; generated towns are far from everything."""


def _starts(length: int) -> list[int]:
    """First pixels of tiles over a side; the last tile ends with the image."""
    if length < SIDE_PX:
        return []
    return sorted({*range(0, length - SIDE_PX + 1, SIDE_PX), length - SIDE_PX})


def _table(pair: LabelledPair, domain: str) -> pd.DataFrame:
    centres = [b.geometry.centroid for b in pair.buildings]
    return pd.DataFrame(
        {
            "id": [f"{pair.name}/{b.id}" for b in pair.buildings],
            "destroyed": [b.destroyed for b in pair.buildings],
            "area_px": [int(b.geometry.area / pair.grid.gsd_m**2) for b in pair.buildings],
            "block": [
                f"{pair.region}-{int(c.x // BLOCK_M)}-{int(c.y // BLOCK_M)}" for c in centres
            ],
            "domain": domain,
        }
    )


def _centred(pixels_BYX: NDArray[np.generic], fill: int) -> NDArray[np.generic]:
    """The middle of an array on a tile."""
    bands, height, width = pixels_BYX.shape
    out = np.full((bands, SIDE_PX, SIDE_PX), fill, pixels_BYX.dtype)
    kept = [min(s, SIDE_PX) for s in (height, width)]
    source = [(s - k) // 2 for s, k in zip((height, width), kept, strict=True)]
    target = [(SIDE_PX - k) // 2 for k in kept]
    out[:, target[0] : target[0] + kept[0], target[1] : target[1] + kept[1]] = pixels_BYX[
        :, source[0] : source[0] + kept[0], source[1] : source[1] + kept[1]
    ]
    return out
