"""Hills with landslides of known outline: terrain, rivers, lithology, shaking, slides, scars.

Ground fails first where this sum is high:

    0.12 (slope - 32°) + 1.4 ln(PGV / 30 cm/s) + lithology

with the terms of `LITHOLOGY`. Ground under 14° does not fail; above 45° slope adds nothing. Heads
of slides are drawn with the exponential of the sum as their weight, until slides cover the wanted
share of the ground. A slide runs down from its head along the steepest descent and widens on its
way. The numbers are chosen, not fitted.

    layout = HillsLayout(shape=(1800, 2400), transform=world.transform, relief_m=180.0)
    hills = make_hills(7, layout, plain_YX=town_YX)
    hills.slides        # polygons, in the coordinates of `transform`
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import stream

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LITHOLOGY = MappingProxyType({"granite": -0.9, "sandstone": 0.0, "schist": 0.5, "ash": 1.1})
"""Rocks, and how much readier than sandstone each is to fail (log-odds)."""
PER_DEGREE, SLOPE_REFERENCE_DEG = 0.12, 32.0
LEAST_SLOPE_DEG, MOST_SLOPE_DEG = 14.0, 45.0
PER_LN_PGV, PGV_REFERENCE_CM_S = 1.4, 30.0
STOP_SLOPE_DEG = 7.0
"""A slide comes to rest on ground flatter than this."""
_STEPS = 14
"""Points along the path of a slide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HillsLayout:
    """Raster and look of a piece of hills."""

    shape: tuple[int, int]
    """Rows and columns."""
    transform: Affine
    """Maps (column, row) to metres east and north; square pixels, north up."""
    relief_m: float = 240.0
    """Height of the ridges above the valleys, about."""
    valley_m: float = 1000.0
    """Distance between large valleys, about."""
    slide_share: float = 0.02
    """Share of the raster that fresh slides cover."""
    scar_share: float = 0.015
    """Share that scars of older slides cover, overgrown by now."""
    slide_length_m: float = 85.0
    """Median length of a slide."""

    @property
    def gsd_m(self) -> float:
        return float(self.transform.a)

    @property
    def extent(self) -> Any:
        """Rectangle of the raster, a shapely polygon."""
        t, (height, width) = self.transform, self.shape
        return shapely.box(t.c, t.f + height * t.e, t.c + width * t.a, t.f)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hills:
    """Terrain and what slid on it. Rasters have the layout's shape."""

    layout: HillsLayout
    elevation_YX: F32
    """Metres."""
    slope_YX: F32
    """Degrees."""
    aspect_YX: F32
    """Direction of steepest descent, radians counter-clockwise from east."""
    lithology_YX: NDArray[np.uint8]
    """Place of the rock in `LITHOLOGY`."""
    pgv_YX: F32
    """Peak ground velocity, cm/s."""
    river_YX: NDArray[np.bool_]
    """True in the beds of rivers."""
    slides: tuple[Any, ...]
    """Outlines of fresh slides: shapely polygons that do not touch, clipped to the raster."""
    scars: tuple[Any, ...]
    """Outlines of overgrown scars of older slides, apart from the fresh ones."""

    @property
    def slide_YX(self) -> NDArray[np.int32]:
        """Index + 1 of the slide on each pixel, else 0."""
        return burn(self.slides, self.layout)

    @property
    def scar_YX(self) -> NDArray[np.int32]:
        """Index + 1 of the scar on each pixel, else 0."""
        return burn(self.scars, self.layout)


