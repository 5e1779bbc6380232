"""The plan of a town: blocks, lots, buildings and trees, as arrays in world metres."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.synthetic.settings import MARGIN_M, SizePreset, Traits, stream
from quakestream.synthetic.world import SyntheticWorld

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HOUSES, APARTMENTS, INDUSTRY, PARK, YARD, FIELD = range(6)
"""Kinds of blocks. A yard is open ground with clutter, which looks like rubble."""
FLAT, GABLE, HIP = range(3)
"""Roof forms."""

_TILE = ((0.42, 0.19, 0.13), (0.47, 0.26, 0.18), (0.36, 0.20, 0.15), (0.50, 0.20, 0.17))
_CONCRETE = ((0.46, 0.45, 0.42), (0.55, 0.53, 0.49), (0.36, 0.35, 0.34), (0.62, 0.58, 0.52))
_METAL = ((0.52, 0.56, 0.60), (0.36, 0.42, 0.48), (0.66, 0.66, 0.66), (0.40, 0.26, 0.20))
_COATED = ((0.24, 0.23, 0.23), (0.44, 0.32, 0.26), (0.70, 0.68, 0.64), (0.33, 0.38, 0.34))
ROOF_COLOURS = np.array(_TILE + _CONCRETE + _METAL + _COATED)
"""Reflectances (red, green, blue) of four tiles, concretes, metals and coatings."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TownBuildings:
    """Buildings, one row each, in one order everywhere."""

    polygons: NDArray[np.object_]
    """Outlines in world metres."""
    centre_N2: F64
    angle_rad: F64
    """Direction of the ridge, counter-clockwise from east."""
    half_N2: F64
    """Half length along the ridge and half width across, metres."""
    height_m: F64
    roof: I64
    """FLAT, GABLE or HIP."""
    colour_N3: F64
    """Roof reflectance."""

    def __len__(self) -> int:
        return len(self.height_m)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Town:
    """Blocks between streets, with their buildings and trees."""

    blocks: list[Any]
    kind: I64
    """Kind of each block."""
    buildings: TownBuildings
    trees_N3: F64
    """Trees: x, y, crown radius in metres."""
    frame_rad: float
    """Direction of the streets."""

    @classmethod
    def random(cls, seed: int, preset: SizePreset, world: SyntheticWorld) -> "Town":
        rng = stream(seed, "town")
        bend = _Bend.random(rng)
        side_m = float(np.hypot(world.width_m, world.height_m)) / 2 + MARGIN_M
        rects_N4 = _subdivided(rng, side_m)
        kind = _kinds(rng, rects_N4, bend, world, preset.rural)
        blocks = list(np.asarray(shapely.polygons(bend(_boxes(rects_N4))), dtype=object))
        buildings = _buildings(rng, rects_N4, kind, bend, world, preset.variety.traits(seed))
        trees = _trees(rng, rects_N4, kind, bend)
        return cls(
            blocks=blocks, kind=kind, buildings=buildings, trees_N3=trees, frame_rad=bend.turn_rad
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bend:
    """Turns the straight frame of the plan into streets that curve a little."""

    turn_rad: float
    wave_m: F64
    phase: F64
    amplitude_m: float = 9.0

    @classmethod
    def random(cls, rng: np.random.Generator) -> "_Bend":
        return cls(
            turn_rad=float(rng.uniform(-0.6, 0.6)),
            wave_m=rng.uniform(380.0, 800.0, 2),
            phase=rng.uniform(0, 2 * np.pi, 2),
        )

    def __call__(self, points: F64) -> F64:
        x, y = points[..., 0], points[..., 1]
        x2 = x + self.amplitude_m * np.sin(2 * np.pi * y / self.wave_m[0] + self.phase[0])
        y2 = y + self.amplitude_m * np.sin(2 * np.pi * x / self.wave_m[1] + self.phase[1])
        cos, sin = np.cos(self.turn_rad), np.sin(self.turn_rad)
        return np.stack([x2 * cos - y2 * sin, x2 * sin + y2 * cos], axis=-1)


def _boxes(rects_N4: F64) -> F64:
    """Outlines of rectangles (x0, y0, x1, y1), with points along the sides that can bend."""
    corners = rects_N4[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    following = np.roll(corners, -1, axis=1)
    share = np.linspace(0.0, 1.0, 4, endpoint=False)[None, None, :, None]
    along = corners[:, :, None, :] + share * (following - corners)[:, :, None, :]
    return along.reshape(len(rects_N4), -1, 2)


def _subdivided(rng: np.random.Generator, side_m: float) -> F64:
    """Blocks of a square that is split repeatedly, with streets in between."""
    todo = [(-side_m, -side_m, side_m, side_m, 0)]
    blocks: list[tuple[float, float, float, float]] = []
    while todo:
        x0, y0, x1, y1, depth = todo.pop()
        width, height = x1 - x0, y1 - y0
        if max(width, height) < rng.uniform(75.0, 130.0):
            blocks.append((x0, y0, x1, y1))
            continue
        street_m = max(14.0 - 1.2 * depth, 6.5)
        cut = rng.uniform(0.4, 0.6)
        if width > height:
            middle = x0 + cut * width
            parts = [(x0, y0, middle - street_m / 2, y1), (middle + street_m / 2, y0, x1, y1)]
        else:
            middle = y0 + cut * height
            parts = [(x0, y0, x1, middle - street_m / 2), (x0, middle + street_m / 2, x1, y1)]
        todo.extend((*part, depth + 1) for part in parts)
    return np.array(blocks)


def _kinds(
    rng: np.random.Generator, rects_N4: F64, bend: _Bend, world: SyntheticWorld, rural: float
) -> I64:
    """Kinds of blocks: fields at the rim, flats near the centre, some parks and yards."""
    centre_N2 = bend((rects_N4[:, :2] + rects_N4[:, 2:]) / 2)
    rim = np.abs(centre_N2 / np.array([world.width_m / 2, world.height_m / 2])).max(axis=1)
    rim = rim + rng.normal(0, 0.08, len(rim))
    draw = rng.random(len(rim))
    kind = np.where(draw < 0.55 - 0.35 * rim, APARTMENTS, HOUSES)
    kind = np.where((draw > 0.80) & (rim > 0.4), INDUSTRY, kind)
    open_draw = rng.random(len(rim))
    kind = np.where(open_draw < 0.09, PARK, kind)
    kind = np.where((open_draw > 0.09) & (open_draw < 0.15), YARD, kind)
    if rural > 0:
        kind = np.where(rim > np.sqrt(1.0 - rural) + 0.02, FIELD, kind)
    return kind.astype(np.int64)


_LOT_M = {HOUSES: (15.0, 18.0), APARTMENTS: (26.0, 27.0), INDUSTRY: (48.0, 40.0)}
"""Width and depth of a lot by kind of block."""


def _lots(rng: np.random.Generator, rects_N4: F64, kind: I64, crowding: float) -> tuple[F64, I64]:
    """Rectangles of buildings in the frame of the plan, and the kind of block of each."""
    parts: list[F64] = [np.zeros((0, 4))]
    kinds: list[int] = []
    for rect, block_kind in zip(rects_N4, kind, strict=True):
        if int(block_kind) not in _LOT_M:
            continue
        lot_w, lot_d = np.array(_LOT_M[int(block_kind)]) * rng.uniform(0.85, 1.2, 2)
        inner = rect + np.array([2.5, 2.5, -2.5, -2.5])
        columns = max(int((inner[2] - inner[0]) / lot_w), 1)
        rows = max(int((inner[3] - inner[1]) / lot_d), 1)
        step = np.array([(inner[2] - inner[0]) / columns, (inner[3] - inner[1]) / rows])
        row, column = np.divmod(np.arange(rows * columns), columns)
        low = inner[:2] + np.column_stack([column, row]) * step
        rects = np.hstack([low, low + step])
        inset = rng.uniform(0.8, 0.19 * min(step[0], step[1], 24.0) + 1.0, rects.shape)
        rects = rects + (1.0 - crowding) * inset * np.array([1, 1, -1, -1])
        keep = rng.random(len(rects)) < 0.86 + 0.12 * crowding
        parts.append(rects[keep])
        kinds += [int(block_kind)] * int(keep.sum())
    return np.concatenate(parts), np.array(kinds, np.int64)


def _buildings(
    rng: np.random.Generator,
    rects_N4: F64,
    kind: I64,
    bend: _Bend,
    world: SyntheticWorld,
    traits: Traits,
) -> TownBuildings:
    """Buildings with outlines and roofs; only those wholly inside the extent."""
    rects, kinds = _lots(rng, rects_N4, kind, traits.crowding)
    rings = bend(_outlines(rng, rects))
    limit = np.array([world.width_m / 2, world.height_m / 2]) - 3.0
    inside = (np.abs(rings) < limit).all(axis=(1, 2))
    size = np.minimum(rects[:, 2] - rects[:, 0], rects[:, 3] - rects[:, 1])
    keep = inside & (size > 6.0)
    rects, kinds, rings = rects[keep], kinds[keep], rings[keep]
    middle = (rects[:, :2] + rects[:, 2:]) / 2
    half = (rects[:, 2:] - rects[:, :2]) / 2
    upright = half[:, 1] > half[:, 0]
    east = np.where(upright[:, None], [[0.0, 1.0]], [[1.0, 0.0]])
    along = bend(middle + east) - bend(middle)
    roof, colour = _roofs(rng, kinds, traits.concrete)
    return TownBuildings(
        polygons=np.asarray(shapely.polygons(rings), dtype=object),
        centre_N2=bend(middle),
        angle_rad=np.arctan2(along[:, 1], along[:, 0]),
        half_N2=np.where(upright[:, None], half[:, ::-1], half),
        height_m=_heights(rng, kinds),
        roof=roof,
        colour_N3=colour,
    )


def _outlines(rng: np.random.Generator, rects_N4: F64) -> F64:
    """Rings of rectangles, a third of them L shapes; shape (N, 6, 2)."""
    x0, y0, x1, y1 = rects_N4.T
    cut = np.where(rng.random(len(rects_N4)) < 0.33, 1.0, 0.02)
    cut_x = cut * rng.uniform(0.25, 0.5, len(cut)) * (x1 - x0)
    cut_y = cut * rng.uniform(0.25, 0.5, len(cut)) * (y1 - y0)
    rings = np.stack(
        [
            np.stack([x0, y0], -1),
            np.stack([x1, y0], -1),
            np.stack([x1, y1 - cut_y], -1),
            np.stack([x1 - cut_x, y1 - cut_y], -1),
            np.stack([x1 - cut_x, y1], -1),
            np.stack([x0, y1], -1),
        ],
        axis=1,
    )
    # Mirroring about the middle makes any of the four corners the missing one.
    middle = np.stack([(x0 + x1) / 2, (y0 + y1) / 2], -1)[:, None, :]
    flip = rng.choice([-1.0, 1.0], (len(cut), 1, 2))
    return np.asarray(middle + (rings - middle) * flip)


def _heights(rng: np.random.Generator, kinds: I64) -> F64:
    floors = np.select(
        [kinds == APARTMENTS, kinds == INDUSTRY],
        [rng.integers(3, 8, len(kinds)), rng.integers(2, 4, len(kinds))],
        rng.integers(1, 4, len(kinds)),
    )
    return np.asarray(floors * 2.9 + rng.uniform(0.0, 0.8, len(kinds)))


def _roofs(rng: np.random.Generator, kinds: I64, concrete: float) -> tuple[I64, F64]:
    count = len(kinds)
    draw = rng.random(count)
    flat_share = np.select([kinds == APARTMENTS, kinds == INDUSTRY], [0.75, 0.3], 0.4)
    roof = np.where(draw < flat_share, FLAT, np.where(rng.random(count) < 0.5, GABLE, HIP))
    roof = np.where((kinds == INDUSTRY) & (roof == HIP), GABLE, roof)
    tiled = rng.integers(0, 4, count)
    other = rng.integers(4, 16, count)
    metal = np.where(rng.random(count) < 0.8, rng.integers(8, 12, count), other)
    pick = np.where((roof == FLAT) & (rng.random(count) < 0.88), other, tiled)
    pick = np.where(kinds == INDUSTRY, metal, pick)
    tint = rng.normal(1.0, 0.12, (count, 1)) * rng.normal(1.0, 0.04, (count, 3))
    if concrete:  # drawn last, so that towns without it stay as they are
        grey = np.where(rng.random(count) < 0.75, rng.integers(4, 8, count), 12 + other % 4)
        pick = np.where(rng.random(count) < concrete, grey, pick)
    return roof.astype(np.int64), np.clip(ROOF_COLOURS[pick] * tint, 0.05, 0.85)


def _trees(rng: np.random.Generator, rects_N4: F64, kind: I64, bend: _Bend) -> F64:
    """Trees: many in parks, some in gardens and along streets, few in fields."""
    area = (rects_N4[:, 2] - rects_N4[:, 0]) * (rects_N4[:, 3] - rects_N4[:, 1])
    per_m2 = np.select(
        [kind == PARK, kind == HOUSES, kind == APARTMENTS, kind == FIELD],
        [1 / 110, 1 / 190, 1 / 260, 1 / 900],
        1 / 700,
    )
    block = np.repeat(np.arange(len(kind)), rng.poisson(area * per_m2))
    low, high = rects_N4[block, :2], rects_N4[block, 2:]
    place = low + rng.random((len(block), 2)) * (high - low)
    # Every third tree moves to the edge of the block, into a row along the street.
    street = rng.random(len(block)) < 0.33
    side = rng.integers(0, 2, len(block))
    edge_y = np.where(side == 0, low[:, 1] + 0.5, high[:, 1] - 0.5)
    place[street & (kind[block] != FIELD), 1] = edge_y[street & (kind[block] != FIELD)]
    radius = np.clip(rng.gamma(6.0, 0.38, len(block)), 1.0, 4.5)
    return np.column_stack([bend(place), radius])
