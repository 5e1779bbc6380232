"""The plane of the world, in metres east and north of its centre, and its raster."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.features import rasterize

from quakestream.domain import utm_epsg
from quakestream.synthetic.settings import GSD_M, MARGIN_M, SizePreset

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticWorld:
    """A plane that touches the Earth at the town, shared by scenes of two UTM zones."""

    width_m: float
    height_m: float
    lon: float
    lat: float

    @classmethod
    def of(cls, preset: SizePreset) -> "SyntheticWorld":
        width_m, height_m = preset.extent_m
        return cls(width_m=width_m, height_m=height_m, lon=preset.lon, lat=preset.lat)

    @property
    def crs(self) -> CRS:
        return CRS.from_proj4(
            f"+proj=tmerc +lat_0={self.lat} +lon_0={self.lon} +k=1 +datum=WGS84 +units=m"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the painted raster with its margin, pixels."""
        return (
            round((self.height_m + 2 * MARGIN_M) / GSD_M),
            round((self.width_m + 2 * MARGIN_M) / GSD_M),
        )

    @property
    def transform(self) -> Affine:
        """Affine map of raster (col, row) to world metres."""
        west, north = -self.width_m / 2 - MARGIN_M, self.height_m / 2 + MARGIN_M
        return Affine(GSD_M, 0.0, west, 0.0, -GSD_M, north)

    @property
    def home_epsg(self) -> int:
        return utm_epsg(self.lon, self.lat)

    @property
    def neighbour_epsg(self) -> int:
        """The UTM zone across the nearer zone boundary."""
        west_half = (self.lon + 180.0) % 6.0 < 3.0
        return utm_epsg(self.lon + (-6.0 if west_half else 6.0), self.lat)

    def at(self, fraction_x: float, fraction_y: float) -> tuple[float, float]:
        """World metres of a position in fractions of the extent."""
        return (fraction_x - 0.5) * self.width_m, (fraction_y - 0.5) * self.height_m

    def to_crs(self, points_N2: F64, crs: Any) -> F64:
        """Converts world metres to coordinates (x, y) of another CRS."""
        step = Transformer.from_crs(self.crs, crs, always_xy=True)
        x, y = step.transform(points_N2[:, 0], points_N2[:, 1])
        return np.column_stack([x, y])

    def from_crs(self, points_N2: F64, crs: Any) -> F64:
        step = Transformer.from_crs(crs, self.crs, always_xy=True)
        x, y = step.transform(points_N2[:, 0], points_N2[:, 1])
        return np.column_stack([x, y])

    def to_lonlat(self, geometries: Any) -> Any:
        """Converts world geometries to EPSG:4326, rounded to about a millimetre."""
        moved = shapely.transform(geometries, lambda xy: self.to_crs(xy, "EPSG:4326"))
        return shapely.transform(moved, lambda xy: np.round(xy, 8))


def transform_points(transform: Affine, points_N2: F64) -> F64:
    """Points (x, y) or (col, row) after an affine map."""
    x, y = points_N2[:, 0], points_N2[:, 1]
    t = transform
    return np.column_stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f])


def quads(centre_N2: F64, half_N2: F64, angle_N: F64) -> F64:
    """Corners of rotated rectangles, shape (N, 4, 2).

    `half_N2` is the half length along `angle_N` and the half width across it. Angles are
    radians, counter-clockwise from east.
    """
    signs = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    local = half_N2[:, None, :] * signs
    cos, sin = np.cos(angle_N)[:, None], np.sin(angle_N)[:, None]
    return np.stack(
        [
            centre_N2[:, None, 0] + local[..., 0] * cos - local[..., 1] * sin,
            centre_N2[:, None, 1] + local[..., 0] * sin + local[..., 1] * cos,
        ],
        axis=-1,
    )


def burn_quads(world: SyntheticWorld, corners_NE2: F64) -> NDArray[np.int32]:
    """Index + 1 of the last shape that covers each pixel of the world's raster, else 0."""
    return _burn(world, [ring.tolist() for ring in corners_NE2])


def burn_polygons(world: SyntheticWorld, polygons: list[Any]) -> NDArray[np.int32]:
    """Index + 1 of the last polygon that covers each pixel, else 0; holes are filled."""
    return _burn(world, [shapely.get_coordinates(p.exterior).tolist() for p in polygons])


def _burn(world: SyntheticWorld, rings: list[Any]) -> NDArray[np.int32]:
    if not rings:
        return np.zeros(world.shape, np.int32)
    shapes = (
        ({"type": "Polygon", "coordinates": [ring if ring[0] == ring[-1] else [*ring, ring[0]]]}, i)
        for i, ring in enumerate(rings, start=1)
    )
    burnt: NDArray[np.int32] = rasterize(
        shapes, out_shape=world.shape, transform=world.transform, fill=0, dtype="int32"
    )
    return burnt
