"""The ground of the AOI: its area, what images cover of it, and its cells."""

from collections.abc import Iterable

import shapely
from shapely.geometry.base import BaseGeometry

from quakestream.catalog import scene_extent
from quakestream.domain import View
from quakestream.errors import AoiError
from quakestream.pipeline.kinds.units import LatticeOf
from quakestream.tiling import Cell, split_by_zone

MOST_CELLS = 4_000_000
"""Cells of one run: some million km². Each is a row of coverage, about 1 kB of the driver's."""


def ground_km2(area: BaseGeometry) -> float:
    """Ground of an area (EPSG:4326), km²."""
    if area.is_empty:
        return 0.0
    return sum(part.area for part in split_by_zone(area).values()) / 1e6


def covered_area(aoi: BaseGeometry, views: Iterable[View]) -> BaseGeometry:
    """The part of an AOI that some view shows: both of its images, where it has two.

    Outlines count. Clouds and pixels without data are found when the images are read.
    """
    parts = []
    for view in views:
        part = aoi
        for scene in view.scenes:
            part = shapely.intersection(part, scene_extent(scene))
        parts.append(part)
    return shapely.union_all(parts) if parts else shapely.Polygon()


def area_cells(
    zones: dict[int, BaseGeometry], lattice_of: LatticeOf, where: str
) -> tuple[Cell, ...]:
    """The cells of the AOI, each of which becomes a row of coverage.

    Raises:
        AoiError: if there are more than one run can hold.
    """
    about = sum(
        part.area / (lattice_of(epsg).cell_px * lattice_of(epsg).grid.gsd_m) ** 2
        for epsg, part in zones.items()
    )
    if about > MOST_CELLS:
        km2 = sum(part.area for part in zones.values()) / 1e6
        raise AoiError(
            "AOI is too large for one run",
            where,
            expected=f"at most {MOST_CELLS:,} cells",
            got=f"about {round(about, -5):,.0f}, on {km2:,.0f} km²",
            remedy="narrow it to where the footprints and the imagery are, or cut it into several",
        )
    return tuple(
        cell for epsg in sorted(zones) for cell in lattice_of(epsg).cells_over(zones[epsg])
    )
