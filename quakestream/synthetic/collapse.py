"""Collapsed buildings: heaps of slabs and dust, half collapses, pancakes."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import Traits, stream
from quakestream.synthetic.shaking import BuildingDamage
from quakestream.synthetic.surface import Boxes, Roofs, Surface, paint_boxes
from quakestream.synthetic.town import ROOF_COLOURS, TownBuildings
from quakestream.synthetic.world import SyntheticWorld, burn_polygons, quads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RINGS_M = (9.0, 7.0, 5.5, 4.0, 3.0, 2.0, 1.0, 0.0)
"""Distances of debris and dust from the outline of a collapsed building."""
SLAB_GREY = 0.42
"""Reflectance of a middling slab."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collapse:
    """State of each building after the event, one row per building."""

    roofs: Roofs
    fallen: NDArray[np.bool_]
    """True for destroyed buildings, which are a heap."""
    whole: NDArray[np.bool_]
    """True where the roof and the things on it are intact."""
    reach_m: F64
    """Largest distance of debris from the outline."""
    heap_m: F64
    """Height of the middle of the heap."""

    @classmethod
    def random(
        cls, seed: int, buildings: TownBuildings, damage: BuildingDamage, traits: Traits
    ) -> "Collapse":
        rng = stream(seed, "collapse")
        count, destroyed = len(buildings), damage.destroyed
        manner = rng.random(count)
        half = destroyed & (manner < traits.partial)
        pancake = destroyed & (manner > 0.92)
        until = np.where(destroyed, -9.0, 9.0)
        until = np.where(half, rng.uniform(-0.55, 0.05, count), until)
        until = np.where(pancake, 9.0, until)
        height = np.where(pancake, 0.3 * buildings.height_m, buildings.height_m)
        reach = np.clip(0.42 * buildings.height_m * damage.severity, 1.8, 7.0)
        return cls(
            roofs=Roofs(
                height_m=height,
                colour_N3=_repainted(rng, buildings, share=0.16),
                stands_until=until,
                tilt_m=np.where(pancake, rng.choice([-0.9, 0.9], count), 0.0),
                worn=np.where(pancake, 2.6, np.where(half, 1.6, 1.0)),
                inset=np.where(pancake, rng.uniform(0.72, 0.9, count), 9.0),
            ),
            fallen=destroyed,
            whole=~destroyed,
            reach_m=reach,
            heap_m=np.clip(buildings.height_m * rng.uniform(0.1, 0.24, count), 0.8, 4.0),
        )


def _repainted(rng: np.random.Generator, buildings: TownBuildings, share: float) -> F64:
    """Roof colours after the event; a share of the roofs was renewed in between."""
    count = len(buildings)
    new = ROOF_COLOURS[rng.integers(0, len(ROOF_COLOURS), count)]
    colour = np.where((rng.random(count) < share)[:, None], new, buildings.colour_N3)
    # Dust, rain and the angle of view change every roof a little, some a lot.
    tone = np.exp(rng.normal(0.0, 0.22, (count, 1)) + rng.normal(0.0, 0.05, (count, 3)))
    return np.asarray(np.clip(colour * tone, 0.05, 0.85))


def paint_heaps(
    seed: int,
    surface: Surface,
    world: SyntheticWorld,
    buildings: TownBuildings,
    collapse: Collapse,
    traits: Traits,
) -> None:
    """Paints dust, rubble and slabs of all collapsed buildings onto the ground."""
    which = np.flatnonzero(collapse.fallen)
    if which.size == 0:
        return
    rng = stream(seed, "heaps")
    ring_YX, owner_YX = _rings(world, buildings, which)
    index = np.flatnonzero(owner_YX)
    ring, owner = ring_YX.ravel()[index], which[owner_YX.ravel()[index] - 1]
    blob = fractal(rng, world.shape, 12, 4).ravel()[index]
    chunk = fractal(rng, world.shape, 4, 1, gain=1.0).ravel()[index]
    grain = rng.standard_normal(index.size, dtype=np.float32)
    _spread_dust(surface, index, ring, blob, collapse.reach_m[owner], traits.dust)
    debris = ring <= collapse.reach_m[owner] * np.clip(0.6 + 0.45 * blob, 0.0, 1.3)
    debris |= ring == 0.0
    index, ring, owner = index[debris], ring[debris], owner[debris]
    blob, chunk, grain = blob[debris], chunk[debris], grain[debris]
    fade = np.clip(1.0 - ring / (collapse.reach_m[owner] + 1.5), 0.15, 1.0)
    contrast = np.float32(traits.rubble_contrast)
    chunk, grain = contrast * chunk, contrast * grain
    height = collapse.heap_m[owner] * fade * (0.6 + 0.3 * blob) + fade * (
        0.30 * chunk + 0.06 * grain
    )
    surface.height_YX.ravel()[index] = np.maximum(height, 0.05)
    surface.vegetation_YX.ravel()[index] = 0.0
    _colour_rubble(rng, surface, index, owner, buildings, (blob, chunk, grain))
    paint_boxes(surface, world, _slabs(rng, buildings, which, traits), on_top=True)