def make_hills(
    seed: int,
    layout: HillsLayout,
    *,
    plain_YX: F32 | None = None,
    pgv_YX: F32 | None = None,
) -> Hills:
    """Hills of a seed. The same arguments give the same hills on one machine.

    Args:
        seed: any integer ≥ 0.
        layout: raster and look.
        plain_YX: 1 where the ground is flat, such as in a town, 0 where hills are full; values
            between make the foot of the hills. Nothing slides on flat ground. None: hills
            everywhere.
        pgv_YX: peak ground velocity, cm/s. None: a smooth field around 30 cm/s.
    """
    elevation_YX, river_YX = _elevation(seed, layout, plain_YX)
    down_YX2 = _descent(elevation_YX, layout.gsd_m)
    slope_YX = np.degrees(np.arctan(np.hypot(down_YX2[..., 0], down_YX2[..., 1])))
    lithology_YX = _lithology(seed, layout)
    if pgv_YX is None:
        smooth_YX = _noise(stream(seed, "hills/pgv"), layout, 3000.0, 700.0, 0.5)
        pgv_YX = np.asarray(30.0 * np.exp(0.35 * _finer(smooth_YX, layout)), np.float32)
    weight_YX = failure_weight(slope_YX, pgv_YX, lithology_YX)
    weight_YX[river_YX] = 0.0
    ground = _Terrain(layout=layout, down_YX2=down_YX2, slope_YX=slope_YX, weight_YX=weight_YX)
    slides = _slides(stream(seed, "hills/slides"), ground, layout.slide_share)
    scars = _slides(stream(seed, "hills/scars"), ground, layout.scar_share)
    return Hills(
        layout=layout,
        elevation_YX=elevation_YX,
        slope_YX=slope_YX,
        aspect_YX=np.arctan2(down_YX2[..., 1], down_YX2[..., 0]),
        lithology_YX=lithology_YX,
        pgv_YX=np.asarray(pgv_YX, np.float32),
        river_YX=river_YX,
        slides=slides,
        scars=_apart(scars, slides, layout.gsd_m),
    )


def failure_weight(slope_YX: F32, pgv_YX: F32, lithology_YX: NDArray[np.uint8]) -> F32:
    """Relative readiness of each pixel to be the head of a slide, by the sum in the module's head.

    Args:
        slope_YX: degrees.
        pgv_YX: cm/s.
        lithology_YX: places in `LITHOLOGY`.
    """
    rock_YX = np.array(list(LITHOLOGY.values()), np.float32)[lithology_YX]
    shaking_YX = np.log(np.maximum(pgv_YX, 0.1) / np.float32(PGV_REFERENCE_CM_S))
    steep_YX = np.minimum(slope_YX, MOST_SLOPE_DEG) - SLOPE_REFERENCE_DEG
    total_YX = PER_DEGREE * steep_YX + PER_LN_PGV * shaking_YX + rock_YX
    return np.where(slope_YX < LEAST_SLOPE_DEG, 0.0, np.exp(total_YX)).astype(np.float32)


def burn(outlines: tuple[Any, ...], layout: HillsLayout) -> NDArray[np.int32]:
    """Index + 1 of the last outline that covers the centre of each pixel, else 0."""
    if not outlines:
        return np.zeros(layout.shape, np.int32)
    burnt: NDArray[np.int32] = rasterize(
        ((outline, i) for i, outline in enumerate(outlines, start=1)),
        out_shape=layout.shape,
        transform=layout.transform,
        fill=0,
        dtype="int32",
    )
    return burnt


def _elevation(
    seed: int, layout: HillsLayout, plain_YX: F32 | None
) -> tuple[F32, NDArray[np.bool_]]:
    """Elevation, and where rivers run.

    The zero lines of a smooth noise become valleys and rivers; a second, smaller noise adds their
    side valleys.
    """
    rng = stream(seed, "hills/terrain")
    main_YX = np.abs(_noise(rng, layout, layout.valley_m, 220.0, 0.45))
    side_YX = np.abs(_noise(rng, layout, layout.valley_m / 3, 80.0, 0.45))
    side_YX *= np.clip(main_YX * 2.0, 0.0, 1.0)
    rise_YX = main_YX**2 / (0.18 + main_YX)  # flat floors of valleys, straight slopes above
    rough_YX = _noise(rng, layout, 70.0, 20.0, 0.5)
    far_YX = _noise(rng, layout, 4 * layout.valley_m, 900.0, 0.5)
    height_YX = 0.65 * rise_YX + 0.28 * side_YX + 0.012 * rough_YX + 0.1 * far_YX
    river_YX = _finer(main_YX, layout) < np.float32(0.022)
    height_YX = _finer(gaussian_filter(height_YX, 12.0 / _coarse_gsd_m(layout)), layout)
    elevation_YX = layout.relief_m * height_YX
    if plain_YX is not None:
        # The floor of the plain lies at the level of the valleys around it.
        elevation_YX = elevation_YX * (1.0 - plain_YX) + 0.02 * layout.relief_m * plain_YX
        river_YX &= plain_YX < 0.5
    return np.asarray(elevation_YX + 140.0 - elevation_YX.min(), np.float32), river_YX


