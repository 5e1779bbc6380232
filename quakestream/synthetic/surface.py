"""Surface of the ground: reflectance, height and vegetation, without light."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import stream
from quakestream.synthetic.town import (
    APARTMENTS,
    FIELD,
    FLAT,
    GABLE,
    HOUSES,
    INDUSTRY,
    PARK,
    YARD,
    Town,
    TownBuildings,
)
from quakestream.synthetic.world import SyntheticWorld, burn_polygons, burn_quads, quads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(slots=True, kw_only=True, eq=False)
class Surface:
    """The painted world at one time. Paint functions change it in place."""

    albedo_BYX: F32
    """Reflectance 0..1 of red, green, blue."""
    height_YX: F32
    """Metres above flat ground."""
    vegetation_YX: F32
    """0 (bare) to 1 (fully green in summer); its colour depends on the season of a scene."""
    ground_YX: F32 | None = None
    """Elevation of the ground, metres; None where it is flat. It turns the ground to or from the
    sun; scenes are orthorectified, so nothing leans by it."""

    def copy(self) -> "Surface":
        return Surface(
            albedo_BYX=self.albedo_BYX.copy(),
            height_YX=self.height_YX.copy(),
            vegetation_YX=self.vegetation_YX.copy(),
            ground_YX=self.ground_YX,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Textures:
    """Noise fixed to the world, so that unchanged ground looks the same in both epochs."""

    fine_YX: F32
    """Detail of 0.5 to 2 m."""
    medium_YX: F32
    """Stains of 2 to 12 m."""
    coarse_YX: F32
    """Patches of 15 to 120 m."""

    @classmethod
    def of(cls, seed: int, world: SyntheticWorld) -> "Textures":
        rng = stream(seed, "textures")
        return cls(
            fine_YX=fractal(rng, world.shape, 4, 1, gain=0.9),
            medium_YX=fractal(rng, world.shape, 24, 3, gain=0.7),
            coarse_YX=fractal(rng, world.shape, 240, 30),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Small upright things: vehicles, tents, containers, chimneys, slabs."""

    corners_NE2: F64
    colour_N3: F64
    height_m: F64

    def __len__(self) -> int:
        return len(self.height_m)


def positions_m(world: SyntheticWorld, flat_index: NDArray[np.int64]) -> tuple[F32, F32]:
    """World x and y of pixel centres, by flat index into the world's raster."""
    row, col = np.divmod(flat_index, world.shape[1])
    t = world.transform
    x = (t.c + (col + 0.5) * t.a).astype(np.float32)
    y = (t.f + (row + 0.5) * t.e).astype(np.float32)
    return x, y


def paint_ground(seed: int, world: SyntheticWorld, town: Town, textures: Textures) -> Surface:
    """Paints streets, pavements, block interiors, fields and trees, without buildings."""
    rng = stream(seed, "ground")
    interiors = [block.buffer(-2.0) for block in town.blocks]
    pavement_YX = burn_polygons(world, town.blocks)
    interior_YX = burn_polygons(
        world, [b if not b.is_empty else b.centroid.buffer(0.1) for b in interiors]
    )
    colour_N3, vegetation_N, rough_N = _block_looks(rng, town)
    albedo_YX3 = colour_N3[np.where(interior_YX > 0, interior_YX + 1, pavement_YX > 0)]
    # Yards, parks and fields have paths and bare spots; their vegetation is patchy.
    patch = np.clip(0.75 + 0.25 * textures.medium_YX + 0.25 * textures.coarse_YX, 0.0, 1.0)
    vegetation = (vegetation_N[interior_YX] * patch).astype(np.float32)
    rough = rough_N[interior_YX]
    shade = 1.0 + rough * textures.fine_YX + 0.05 * textures.coarse_YX
    shade += _furrows(world, town, interior_YX)
    shade += np.float32(0.03) * textures.medium_YX
    surface = Surface(
        albedo_BYX=np.ascontiguousarray((albedo_YX3 * shade[..., None]).transpose(2, 0, 1)),
        height_YX=np.maximum(rough - 0.1, 0.0) * 6.0 * np.abs(textures.medium_YX),
        vegetation_YX=vegetation,
    )
    paint_boxes(surface, world, _yard_clutter(rng, town, share=1.0))
    _paint_trees(rng, surface, world, town, textures)
    return surface


