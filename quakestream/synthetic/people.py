"""Vehicles, tents, containers and tarpaulins: change that is not damage."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.synthetic.settings import stream
from quakestream.synthetic.surface import Boxes
from quakestream.synthetic.town import FIELD, PARK, YARD, Town, TownBuildings
from quakestream.synthetic.world import SyntheticWorld, quads

F64 = NDArray[np.float64]

_PAINT = np.array(
    [
        [0.80, 0.80, 0.80],
        [0.70, 0.71, 0.73],
        [0.45, 0.46, 0.48],
        [0.12, 0.12, 0.13],
        [0.50, 0.10, 0.09],
        [0.12, 0.18, 0.42],
    ]
)
_CANVAS = np.array([[0.82, 0.82, 0.80], [0.75, 0.72, 0.62], [0.20, 0.34, 0.60], [0.60, 0.30, 0.16]])
_SHEET = np.array([[0.18, 0.30, 0.52], [0.30, 0.42, 0.34], [0.62, 0.62, 0.62], [0.75, 0.35, 0.14]])


def vehicles(seed: int, scene_id: str, town: Town, per_100_m: float) -> Boxes:
    """Parked and moving vehicles along the streets, different in every scene."""
    rng = stream(seed, f"vehicles/{scene_id}")
    rings = shapely.get_exterior_ring(shapely.buffer(np.array(town.blocks, dtype=object), 1.6))
    length = shapely.length(rings)
    busy = np.where(town.kind == FIELD, 0.08, 1.0)
    owner = np.repeat(np.arange(len(rings)), rng.poisson(length / 100.0 * per_100_m * busy))
    count = len(owner)
    along = rng.random(count) * length[owner]
    here = shapely.line_interpolate_point(rings[owner], along)
    there = shapely.line_interpolate_point(rings[owner], along + 1.0)
    start = np.column_stack([shapely.get_x(here), shapely.get_y(here)])
    ahead = np.column_stack([shapely.get_x(there), shapely.get_y(there)]) - start
    lorry = rng.random(count) < 0.08
    half = np.where(lorry[:, None], [[4.2, 1.25]], [[2.15, 0.9]])
    pick = rng.choice(len(_PAINT), count, p=[0.35, 0.2, 0.15, 0.15, 0.08, 0.07])
    return Boxes(
        corners_NE2=quads(start, half, np.arctan2(ahead[:, 1], ahead[:, 0])),
        colour_N3=_PAINT[pick],
        height_m=np.where(lorry, 3.2, 1.5),
    )


def camps(seed: int, town: Town, world: SyntheticWorld) -> Boxes:
    """Rows of tents and containers on open ground after the event."""
    rng = stream(seed, "camps")
    open_ground = [
        block
        for block, kind in zip(town.blocks, town.kind, strict=True)
        if kind in (PARK, YARD, FIELD)
        and max(abs(block.centroid.x) / world.width_m, abs(block.centroid.y) / world.height_m) < 0.5
    ]
    parts: list[Boxes] = []
    for block in open_ground:
        if rng.random() < 0.4:
            parts.append(_rows(rng, block, town.frame_rad))
    return concatenate(parts)


def _rows(rng: np.random.Generator, block: Any, frame_rad: float) -> Boxes:
    """One camp: a lattice of equal shelters on a part of a block."""
    tent = rng.random() < 0.65
    half = np.array([3.0, 2.0]) if tent else np.array([3.5, 1.3])
    step = 2 * half + rng.uniform(1.2, 3.5, 2)
    rows, columns = rng.integers(2, 6), rng.integers(3, 10)
    row, column = np.divmod(np.arange(rows * columns), columns)
    local = np.column_stack([column - columns / 2, row - rows / 2]) * step
    cos, sin = np.cos(frame_rad), np.sin(frame_rad)
    centre = np.column_stack(
        [local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos]
    ) + np.array([shapely.get_x(shapely.centroid(block)), shapely.get_y(shapely.centroid(block))])
    inner = shapely.buffer(block, -4.0)
    centre = centre[shapely.contains_xy(inner, centre[:, 0], centre[:, 1])]
    count = len(centre)
    palette = _CANVAS if tent else np.vstack([_PAINT[:3], _SHEET[:1]])
    colour = palette[rng.integers(0, len(palette))]
    return Boxes(
        corners_NE2=quads(centre, np.tile(half, (count, 1)), np.full(count, frame_rad)),
        colour_N3=np.clip(colour * rng.normal(1.0, 0.05, (count, 1)), 0.05, 0.9),
        height_m=np.full(count, 2.3 if tent else 2.6),
    )


def tarpaulins(
    seed: int, buildings: TownBuildings, whole: NDArray[np.bool_], share: float
) -> Boxes:
    """Sheets on parts of intact roofs: change without destruction."""
    rng = stream(seed, "tarpaulins")
    owner = np.flatnonzero(whole & (rng.random(len(buildings)) < share))
    count = len(owner)
    half = buildings.half_N2[owner] * rng.uniform(0.3, 0.8, (count, 2))
    place = rng.uniform(-0.2, 0.2, (count, 2)) * buildings.half_N2[owner]
    return Boxes(
        corners_NE2=quads(buildings.centre_N2[owner] + place, half, buildings.angle_rad[owner]),
        colour_N3=_SHEET[rng.integers(0, len(_SHEET), count)],
        height_m=np.full(count, 0.1),
    )


def concatenate(parts: list[Boxes]) -> Boxes:
    """All boxes in one value; without parts, no boxes."""
    if not parts:
        nothing = np.zeros((0, 4, 2)), np.zeros((0, 3)), np.zeros(0)
        return Boxes(corners_NE2=nothing[0], colour_N3=nothing[1], height_m=nothing[2])
    return Boxes(
        corners_NE2=np.concatenate([p.corners_NE2 for p in parts]),
        colour_N3=np.concatenate([p.colour_N3 for p in parts]),
        height_m=np.concatenate([p.height_m for p in parts]),
    )
