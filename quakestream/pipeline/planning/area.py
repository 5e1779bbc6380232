"""The cells of the AOI."""

from shapely.geometry.base import BaseGeometry

from quakestream.errors import AoiError
from quakestream.pipeline.kinds.units import LatticeOf
from quakestream.tiling import Cell

MOST_CELLS = 4_000_000
"""Cells of one run: some million km². Each is a row of coverage, about 1 kB of the driver's."""


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