def _rings(
    world: SyntheticWorld, buildings: TownBuildings, which: NDArray[np.int64]
) -> tuple[F32, NDArray[np.int32]]:
    """Distance ring, and position in `which` + 1, of the nearest collapsed building; 0 beyond."""
    ring_YX = np.zeros(world.shape, np.float32)
    owner_YX = np.zeros(world.shape, np.int32)
    outlines = buildings.polygons[which]
    for distance_m in RINGS_M:
        grown = shapely.buffer(outlines, distance_m) if distance_m else outlines
        id_YX = burn_polygons(world, list(grown))
        inside = id_YX > 0
        ring_YX[inside] = distance_m
        owner_YX[inside] = id_YX[inside]
    return ring_YX, owner_YX


def _spread_dust(
    surface: Surface,
    index: NDArray[np.int64],
    ring: F32,
    blob: F32,
    reach_m: F64,
    most: float,
) -> None:
    """Tints the ground around heaps with concrete dust."""
    strength = np.exp(-ring / (0.75 * reach_m + 1.2)) * np.clip(0.65 + 0.35 * blob, 0.0, 1.0)
    strength = (most * strength).astype(np.float32)
    for band, value in enumerate((0.50, 0.475, 0.44)):
        layer = surface.albedo_BYX[band].ravel()
        layer[index] += strength * (np.float32(value) - layer[index])
    surface.vegetation_YX.ravel()[index] *= 1.0 - strength


def _colour_rubble(
    rng: np.random.Generator,
    surface: Surface,
    index: NDArray[np.int64],
    owner: NDArray[np.int64],
    buildings: TownBuildings,
    noise: tuple[F32, F32, F32],
) -> None:
    """Colours rubble concrete grey to earth brown, with pieces of roof and dark hollows."""
    blob, chunk, grain = noise
    count = len(buildings)
    tone = rng.uniform(0.30, 0.50, count)
    warm = rng.uniform(0.0, 0.12, count)
    body = np.column_stack([tone * (1 + warm), tone, tone * (1 - 1.1 * warm)])
    light = np.clip(1.0 + 0.20 * chunk + 0.10 * grain + 0.08 * blob, 0.35, 1.8)
    piece = np.clip((np.roll(chunk, 7) - 0.75) * 2.0, 0.0, 0.65)
    hollow = np.where(chunk < -1.35, 0.4, 1.0)
    for band in range(3):
        base = body[owner, band]
        base = base + piece * (buildings.colour_N3[owner, band] - base)
        surface.albedo_BYX[band].ravel()[index] = np.clip(base * light * hollow, 0.04, 0.9)


def _slabs(
    rng: np.random.Generator, buildings: TownBuildings, which: NDArray[np.int64], traits: Traits
) -> Boxes:
    """Broken floors and walls on the heaps, in all directions."""
    area = 4 * buildings.half_N2[which].prod(axis=1)
    owner = np.repeat(which, rng.poisson(np.clip(area / 9.0, 4, 150)))
    count = len(owner)
    place = rng.uniform(-1.12, 1.12, (count, 2)) * buildings.half_N2[owner]
    angle = buildings.angle_rad[owner]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.column_stack(
        [place[:, 0] * cos - place[:, 1] * sin, place[:, 0] * sin + place[:, 1] * cos]
    )
    half = np.column_stack([rng.gamma(3.0, 0.4, count) + 0.3, rng.uniform(0.25, 1.0, count)])
    grey = rng.uniform(0.24, 0.60, (count, 1)) * np.array([1.03, 1.0, 0.95])
    old = rng.random((count, 1)) < 0.18 * traits.rubble_contrast
    grey = grey + (1.0 - traits.rubble_contrast) * (SLAB_GREY - grey)
    return Boxes(
        corners_NE2=quads(
            buildings.centre_N2[owner] + turned, half, angle + rng.normal(0, 0.8, count)
        ),
        colour_N3=np.where(old, buildings.colour_N3[owner], grey),
        height_m=traits.rubble_contrast * rng.uniform(0.1, 0.9, count),
    )


def litter(seed: int, buildings: TownBuildings, damage: BuildingDamage) -> Boxes:
    """Plaster and tiles along the walls of damaged buildings that stand."""
    rng = stream(seed, "litter")
    damaged = np.flatnonzero(~damage.destroyed & (damage.severity > 0.22))
    owner = np.repeat(damaged, rng.poisson(10.0 * damage.severity[damaged]))
    count = len(owner)
    share = rng.random(count)
    lines = shapely.get_exterior_ring(shapely.buffer(buildings.polygons[owner], 0.9))
    spots = shapely.line_interpolate_point(lines, share, normalized=True)
    centre = np.column_stack([shapely.get_x(spots), shapely.get_y(spots)])
    half = np.column_stack([rng.uniform(0.3, 1.0, count), rng.uniform(0.25, 0.6, count)])
    return Boxes(
        corners_NE2=quads(centre, half, rng.uniform(0, np.pi, count)),
        colour_N3=rng.uniform(0.35, 0.7, (count, 1)) * np.array([[1.04, 1.0, 0.93]]),
        height_m=rng.uniform(0.1, 0.5, count),
    )
