"""How long does the landslide prior take from grid.xml to COG, and does memory stay flat?

Synthetic ShakeMaps and layers of growing areas, with the pixel sizes of the real ones, and the
whole command in a process of its own. Next to it, the difference from USGS's own outputs for Loma
Prieta 1989.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from benchmarks.common import data_dir, main, quakestream
from quakestream.config.terrain import ShakingBetween
from quakestream.hazard.landslide_prior import PriorInputs, open_prior

WEST, NORTH = 36.0, 40.0
KM_PER_DEGREE = 111.2
WAYS: tuple[ShakingBetween, ...] = ("bilinear", "triangles")
MOST_TRIANGLES_KM = 500.0
LAYERS = {  # pixel size in degrees, lowest and highest value
    "gradient": (1 / 480, 0.0, 0.7),
    "lithology": (1 / 480, -3.22, 0.0),
    "landcover": (1 / 360, -1.26, 2.34),
    "cti": (1 / 120, 0.0, 16.0),
    "stddev": (1 / 360, 0.02, 1.0),
}


def write_layers(folder: Path, side_deg: float) -> dict[str, str]:
    """Layers of random smooth values, a little larger than the ShakeMap."""
    random = np.random.default_rng(11)
    paths = {}
    for name, (step, low, high) in LAYERS.items():
        size = int((side_deg + 0.1) / step)
        coarse = random.random((size // 64 + 2, size // 64 + 2))
        values = np.kron(coarse, np.ones((64, 64)))[:size, :size] * (high - low) + low
        paths[name] = str(folder / f"{name}.tif")
        corner = from_origin(WEST - 0.05, NORTH + 0.05, step, step)
        with rasterio.open(
            paths[name], "w", driver="GTiff", width=size, height=size, count=1, dtype="float32",
            crs="EPSG:4326", transform=corner, tiled=True, compress="deflate",
        ) as target:  # fmt: skip
            target.write(values.astype(np.float32), 1)
    return paths


def write_shakemap(folder: Path, side_deg: float) -> str:
    """A ShakeMap with nodes every 30 arc-seconds, and its uncertainty."""
    nodes = int(side_deg * 120) + 1
    lon = WEST + np.arange(nodes) / 120
    lat = NORTH - np.arange(nodes) / 120
    distance = np.hypot(*np.meshgrid(lon - lon.mean(), lat - lat.mean()))
    _write_xml(folder / "grid.xml", lon, lat, {"PGV": 90 * np.exp(-distance)})
    _write_xml(folder / "uncertainty.xml", lon, lat, {"STDPGV": 0.2 + 0.1 * distance})
    return str(folder / "grid.xml")


def _write_xml(
    path: Path,
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    fields: dict[str, NDArray[np.float64]],
) -> None:
    names = ["LON", "LAT", *fields]
    described = "".join(
        f'<grid_field index="{i}" name="{name}" units="" />' for i, name in enumerate(names, 1)
    )
    lon_YX, lat_YX = np.meshgrid(lon, lat)
    table = np.column_stack([lon_YX.ravel(), lat_YX.ravel(), *(v.ravel() for v in fields.values())])
    with open(path, "w") as file:
        file.write(
            '<shakemap_grid event_id="synthetic" shakemap_version="1"><grid_specification '
            f'lon_min="{lon[0]:.6f}" lon_max="{lon[-1]:.6f}" lat_min="{lat[-1]:.6f}" '
            f'lat_max="{lat[0]:.6f}" nlon="{len(lon)}" nlat="{len(lat)}" />{described}<grid_data>\n'
        )
        np.savetxt(file, table, fmt="%.6f")
        file.write("</grid_data></shakemap_grid>")


def timed(side_km: float, shaking: ShakingBetween) -> dict[str, Any]:
    """The whole command for a square ShakeMap."""
    folder = Path(tempfile.mkdtemp(prefix="quakestream-prior-"))
    try:
        side_deg = side_km / KM_PER_DEGREE
        paths = write_layers(folder, side_deg)
        options = [word for name, path in paths.items() for word in (f"--{name}", path)]
        target = folder / "prior.tif"
        options += ["--shakemap", write_shakemap(folder, side_deg), "--shaking", shaking]
        done = quakestream("prior", *options, "-o", str(target))
        if done.returncode:
            raise SystemExit(done.stderr)
        with rasterio.open(target) as raster:
            pixels = raster.width * raster.height
        return {
            "side_km": side_km,
            "shaking": shaking,
            "pixels": pixels,
            "wall_s": round(done.wall_s, 1),
            "peak_mb": round(done.peak_mb),
            "cog_mb": round(target.stat().st_size / 1e6, 1),
        }
    finally:
        shutil.rmtree(folder)


def against_usgs(shaking: ShakingBetween) -> dict[str, Any]:
    """Differences from USGS's outputs, cell by cell; empty where the data are absent."""
    folder = data_dir() / "lomaprieta-1989-shakemap-groundfailure"
    if not folder.is_dir():
        return {}
    layers = folder / "model_inputs"
    inputs = PriorInputs(
        shakemaps=(str(folder / "shakemap/grid.xml"),),
        lithology=str(layers / "GLIM_replace.tif"),
        landcover=str(layers / "globcover_replace.tif"),
        cti=str(layers / "global_cti_fil.grd"),
        stddev=str(layers / "jessee_standard_deviation.tif"),
        gradient=str(layers / "global_grad.tif"),
        shaking=shaking,
    )
    with open_prior(inputs) as prior:
        found = prior.read(prior.window())
    rows = {}
    for name, ours in {"jessee_2018": found.coverage, "jessee_2018_std": found.std}.items():
        with rasterio.open(folder / f"model_outputs/{name}.grd") as raster:
            theirs = raster.read(1)[:, : ours.shape[1]]
        known = (np.abs(theirs) < 1e30) & np.isfinite(ours)
        off = np.abs(ours - theirs)[known]
        relative = off[theirs[known] > 0] / theirs[known][theirs[known] > 0]
        rows[name] = {
            "cells": int(known.sum()),
            "max_difference": round(float(off.max()), 6),
            "mean_difference": round(float(off.mean()), 7),
            "within_1_percent": round(float((relative < 0.01).mean()), 4),
            "median_relative": round(float(np.median(relative)), 5),
        }
    return rows


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    sides = (125.0,) if quick else (125.0, 250.0, 500.0, 1000.0)
    cases: list[tuple[float, ShakingBetween]] = [(side, "bilinear") for side in sides]
    cases += [(side, "triangles") for side in sides if side <= MOST_TRIANGLES_KM]
    metrics = {
        "rows": [timed(*case) for case in cases],
        "against_usgs": {way: against_usgs(way) for way in WAYS},
    }
    return {"sides_km": list(sides), "layers": "synthetic, pixel sizes of USGS's"}, metrics


if __name__ == "__main__":
    main("prior", run)
