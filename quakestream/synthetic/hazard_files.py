"""Writes hazard layers in the form of their agencies: ShakeMap grid.xml, VS30, SAR proxy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin

from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import EVENT_TIME, stream
from quakestream.synthetic.shaking import MEASURES, UNITS, BuildingDamage, Shaking
from quakestream.synthetic.town import TownBuildings
from quakestream.synthetic.world import SyntheticWorld

F64 = NDArray[np.float64]

GRID_STEP_DEG = 0.0025
GRID_HALF_DEG = 0.08
VS30_STEP_DEG = 1.0 / 1200
"""3 arc seconds, about 90 m."""
PROXY_STEP_DEG = 1.0 / 3600
"""1 arc second, about 30 m."""
SPREAD_LN_PGV = 0.55
"""Standard deviation of ln(PGV), as where no station is near."""
NODATA = -9999.0


def write_shakemap(path: Path, shaking: Shaking, world: SyntheticWorld, event_id: str) -> None:
    """Writes `grid.xml` as the USGS does (ShakeMap 4 manual): rows from north-west, east first."""
    lon_N, lat_N = _shakemap_nodes(world)
    values = shaking.measures(world.from_crs(np.column_stack([lon_N, lat_N]), "EPSG:4326"))
    head = _shakemap_head(shaking, world, event_id, UNITS)
    _write_grid(path, head, [lon_N, lat_N, *(values[name] for name in MEASURES)])


def write_uncertainty(path: Path, shaking: Shaking, world: SyntheticWorld, event_id: str) -> None:
    """Writes `uncertainty.xml`, the standard deviations that lie beside a `grid.xml`."""
    lon_N, lat_N = _shakemap_nodes(world)
    head = _shakemap_head(shaking, world, event_id, {"STDPGV": "ln(cm/s)"})
    _write_grid(path, head, [lon_N, lat_N, np.full(len(lon_N), SPREAD_LN_PGV)])


def _shakemap_nodes(world: SyntheticWorld) -> tuple[F64, F64]:
    """Longitudes and latitudes of the nodes: rows from the north-west, east first."""
    lon0, lat0 = np.round([world.lon, world.lat], 2)
    steps = round(GRID_HALF_DEG / GRID_STEP_DEG)
    offset = np.arange(-steps, steps + 1) * GRID_STEP_DEG
    lat, lon = (a.ravel() for a in np.meshgrid(lat0 - offset, lon0 + offset, indexing="ij"))
    return np.round(lon, 4), np.round(lat, 4)


def _write_grid(path: Path, head: str, columns: list[F64]) -> None:
    rows = "\n".join(
        f"{row[0]:.4f} {row[1]:.4f} " + " ".join(f"{value:.4g}" for value in row[2:])
        for row in np.column_stack(columns)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}<grid_data>\n{rows}\n</grid_data>\n</shakemap_grid>\n", "utf-8")


def _shakemap_head(
    shaking: Shaking, world: SyntheticWorld, event_id: str, units: Mapping[str, str]
) -> str:
    epicentre = world.to_crs(np.array([shaking.epicentre_m]), "EPSG:4326")[0]
    lon0, lat0 = (float(v) for v in np.round([world.lon, world.lat], 2))
    count = 2 * round(GRID_HALF_DEG / GRID_STEP_DEG) + 1
    fields = [("LON", "dd"), ("LAT", "dd"), *units.items()]
    lines = "\n".join(
        f'<grid_field index="{i}" name="{name}" units="{unit}" />'
        for i, (name, unit) in enumerate(fields, start=1)
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<shakemap_grid xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xmlns="http://earthquake.usgs.gov/eqcenter/shakemap" \
xsi:schemaLocation="http://earthquake.usgs.gov \
http://earthquake.usgs.gov/eqcenter/shakemap/xml/schemas/shakemap.xsd" \
event_id="{event_id}" shakemap_id="{event_id}" shakemap_version="1" \
code_version="synthetic" process_timestamp="{EVENT_TIME:%Y-%m-%dT%H:%M:%SZ}" \
shakemap_originator="qs" map_status="RELEASED" shakemap_event_type="SCENARIO">
<event event_id="{event_id}" magnitude="{shaking.magnitude}" depth="{shaking.depth_km}" \
lat="{epicentre[1]:.4f}" lon="{epicentre[0]:.4f}" \
event_timestamp="{EVENT_TIME:%Y-%m-%dT%H:%M:%S}UTC" event_network="qs" \
event_description="Synthetic earthquake" />
<grid_specification lon_min="{lon0 - GRID_HALF_DEG:.4f}" lat_min="{lat0 - GRID_HALF_DEG:.4f}" \
lon_max="{lon0 + GRID_HALF_DEG:.4f}" lat_max="{lat0 + GRID_HALF_DEG:.4f}" \
nominal_lon_spacing="{GRID_STEP_DEG:.6f}" nominal_lat_spacing="{GRID_STEP_DEG:.6f}" \
nlon="{count}" nlat="{count}" />
<event_specific_uncertainty name="mi" value="0.4" numsta="0" />
{lines}
"""


