"""Scenes for the throughput of landslide runs: a tile like those of Sentinel-2, and a mosaic.

The tile shows green slopes with noise, since few slides are what a tile mostly holds: how long
reading and scoring take does not depend on the pixels, but joining slides does. Its files are
those of a product: bands at 10, 20 and 60 m of 16 bits, and a scene classification. The mosaic
repeats a real scene of half a metre.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import yaml
from affine import Affine
from rasterio.warp import transform_geom

from benchmarks.mosaic import POST, make_mosaic

EPSG = 32637
WEST_M, NORTH_M = 399_960.0, 4_200_000.0
NAME = "S2B_37SDB_20230209_0_L2A"
BANDS = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B05", "B06", "B07", "B8A", "B11", "B12"),
    60: ("B01", "B09", "B10"),
}
"""Bands by size of pixel, metres."""
GREEN = {
    "B01": 0.03, "B02": 0.03, "B03": 0.06, "B04": 0.03, "B05": 0.09, "B06": 0.25, "B07": 0.32,
    "B08": 0.35, "B8A": 0.36, "B09": 0.36, "B10": 0.002, "B11": 0.16, "B12": 0.07,
}  # fmt: skip
"""Reflectance of dense vegetation, a usual spectrum."""
OFFSET, PER_REFLECTANCE, NOISE = 1_000, 10_000, 100
"""Counts of level 2A since processing baseline 4.00, and the deviation of the noise."""
DEM_GSD_M = 30
EVENT = {"id": "mosaic", "time": "2023-02-06T01:17:34Z"}
POST_DAYS = {"datetime": "2023-02-06/2023-03-01"}


def sentinel_run(folder: Path, bundle: str, side_m: int) -> Path:
    """A run of landslides alone over a tile of 12 bands and a DEM. Files are kept between runs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    assets: dict[str, Any] = {}
    for gsd_m, names in BANDS.items():
        for name in names:
            path = folder / f"{name}.tif"
            if not path.exists():
                noise_YX = rng.normal(0, NOISE, _shape(side_m, gsd_m))
                counts_YX = OFFSET + PER_REFLECTANCE * GREEN[name] + noise_YX
                _write(path, counts_YX.clip(1, 65_535), "uint16", gsd_m)
            assets[name] = {"href": path.name, "type": "image/tiff", "gsd": gsd_m}
    if not (folder / "SCL.tif").exists():
        _write(folder / "SCL.tif", np.full(_shape(side_m, 20), 4), "uint8", 20)
        x_X = np.arange(_shape(side_m, DEM_GSD_M)[1]) * DEM_GSD_M
        ridge_YX = np.tile(400 * np.sin(x_X / 900), (_shape(side_m, DEM_GSD_M)[0], 1))
        _write(folder / "dem.tif", ridge_YX, "float32", DEM_GSD_M)
    assets["SCL"] = {"href": "SCL.tif", "type": "image/tiff"}
    item = folder / f"{NAME}.json"
    item.write_text(json.dumps(_item(side_m, assets)))
    content = {
        "event": EVENT,
        "aoi": shapely.geometry.shape(_square(side_m - 2 * DEM_GSD_M)).wkt,
        "imagery": {"catalog": str(item), "post": POST_DAYS},
        "terrain": {"dem": str(folder / "dem.tif")},
        "models": {"damage": None, "landslide": bundle},
        "out": str(folder / "out"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def mosaic_run(folder: Path, bundle: str, *, across: int, down: int) -> Path:
    """A run of landslides alone over the post scene of a mosaic of half a metre."""
    made = yaml.safe_load(make_mosaic(folder, across=across, down=down).read_text())
    scene = folder / f"mosaic_{POST}.tif"
    with rasterio.open(scene) as dataset:
        outline = transform_geom(
            dataset.crs, "EPSG:4326", shapely.geometry.mapping(shapely.box(*dataset.bounds))
        )
    content = {
        "event": made["event"],
        "aoi": shapely.geometry.shape(outline).wkt,
        "imagery": {"catalog": [str(scene)], "post": POST_DAYS},
        "models": {"damage": None, "landslide": bundle},
        "out": str(folder / "out-slides"),
    }
    path = folder / f"slides-{Path(bundle).name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _shape(side_m: int, gsd_m: int) -> tuple[int, int]:
    return side_m // gsd_m, side_m // gsd_m


def _write(path: Path, values_YX: Any, dtype: str, gsd_m: int) -> None:
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": values_YX.shape[0],
        "width": values_YX.shape[1],
        "dtype": dtype,
        "crs": EPSG,
        "transform": Affine(gsd_m, 0, WEST_M, 0, -gsd_m, NORTH_M),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "predictor": 3 if dtype == "float32" else 2,
        "nodata": None if dtype == "float32" else 0,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values_YX.astype(dtype), 1)


def _square(side_m: int) -> dict[str, Any]:
    """The tile's square less its margin, EPSG:4326."""
    west_m, north_m = WEST_M + DEM_GSD_M, NORTH_M - DEM_GSD_M
    square = shapely.box(west_m, north_m - side_m, west_m + side_m, north_m)
    shown: dict[str, Any] = transform_geom(
        f"EPSG:{EPSG}", "EPSG:4326", shapely.geometry.mapping(square)
    )
    return shown


def _item(side_m: int, assets: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": NAME,
        "geometry": _square(side_m),
        "properties": {
            "datetime": "2023-02-09T08:20:00Z",
            "platform": "sentinel-2b",
            "s2:processing_baseline": "05.09",
        },
        "links": [],
        "assets": assets,
    }
