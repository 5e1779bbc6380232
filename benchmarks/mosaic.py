"""Large scene pairs made of a real one, repeated at new positions."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import yaml
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.common import data_dir

SCENE = "adiyaman3"
SCENE_GSD_M = 0.5
PRE, POST = "pre_20220817", "post_20230212"


def make_mosaic(
    folder: Path, *, across: int, down: int, every: int = 1, gsd_m: float | None = None
) -> Path:
    """A pre and a post scene of `across` × `down` copies of one pair, each `every`-th of its
    boxes as footprints, and a run file. Returns the run file. Kept between runs.

    Args:
        gsd_m: what the mosaic declares its pixels to be, boxes alike; else the scene's 0.5 m.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = data_dir() / "turkiye-2023-scenes"
    paths = []
    for epoch in (PRE, POST):
        path = folder / f"mosaic_{epoch}.tif"
        if not path.exists():
            _repeat(source / "imagery" / f"{SCENE}_{epoch}_50cm.tif", path, (across, down), gsd_m)
        paths.append(path)
    boxes = folder / f"boxes-{every}.parquet"
    if not boxes.exists():
        _boxes(source, paths[0], across, down).iloc[::every].to_parquet(boxes)
    run_file = folder / f"run-{every}.yaml"
    run_file.write_text(yaml.safe_dump(_run(folder, paths, boxes)))
    return run_file


def _repeat(source: Path, target: Path, copies: tuple[int, int], gsd_m: float | None) -> None:
    across, down = copies
    with rasterio.open(source) as scene:
        pixels = scene.read()
        transform = scene.transform
        if gsd_m is not None:
            transform = from_origin(transform.c, transform.f, gsd_m, gsd_m)
        profile = {
            **scene.profile,
            "driver": "GTiff",
            "transform": transform,
            "width": scene.width * across,
            "height": scene.height * down,
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "jpeg",
            "photometric": "ycbcr",
            "BIGTIFF": "IF_SAFER",
        }
        with rasterio.open(target, "w", **profile) as mosaic:
            strip = np.tile(pixels, (1, 1, across))
            for row in range(down):
                window = Window(0, row * scene.height, scene.width * across, scene.height)
                mosaic.write(strip, window=window)
    with rasterio.open(target, "r+") as mosaic:
        mosaic.build_overviews([2, 4, 8, 16], rasterio.enums.Resampling.average)


def _boxes(source: Path, scene: Path, across: int, down: int) -> gpd.GeoDataFrame:
    boxes = gpd.read_file(source / "labels" / f"{SCENE}_detection_boxes.geojson")
    boxes = boxes[boxes["status"] != "only_in_post"]
    with rasterio.open(scene) as mosaic:
        crs, bounds, gsd_m = mosaic.crs, mosaic.bounds, mosaic.res[0]
    step_x, step_y = (bounds.right - bounds.left) / across, (bounds.top - bounds.bottom) / down
    scale = gsd_m / SCENE_GSD_M
    projected = boxes.to_crs(crs).geometry.scale(scale, scale, origin=(bounds.left, bounds.top))
    parts = [
        projected.translate(col * step_x, -row * step_y)
        for row in range(down)
        for col in range(across)
    ]
    geometry = gpd.GeoSeries(pd.concat(parts, ignore_index=True), crs=crs)
    ids = [f"b{n:07}" for n in range(len(geometry))]
    return gpd.GeoDataFrame({"id": ids}, geometry=geometry).to_crs(4326)


def _run(folder: Path, paths: list[Path], boxes: Path) -> dict[str, Any]:
    area = gpd.read_parquet(boxes).total_bounds
    return {
        "event": {"id": "mosaic", "time": "2023-02-06T01:17:34Z"},
        "aoi": ",".join(f"{v:.6f}" for v in (area + np.array([-0.001, -0.001, 0.001, 0.001]))),
        "imagery": {
            "catalog": [str(p) for p in paths],
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(boxes), "id": "id"},
        "out": str(folder / "out"),
    }


def describe(run_file: Path) -> dict[str, Any]:
    """Pixels of the mosaic, both epochs."""
    run = yaml.safe_load(run_file.read_text())
    with rasterio.open(run["imagery"]["catalog"][0]) as scene:
        mpx = scene.width * scene.height / 1e6
    return {"mpx_per_epoch": round(mpx, 1)}