def _block_looks(rng: np.random.Generator, town: Town) -> tuple[F32, F32, F32]:
    """Tables of colour (0 street, 1 pavement, 2.. blocks), vegetation, roughness (0 none).

    Returns:
        colour (blocks + 2, 3); vegetation (blocks + 1,); roughness (blocks + 1,).
    """
    base = {
        HOUSES: (0.42, 0.36, 0.29, 0.35, 0.07),
        APARTMENTS: (0.38, 0.36, 0.33, 0.18, 0.05),
        INDUSTRY: (0.44, 0.43, 0.41, 0.05, 0.05),
        PARK: (0.38, 0.34, 0.25, 0.85, 0.05),
        YARD: (0.47, 0.42, 0.35, 0.08, 0.17),
        FIELD: (0.46, 0.37, 0.26, 0.6, 0.05),
    }
    looks = np.array([base[int(kind)] for kind in town.kind])
    looks[:, :3] *= rng.normal(1.0, 0.10, (len(looks), 1)) * rng.normal(1.0, 0.03, (len(looks), 3))
    field = town.kind == FIELD
    looks[field, 3] = rng.uniform(0.0, 1.0, int(field.sum()))
    colour = np.vstack([[0.23, 0.23, 0.235], [0.45, 0.44, 0.42], looks[:, :3]])
    vegetation = np.concatenate([[0.0], looks[:, 3]])
    rough = np.concatenate([[0.03], looks[:, 4]])
    return colour.astype(np.float32), vegetation.astype(np.float32), rough.astype(np.float32)


def _furrows(world: SyntheticWorld, town: Town, interior_YX: NDArray[np.int32]) -> F32:
    """Plough lines of fields, with a direction per field."""
    out = np.zeros(world.shape, np.float32)
    is_field = np.concatenate([[False], town.kind == FIELD])
    index = np.flatnonzero(is_field[interior_YX])
    x, y = positions_m(world, index)
    owner = interior_YX.ravel()[index]
    angle = (town.frame_rad + (owner % 2) * np.pi / 2).astype(np.float32)
    spacing = (2.2 + (owner % 5) * 0.7).astype(np.float32)
    phase = (x * np.sin(angle) - y * np.cos(angle)) * np.float32(2 * np.pi) / spacing
    out.ravel()[index] = np.float32(0.05) * np.sin(phase)
    return out


def _yard_clutter(rng: np.random.Generator, town: Town, share: float) -> Boxes:
    """Pallets, scrap and gravel in yards, which look like rubble in both epochs."""
    yards = [b for b, kind in zip(town.blocks, town.kind, strict=True) if kind == YARD]
    return scatter(rng, yards, per_m2=share / 28.0, largest_m=1.9, tallest_m=2.2)


def scatter(
    rng: np.random.Generator, areas: list[Any], per_m2: float, largest_m: float, tallest_m: float
) -> Boxes:
    """Boxes of any colour and direction inside `areas`."""
    parts: list[F64] = []
    for area in areas:
        west, south, east, north = shapely.bounds(area)
        count = rng.poisson((east - west) * (north - south) * per_m2)
        place = np.array([west, south]) + rng.random((count, 2)) * [east - west, north - south]
        parts.append(place[shapely.contains_xy(area, place[:, 0], place[:, 1])])
    centre = np.concatenate(parts) if parts else np.zeros((0, 2))
    count = len(centre)
    half = np.column_stack([rng.uniform(0.5, largest_m, count), rng.uniform(0.3, 1.0, count)])
    grey = rng.uniform(0.15, 0.75, (count, 1)) * rng.normal(1.0, 0.08, (count, 3))
    return Boxes(
        corners_NE2=quads(centre, half, rng.uniform(0, np.pi, count)),
        colour_N3=np.clip(grey, 0.05, 0.9),
        height_m=rng.uniform(0.2, tallest_m, count),
    )


