"""A small world for the landslide prior: a ShakeMap and its layers, on grids of their own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from quakestream.fusion.nowicki_jessee import PriorTerms, slide_coverage
from quakestream.hazard.landslide_prior import PriorInputs

WEST, SOUTH, EAST, NORTH = 36.0, 37.0, 36.2, 37.1
"""Box of the ShakeMap."""
STEP = 1 / 480
PGV, SIGMA, GRADIENT, ROCK, COVER, CTI = 40.0, 0.3, 0.36, -1.87, 1.5, 5.0


def write_layer(
    path: Path,
    values: NDArray[Any] | float,
    step: float = STEP,
    west: float = WEST - 0.05,
    north: float = NORTH + 0.05,
    **profile: Any,
) -> str:
    """A raster over the box and 0.05° around it."""
    height, width = round(0.2 / step), round(0.3 / step)
    full = np.broadcast_to(np.asarray(values, np.float32), (height, width))
    given: dict[str, Any] = {
        "crs": "EPSG:4326",
        "transform": from_origin(west, north, step, step),
        "nodata": None,
    }
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype="float32",
        **(given | profile),
    ) as target:  # fmt: skip
        target.write(full, 1)
    return str(path)


def write_grid(
    path: Path,
    fields: dict[str, NDArray[Any] | float],
    *,
    west: float = WEST,
    south: float = SOUTH,
    spread: float | None = None,
    event: str = "us1",
) -> str:
    """A grid.xml or uncertainty.xml of 9 × 5 nodes, 0.025° apart."""
    lon, lat = west + np.arange(9) * 0.025, south + 0.1 - np.arange(5) * 0.025
    lon_YX, lat_YX = np.meshgrid(lon, lat)
    columns = [lon_YX, lat_YX, *(np.broadcast_to(v, lon_YX.shape) for v in fields.values())]
    rows = np.column_stack([column.ravel() for column in columns])
    described = "".join(
        f'<grid_field index="{i}" name="{name}" units="" />'
        for i, name in enumerate(["LON", "LAT", *fields], start=1)
    )
    whole = f'<event_specific_uncertainty name="pgv" value="{spread}" />' if spread else ""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'<shakemap_grid event_id="{event}" shakemap_version="1"><grid_specification '
        f'lon_min="{west}" lat_min="{south}" lon_max="{west + 0.2}" '
        f'lat_max="{south + 0.1}" nlon="9" '
        f'nlat="5" />{whole}{described}<grid_data>'
        + "\n".join(" ".join(f"{v:.6f}" for v in row) for row in rows)
        + "</grid_data></shakemap_grid>"
    )
    return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorWorld:
    """Files of one value each, whose prior is known; tests change one of them."""

    folder: Path
    inputs: PriorInputs

    def with_layer(self, name: str, values: NDArray[Any] | float, **profile: Any) -> PriorInputs:
        """The inputs with another raster for one layer."""
        path = self.folder / f"{name}-changed.tif"
        return replace(self.inputs, **{name: write_layer(path, values, **profile)})


def make_prior_world(folder: Path, west: float = WEST, south: float = SOUTH) -> PriorWorld:
    folder.mkdir(exist_ok=True)
    shakemap = write_grid(folder / "shake" / "grid.xml", {"PGV": PGV}, west=west, south=south)
    write_grid(folder / "shake" / "uncertainty.xml", {"STDPGV": SIGMA}, west=west, south=south)

    def layer(name: str, value: float, step: float = STEP) -> str:
        return write_layer(folder / f"{name}.tif", value, step, west - 0.05, south + 0.15)

    inputs = PriorInputs(
        shakemaps=(shakemap,),
        gradient=layer("gradient", GRADIENT),
        lithology=layer("lithology", ROCK),
        landcover=layer("landcover", COVER, 1 / 360),
        cti=layer("cti", CTI, 1 / 120),
    )
    return PriorWorld(folder=folder, inputs=inputs)


def expected(**changed: float) -> tuple[float, float]:
    """Coverage and deviation of the world by the formula, with other terms where they are given."""
    terms = {
        "pgv_cm_s": PGV,
        "slope_deg": float(np.degrees(np.arctan(GRADIENT))),
        "lithology": ROCK,
        "landcover": COVER,
        "cti": CTI,
        "stddev": 0.03,
        "sigma_ln_pgv": SIGMA,
    }
    found = slide_coverage(PriorTerms(**{k: np.array([v]) for k, v in (terms | changed).items()}))
    return float(found.coverage[0]), float(found.std[0])