def _descent(elevation_YX: F32, gsd_m: float) -> F32:
    """Fall per metre towards east and towards north; it points downhill."""
    per_row, per_col = np.gradient(elevation_YX, gsd_m)
    return np.stack([-per_col, per_row], axis=-1).astype(np.float32)


def _lithology(seed: int, layout: HillsLayout) -> NDArray[np.uint8]:
    rng = stream(seed, "hills/lithology")
    first, second = (_finer(_noise(rng, layout, 2200.0, 300.0, 0.4), layout) for _ in range(2))
    return (2 * (first > 0) + (second > 0)).astype(np.uint8)


def _noise(
    rng: np.random.Generator, layout: HillsLayout, longest_m: float, shortest_m: float, gain: float
) -> F32:
    """Noise with detail between two lengths, on the coarse raster of `_finer`."""
    gsd_m, factor = _coarse_gsd_m(layout), _factor(layout)
    shape = -(-layout.shape[0] // factor) + 1, -(-layout.shape[1] // factor) + 1
    return fractal(rng, shape, longest_m / gsd_m, max(shortest_m / gsd_m, 1.0), gain)


def _finer(coarse_YX: F32, layout: HillsLayout) -> F32:
    """A field of the coarse raster on the layout's own."""
    factor = _factor(layout)
    if factor > 1:
        size = coarse_YX.shape[1] * factor, coarse_YX.shape[0] * factor
        large_YX = cv2.resize(coarse_YX, size, interpolation=cv2.INTER_CUBIC)
        coarse_YX = np.asarray(cv2.GaussianBlur(large_YX, (0, 0), 0.5 * factor))
    return coarse_YX[: layout.shape[0], : layout.shape[1]]


def _factor(layout: HillsLayout) -> int:
    """Pixels of the raster per pixel of terrain: terrain has no detail below 5 m."""
    return max(round(5.0 / layout.gsd_m), 1)


def _coarse_gsd_m(layout: HillsLayout) -> float:
    return layout.gsd_m * _factor(layout)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Terrain:
    """What decides where slides begin and how they run."""

    layout: HillsLayout
    down_YX2: F32
    slope_YX: F32
    weight_YX: F32

    def at(self, raster: Any, point_N2: F64) -> Any:
        """Values of a raster at positions; outside, those of the border."""
        t, (height, width) = self.layout.transform, self.layout.shape
        col = np.clip(((point_N2[:, 0] - t.c) / t.a).astype(np.int64), 0, width - 1)
        row = np.clip(((point_N2[:, 1] - t.f) / t.e).astype(np.int64), 0, height - 1)
        return raster[row, col]


def _slides(rng: np.random.Generator, ground: _Terrain, share: float) -> tuple[Any, ...]:
    """Draws slides until they cover `share` of the raster. Overlapping ones become one."""
    layout = ground.layout
    wanted_m2 = share * layout.extent.area
    total = float(ground.weight_YX.sum(dtype=np.float64))
    if wanted_m2 <= 0 or total <= 0:
        return ()
    count = int(np.ceil(wanted_m2 / (0.1 * layout.slide_length_m**2))) + 4
    chosen = np.searchsorted(
        np.cumsum(ground.weight_YX.ravel(), dtype=np.float64), rng.random(count) * total
    )
    row_N, col_N = np.divmod(np.minimum(chosen, ground.weight_YX.size - 1), layout.shape[1])
    t = layout.transform
    head_N2 = np.column_stack([t.c + (col_N + 0.5) * t.a, t.f + (row_N + 0.5) * t.e])
    outlines = _outlines(rng, ground, head_N2)
    covered: Any = shapely.Polygon()
    step = max(len(outlines) // 24, 1)
    for start in range(0, len(outlines), step):
        covered = shapely.unary_union([covered, *outlines[start : start + step]])
        if covered.area >= wanted_m2:
            break
    parts = shapely.get_parts(shapely.intersection(covered, layout.extent))
    return tuple(part for part in parts if part.geom_type == "Polygon" and part.area > 60.0)


def _outlines(rng: np.random.Generator, ground: _Terrain, head_N2: F64) -> list[Any]:
    """One polygon per head: a path downhill with a width that grows, and ragged sides."""
    count = len(head_N2)
    length_N = ground.layout.slide_length_m * np.exp(rng.normal(0.0, 0.55, count))
    length_N = np.clip(length_N, 22.0, 420.0)
    path_NE2 = _paths(ground, head_N2, length_N / _STEPS)
    width_N = length_N * rng.uniform(0.22, 0.5, count)
    along_E = np.linspace(0.0, 1.0, path_NE2.shape[1])
    # Round head, a waist where the debris leaves it, and a wider tongue.
    form_E = np.sqrt(np.clip(1.0 - (2.0 * along_E - 1.0) ** 4, 0.0, 1.0)) * (0.8 + 0.35 * along_E)
    ragged_NE2 = np.exp(rng.normal(0.0, 0.16, (count, len(along_E), 2)))
    half_NE2 = 0.5 * width_N[:, None, None] * form_E[None, :, None] * ragged_NE2
    towards_NE2 = np.gradient(path_NE2, axis=1)
    size_NE = np.maximum(np.hypot(towards_NE2[..., 0], towards_NE2[..., 1]), 1e-9)
    normal_NE2 = np.stack([-towards_NE2[..., 1], towards_NE2[..., 0]], -1) / size_NE[..., None]
    left_NE2 = path_NE2 + normal_NE2 * half_NE2[..., :1]
    right_NE2 = path_NE2 - normal_NE2 * half_NE2[..., 1:]
    rings = np.concatenate([left_NE2, right_NE2[:, ::-1]], axis=1)
    return [shapely.buffer(shapely.Polygon(ring).buffer(0), 1.5).simplify(0.5) for ring in rings]


def _paths(ground: _Terrain, head_N2: F64, step_N: F64) -> F64:
    """Positions down the steepest descent, shape (slides, points, 2).

    On flat ground a path goes on in the direction it had, with shrinking steps.
    """
    place_N2, points = head_N2.copy(), [head_N2.copy()]
    direction_N2 = _unit(ground.at(ground.down_YX2, place_N2))
    moving_N = np.ones(len(head_N2))
    for _ in range(_STEPS):
        steepest_N2 = _unit(ground.at(ground.down_YX2, place_N2))
        direction_N2 = _unit(0.6 * direction_N2 + 0.4 * steepest_N2)
        flat_N = ground.at(ground.slope_YX, place_N2) < STOP_SLOPE_DEG
        moving_N = np.where(flat_N, 0.35 * moving_N, moving_N)
        place_N2 = place_N2 + direction_N2 * (step_N * moving_N)[:, None]
        points.append(place_N2)
    return np.stack(points, axis=1)


def _unit(vector_N2: Any) -> F64:
    size_N = np.maximum(np.hypot(vector_N2[:, 0], vector_N2[:, 1]), 1e-9)
    return np.asarray(vector_N2 / size_N[:, None], np.float64)


def _apart(scars: tuple[Any, ...], slides: tuple[Any, ...], gsd_m: float) -> tuple[Any, ...]:
    """The scars that lie at least two pixels from any fresh slide."""
    fresh = shapely.unary_union(list(slides)).buffer(2 * gsd_m)
    return tuple(scar for scar in scars if not scar.intersects(fresh))