def _paint_trees(
    rng: np.random.Generator,
    surface: Surface,
    world: SyntheticWorld,
    town: Town,
    textures: Textures,
) -> None:
    centre, radius = town.trees_N3[:, :2], town.trees_N3[:, 2]
    around = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    ring = np.stack([np.cos(around), np.sin(around)], -1)
    id_YX = burn_quads(world, centre[:, None, :] + radius[:, None, None] * ring)
    index = np.flatnonzero(id_YX)
    tree = id_YX.ravel()[index] - 1
    x, y = positions_m(world, index)
    off = np.hypot(x - centre[tree, 0], y - centre[tree, 1]) / radius[tree]
    dome = np.sqrt(np.clip(1.0 - off**2, 0.05, 1.0)).astype(np.float32)
    tall = (radius * rng.uniform(1.3, 2.2, len(radius))).astype(np.float32)
    leafy = rng.uniform(0.75, 1.0, len(radius)).astype(np.float32)
    fine = textures.fine_YX.ravel()[index]
    surface.height_YX.ravel()[index] = np.maximum(tall[tree] * dome + 0.35 * fine, 0.3)
    surface.vegetation_YX.ravel()[index] = leafy[tree]
    for band, value in enumerate((0.24, 0.21, 0.16)):
        surface.albedo_BYX[band].ravel()[index] = value * (1.0 + 0.15 * fine)


def paint_boxes(
    surface: Surface, world: SyntheticWorld, boxes: Boxes, *, on_top: bool = False
) -> None:
    """Paints boxes onto the ground, or onto the present surface with `on_top`."""
    id_YX = burn_quads(world, boxes.corners_NE2)
    index = np.flatnonzero(id_YX)
    box = id_YX.ravel()[index] - 1
    height = boxes.height_m.astype(np.float32)[box]
    below = surface.height_YX.ravel()[index] if on_top else np.float32(0.0)
    surface.height_YX.ravel()[index] = below + height
    surface.vegetation_YX.ravel()[index] = 0.0
    for band in range(3):
        surface.albedo_BYX[band].ravel()[index] = boxes.colour_N3[box, band]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roofs:
    """State of the roofs at one time, one row per building."""

    height_m: F64
    colour_N3: F64
    stands_until: F64
    """Position along the ridge, -1 to 1: the part of the building below it stands."""
    tilt_m: F64
    """Height of the far end of the ridge above the near end."""
    worn: F64
    """Strength of cracks and stains; 1 as built."""
    inset: F64
    """Share of the half size, from the middle, that stands; 1: all of it."""

    @classmethod
    def as_built(cls, buildings: TownBuildings) -> "Roofs":
        count = len(buildings)
        return cls(
            height_m=buildings.height_m,
            colour_N3=buildings.colour_N3,
            stands_until=np.full(count, 9.0),
            tilt_m=np.zeros(count),
            worn=np.ones(count),
            inset=np.full(count, 9.0),
        )


def paint_roofs(
    surface: Surface,
    world: SyntheticWorld,
    buildings: TownBuildings,
    roofs: Roofs,
    textures: Textures,
    id_YX: NDArray[np.int32],
) -> None:
    """Paints the standing part of each building.

    Args:
        surface: painted in place.
        world: the frame of the surface.
        buildings: outlines and forms as built.
        roofs: their state.
        textures: noise fixed to the world.
        id_YX: building index + 1 of each pixel, else 0.
    """
    index = np.flatnonzero(id_YX)
    owner = id_YX.ravel()[index] - 1
    u, v = _ridge_frame(world, buildings, index, owner)
    medium, fine = textures.medium_YX.ravel()[index], textures.fine_YX.ravel()[index]
    ragged = u + np.float32(0.13) * medium + np.float32(0.05) * fine
    keep = (ragged < roofs.stands_until[owner]) & (
        np.maximum(np.abs(u), np.abs(v)) + 0.05 * medium < roofs.inset[owner]
    )
    index, owner, u, v, medium, fine = (a[keep] for a in (index, owner, u, v, medium, fine))
    rise, shade = _form(buildings, owner, u, v)
    flat = buildings.roof[owner] == FLAT
    worn = roofs.worn.astype(np.float32)[owner]
    shade += worn * (np.where(flat, 0.10, 0.05) * medium + 0.05 * fine).astype(np.float32)
    height = roofs.height_m.astype(np.float32)[owner] + rise
    height += roofs.tilt_m.astype(np.float32)[owner] * u + np.float32(0.35) * (worn - 1) * fine
    surface.height_YX.ravel()[index] = np.maximum(height, 0.3)
    surface.vegetation_YX.ravel()[index] = 0.0
    for band in range(3):
        colour = roofs.colour_N3[:, band].astype(np.float32)[owner] * np.maximum(shade, 0.25)
        surface.albedo_BYX[band].ravel()[index] = np.minimum(colour, 0.95)


