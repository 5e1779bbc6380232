"""The hills beside a synthetic town: terrain, slides of known outline, and what the town leaves."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from quakestream.synthetic.hazard_files import pixel_centres, write_raster
from quakestream.synthetic.hills import Hills, HillsLayout, make_hills
from quakestream.synthetic.hillsides import HILL_FROM_DEG
from quakestream.synthetic.settings import SizePreset
from quakestream.synthetic.shaking import Shaking
from quakestream.synthetic.town import FIELD, Town, TownBuildings
from quakestream.synthetic.world import SyntheticWorld, burn_polygons

F32 = NDArray[np.float32]

RELIEF_M = 110.0
FOOT_M = 110.0
HILLS_FROM = 0.3
"""Ground that is less of a plain than this is hills, however flat a ridge or a valley there is."""
"""Width of the strip in which the plain becomes hills."""
SLIDE_SHARE = 0.06
PGV_STEP_PX = 32
"""Shaking is smooth: it is computed for every so many pixels."""
DEM_STEP_DEG = 1.0 / 10_800
"""A third of an arc second, about 10 m."""
MARGIN_DEG = 0.006
LEAST_SLIDE_M2 = 100.0
"""Smaller outlines are no truth: no map is asked for them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upland:
    """Hills along the north of the extent."""

    hills: Hills
    side_YX: NDArray[np.bool_]
    """Hillsides, where no town is."""

    @property
    def painted_YX(self) -> NDArray[np.bool_]:
        """Hillsides, and the feet of slides that ran out on the plain."""
        return self.side_YX | (self.hills.slide_YX > 0)


def make_upland(
    seed: int, size: SizePreset, world: SyntheticWorld, shaking: Shaking
) -> Upland | None:
    """The hills of a preset; None where it has none."""
    if not size.hills:
        return None
    layout = HillsLayout(
        shape=world.shape,
        transform=world.transform,
        relief_m=RELIEF_M,
        valley_m=700.0,
        slide_length_m=45.0,
        slide_share=SLIDE_SHARE * size.hills,
        scar_share=0.4 * SLIDE_SHARE * size.hills,
    )
    t, (height, width) = world.transform, world.shape
    y = np.float32(t.f) + (np.arange(height, dtype=np.float32) + 0.5) * np.float32(t.e)
    foot_m = (0.5 - size.hills) * world.height_m
    plain_Y = np.clip(1.0 - (y - foot_m) / FOOT_M, 0.0, 1.0)
    plain_Y = plain_Y**2 * (3.0 - 2.0 * plain_Y)
    plain_YX = np.repeat(plain_Y[:, np.newaxis], width, axis=1).astype(np.float32)
    hills = make_hills(seed, layout, plain_YX=plain_YX, pgv_YX=_pgv(shaking, world))
    side_YX = (hills.slope_YX >= HILL_FROM_DEG) | (plain_YX < HILLS_FROM)
    return Upland(hills=hills, side_YX=side_YX)


def _pgv(shaking: Shaking, world: SyntheticWorld) -> F32:
    """Peak ground velocity of the world's raster, cm/s."""
    t, (height, width) = world.transform, world.shape
    x, y = np.meshgrid(
        t.c + (np.arange(0, width, PGV_STEP_PX) + PGV_STEP_PX / 2) * t.a,
        t.f + (np.arange(0, height, PGV_STEP_PX) + PGV_STEP_PX / 2) * t.e,
    )
    pgv = shaking.measures(np.column_stack([x.ravel(), y.ravel()]))["PGV"].reshape(x.shape)
    large = cv2.resize(pgv.astype(np.float32), (x.shape[1] * PGV_STEP_PX, len(x) * PGV_STEP_PX))
    return np.asarray(large[:height, :width], np.float32)


def on_the_plain(town: Town, upland: Upland, world: SyntheticWorld) -> Town:
    """The town without buildings, trees and blocks on hillsides; at their foot are fields."""
    buildings = town.buildings
    stands_N = ~_on(upland.side_YX, world, list(buildings.polygons))
    at_foot = _on(upland.side_YX, world, town.blocks)
    middles = [block.centroid.buffer(1.0) for block in town.blocks]
    block_stands = ~_on(upland.side_YX, world, middles)
    columns = {
        name: getattr(buildings, name)[stands_N] for name in TownBuildings.__dataclass_fields__
    }
    col, row = ~world.transform @ (town.trees_N3[:, 0], town.trees_N3[:, 1])
    height, width = world.shape
    row, col = (np.clip(v.astype(int), 0, n - 1) for v, n in ((row, height), (col, width)))
    return replace(
        town,
        blocks=[b for b, stands in zip(town.blocks, block_stands, strict=True) if stands],
        kind=np.where(at_foot, FIELD, town.kind)[block_stands],
        buildings=TownBuildings(**columns),
        trees_N3=town.trees_N3[~upland.side_YX[row, col]],
    )


def _on(
    mask_YX: NDArray[np.bool_], world: SyntheticWorld, polygons: list[Any]
) -> NDArray[np.bool_]:
    """True for polygons with a pixel where the mask is true."""
    id_YX = burn_polygons(world, polygons)
    hit_N = np.zeros(len(polygons) + 1, np.bool_)
    hit_N[np.unique(id_YX[mask_YX])] = True
    return hit_N[1:]


def dem_half_deg(world: SyntheticWorld) -> tuple[float, float]:
    """Half of the extent of terrain layers: that of the world and some 500 m around it.

    The slopes of the landslide prior are taken on pixels of 230 m and need a neighbour.
    """
    return (
        0.55 * world.width_m / 88_000.0 + MARGIN_DEG,
        0.55 * world.height_m / 111_000.0 + MARGIN_DEG,
    )


def write_dem(path: Path, upland: Upland, world: SyntheticWorld) -> None:
    """Writes elevations in metres on a lattice of a third of an arc second, EPSG:4326."""
    points, shape, transform = pixel_centres(world, DEM_STEP_DEG, dem_half_deg(world))
    col, row = ~world.transform @ (points[:, 0], points[:, 1])
    metres = map_coordinates(
        upland.hills.elevation_YX, [row - 0.5, col - 0.5], order=1, mode="nearest"
    )
    write_raster(path, metres.reshape(shape).astype(np.float32), transform, "elevation, m")


def slide_truth(upland: Upland, world: SyntheticWorld) -> gpd.GeoDataFrame:
    """Outlines of the slides within the extent, with their area, EPSG:4326."""
    half = world.width_m / 2, world.height_m / 2
    extent = shapely.box(-half[0], -half[1], *half)
    inside = shapely.intersection(np.array(upland.hills.slides, object), extent)
    inside = inside[shapely.area(inside) >= LEAST_SLIDE_M2]
    columns = {
        "slide_id": [f"s{n:03d}" for n in range(len(inside))],
        "area_m2": shapely.area(inside),
    }
    return gpd.GeoDataFrame(columns, geometry=list(world.to_lonlat(inside)), crs=4326)