def pixel_centres(
    world: SyntheticWorld, step_deg: float, half_deg: tuple[float, float]
) -> tuple[F64, tuple[int, int], rasterio.Affine]:
    """Pixel centres of an EPSG:4326 raster around the town (world metres), shape, transform."""
    west = np.floor((world.lon - half_deg[0]) / step_deg) * step_deg
    north = np.ceil((world.lat + half_deg[1]) / step_deg) * step_deg
    shape = (int(np.ceil(2 * half_deg[1] / step_deg)), int(np.ceil(2 * half_deg[0] / step_deg)))
    lat, lon = np.meshgrid(
        north - (np.arange(shape[0]) + 0.5) * step_deg,
        west + (np.arange(shape[1]) + 0.5) * step_deg,
        indexing="ij",
    )
    points = world.from_crs(np.column_stack([lon.ravel(), lat.ravel()]), "EPSG:4326")
    return points, shape, from_origin(float(west), float(north), step_deg, step_deg)


def write_vs30(path: Path, shaking: Shaking, world: SyntheticWorld) -> None:
    """Writes VS30 in m/s on a 3 arc second lattice, EPSG:4326."""
    points, shape, transform = pixel_centres(world, VS30_STEP_DEG, (0.03, 0.03))
    values_YX = shaking.vs30_m_s(points).reshape(shape).astype(np.float32)
    write_raster(path, values_YX, transform, "VS30, m/s")


def write_damage_proxy(
    path: Path, seed: int, world: SyntheticWorld, buildings: TownBuildings, damage: BuildingDamage
) -> None:
    """Writes a noisy proxy of destroyed area on a 1 arc second lattice, 0..1, partly nodata.

    The proxy stands for loss of coherence between radar passes. It rises with destroyed area
    nearby, and also without damage (vegetation, traffic). It is nodata outside the swath.
    """
    rng = stream(seed, "proxy")
    half_deg = (0.6 * world.width_m / 88_000.0, 0.6 * world.height_m / 111_000.0)
    points, shape, transform = pixel_centres(world, PROXY_STEP_DEG, half_deg)
    area = np.asarray(shapely.area(buildings.polygons))
    weight = np.exp(
        -((points[:, None, :] - buildings.centre_N2[None, :, :]) ** 2).sum(-1) / (2 * 22.0**2)
    )
    fallen = weight @ (area * damage.severity * damage.destroyed)
    share = fallen / (weight @ area + 60.0)
    noise = 0.10 * fractal(rng, shape, 4, 1, gain=0.9).ravel()
    proxy = np.clip(0.18 + 0.62 * share + noise, 0.0, 1.0)
    bearing = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(bearing), np.sin(bearing)])
    edge_m = 0.36 * min(world.width_m, world.height_m)
    outside = (points @ normal > edge_m) | (rng.random(len(points)) < 0.02)
    values_YX = np.where(outside, NODATA, proxy).reshape(shape).astype(np.float32)
    write_raster(path, values_YX, transform, "damage proxy, 0..1")


def write_raster(
    path: Path, values_YX: NDArray[np.float32], transform: rasterio.Affine, description: str
) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=values_YX.shape[1],
        height=values_YX.shape[0],
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=transform,
        nodata=NODATA,
        compress="deflate",
        predictor=3,
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as file:
        file.write(values_YX, 1)
        file.set_band_description(1, description)