def _ridge_frame(
    world: SyntheticWorld,
    buildings: TownBuildings,
    index: NDArray[np.int64],
    owner: NDArray[np.int32],
) -> tuple[F32, F32]:
    """Pixel positions along (u) and across (v) the ridge of their building, -1 to 1."""
    x, y = positions_m(world, index)
    centre = buildings.centre_N2.astype(np.float32)[owner]
    cos = np.cos(buildings.angle_rad).astype(np.float32)[owner]
    sin = np.sin(buildings.angle_rad).astype(np.float32)[owner]
    half = buildings.half_N2.astype(np.float32)[owner]
    dx, dy = x - centre[:, 0], y - centre[:, 1]
    u, v = (dx * cos + dy * sin) / half[:, 0], (dy * cos - dx * sin) / half[:, 1]
    return u.astype(np.float32), v.astype(np.float32)


def _form(buildings: TownBuildings, owner: NDArray[np.int32], u: F32, v: F32) -> tuple[F32, F32]:
    """Height above the eaves and relative brightness of roof pixels."""
    half = buildings.half_N2.astype(np.float32)[owner]
    roof = buildings.roof[owner]
    across_m, along_m = (1 - np.abs(v)) * half[:, 1], (1 - np.abs(u)) * half[:, 0]
    edge_m = np.minimum(across_m, along_m)
    parapet = edge_m < 0.7
    rise = np.where(
        roof == FLAT,
        np.where(parapet, np.float32(0.8), np.float32(0.0)),
        np.where(roof == GABLE, 0.42 * across_m, 0.48 * np.clip(edge_m, 0.0, None)),
    )
    # Courses of tiles run along the ridge; seams of metal sheets run across it.
    courses = np.float32(0.06) * np.sin(across_m * np.float32(2 * np.pi / 1.7))
    ridge = (roof != FLAT) & (np.abs(across_m - half[:, 1]) < 0.4)
    shade = np.where(roof == FLAT, np.where(parapet, 1.18, 1.0), 1.0 + courses + 0.12 * ridge)
    return rise.astype(np.float32), shade.astype(np.float32)


def roof_clutter(
    rng: np.random.Generator, buildings: TownBuildings, per_m2: float, towers: bool = True
) -> tuple[Boxes, NDArray[np.int64]]:
    """Stair towers, tanks, solar boilers and chimneys, and the building of each."""
    area = 4 * buildings.half_N2.prod(axis=1)
    messy = np.where(rng.random(len(area)) < 0.25, 2.8, 0.8)
    flat = buildings.roof == FLAT
    count = rng.poisson(np.clip(area * per_m2 * messy * np.where(flat, 1.0, 0.25), 0, 40))
    owner = np.repeat(np.arange(len(area)), count)
    place = rng.uniform(-0.8, 0.8, (len(owner), 2)) * buildings.half_N2[owner]
    half = np.column_stack([rng.uniform(0.4, 1.3, len(owner)), rng.uniform(0.35, 0.8, len(owner))])
    tall = rng.uniform(0.4, 1.5, len(owner))
    if towers:
        tower = np.flatnonzero(flat & (area > 110) & (rng.random(len(area)) < 0.75))
        owner = np.concatenate([owner, tower])
        spot = rng.uniform(-0.45, 0.45, (len(tower), 2)) * buildings.half_N2[tower]
        place = np.vstack([place, spot])
        half = np.vstack([half, rng.uniform(1.2, 2.4, (len(tower), 2))])
        tall = np.concatenate([tall, np.full(len(tower), 2.4)])
    angle = buildings.angle_rad[owner]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.column_stack(
        [place[:, 0] * cos - place[:, 1] * sin, place[:, 0] * sin + place[:, 1] * cos]
    )
    tone = rng.choice([0.75, 0.6, 0.45, 0.3, 0.15], len(owner))[:, None]
    colour = np.clip(tone * rng.normal(1.0, 0.06, (len(owner), 3)), 0.04, 0.9)
    corners = quads(buildings.centre_N2[owner] + turned, half, angle)
    return Boxes(corners_NE2=corners, colour_N3=colour, height_m=tall), owner.astype(np.int64)


def select(boxes: Boxes, keep_N: NDArray[np.bool_]) -> Boxes:
    """The boxes for which `keep_N` is true."""
    return Boxes(
        corners_NE2=boxes.corners_NE2[keep_N],
        colour_N3=boxes.colour_N3[keep_N],
        height_m=boxes.height_m[keep_N],
    )
