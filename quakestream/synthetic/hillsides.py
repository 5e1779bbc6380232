"""Paints hills onto a surface of 0.5 m: forest, grass, rivers, bare slides, overgrown scars."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.synthetic.hills import LITHOLOGY, Hills
from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import stream
from quakestream.synthetic.surface import Surface

F32 = NDArray[np.float32]

SOIL = {
    "granite": (0.52, 0.48, 0.43),
    "sandstone": (0.50, 0.42, 0.31),
    "schist": (0.40, 0.36, 0.32),
    "ash": (0.46, 0.37, 0.25),
}
"""Reflectance of freshly bared ground, red, green, blue."""
HILL_FROM_DEG = 6.0
"""Ground at least this steep is painted as hillside."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Looks:
    """Noise and colours of a hillside."""

    fine_YX: F32
    """Crowns of trees, tufts and stones."""
    patch_YX: F32
    """Stands of trees and clearings."""
    soil_YXB: F32
    """Colour of the ground where it is bare."""

    @classmethod
    def of(cls, seed: int, hills: Hills) -> "_Looks":
        rng, shape = stream(seed, "hillside"), hills.layout.shape
        gsd_m = hills.layout.gsd_m
        table = np.array([SOIL[name] for name in LITHOLOGY], np.float32)
        table = table * rng.normal(1.0, 0.08, (len(table), 1)).astype(np.float32)
        return cls(
            fine_YX=fractal(rng, shape, max(8.0 / gsd_m, 2.0), 1, gain=0.75),
            patch_YX=fractal(rng, shape, 160.0 / gsd_m, max(12.0 / gsd_m, 1.0)),
            soil_YXB=table[hills.lithology_YX],
        )


def paint_hillsides(
    seed: int, surface: Surface, hills: Hills, *, slid: bool, where_YX: NDArray[np.bool_]
) -> None:
    """Paints hillsides in place and gives the surface the elevation of the ground.

    The same seed paints the same trees before and after the event.

    Args:
        seed: any integer ≥ 0.
        surface: painted where `where_YX` is true; its raster is that of the hills.
        hills: terrain, slides and scars.
        slid: paint the fresh slides, as after the event.
        where_YX: ground that is hillside; `hills.slope_YX >= HILL_FROM_DEG` for all of it.
    """
    looks = _Looks.of(seed, hills)
    forest_YX = np.clip(1.5 * looks.patch_YX + 1.1, 0.0, 1.0)
    vegetation_YX = np.clip(0.35 + 0.6 * forest_YX + 0.08 * looks.fine_YX, 0.0, 1.0)
    tall_YX = forest_YX * np.maximum(4.0 + 2.2 * looks.fine_YX, 0.2)
    shade_YX = 1.0 + (0.10 + 0.10 * forest_YX) * looks.fine_YX
    albedo_YXB = looks.soil_YXB * (0.62 * shade_YX)[..., None]
    _paint_water(hills, looks, vegetation_YX, tall_YX, albedo_YXB)
    scar_YX = hills.scar_YX > 0
    vegetation_YX[scar_YX] *= 0.75
    tall_YX[scar_YX] *= 0.15
    if slid:
        _paint_slides(seed, hills, looks, (vegetation_YX, tall_YX, albedo_YXB))
    surface.vegetation_YX[where_YX] = vegetation_YX[where_YX]
    surface.height_YX[where_YX] = tall_YX[where_YX]
    for band in range(3):
        surface.albedo_BYX[band][where_YX] = np.clip(albedo_YXB[..., band], 0.02, 0.95)[where_YX]
    surface.ground_YX = hills.elevation_YX


def _paint_water(
    hills: Hills, looks: _Looks, vegetation_YX: F32, tall_YX: F32, albedo_YXB: F32
) -> None:
    """Water with gravel bars, which are bare and bright before and after the event."""
    gravel_YX = hills.river_YX & (looks.patch_YX > 0.35)
    water_YX = hills.river_YX & ~gravel_YX
    vegetation_YX[hills.river_YX] = 0.0
    tall_YX[hills.river_YX] = 0.0
    grain = 1.0 + 0.12 * looks.fine_YX[gravel_YX]
    albedo_YXB[gravel_YX] = np.array([0.47, 0.46, 0.43], np.float32) * grain[:, None]
    albedo_YXB[water_YX] = (0.06, 0.10, 0.11)


def _paint_slides(seed: int, hills: Hills, looks: _Looks, layers: tuple[F32, F32, F32]) -> None:
    """Bare ground with streaks downhill and rafts of vegetation that came down whole."""
    vegetation_YX, tall_YX, albedo_YXB = layers
    index = np.flatnonzero(hills.slide_YX)
    if not len(index):
        return
    row, col = np.divmod(index, hills.layout.shape[1])
    aspect = hills.aspect_YX.ravel()[index]
    gsd_m = hills.layout.gsd_m
    across_m = gsd_m * (col * np.sin(aspect) + row * np.cos(aspect))
    streak = np.sin(across_m * np.float32(2 * np.pi / 5.5) + 2.0 * looks.patch_YX.ravel()[index])
    fine = looks.fine_YX.ravel()[index]
    raft_YX = fractal(stream(seed, "rafts"), hills.layout.shape, max(14.0 / gsd_m, 1.0), 1.0)
    raft = raft_YX.ravel()[index] > 1.75
    bright = 1.0 + 0.07 * streak + 0.10 * fine
    albedo = albedo_YXB.reshape(-1, 3)
    albedo[index] = looks.soil_YXB.reshape(-1, 3)[index] * bright[:, None]
    vegetation_YX.ravel()[index] = np.where(raft, 0.7, 0.04).astype(np.float32)
    tall_YX.ravel()[index] = np.where(raft, 1.5, 0.25 * np.abs(fine)).astype(np.float32)
