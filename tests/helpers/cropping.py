"""Small worlds for a building bundle, and an oracle that scores crops without the pipeline."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from affine import Affine

from quakestream.bundles import load_bundle
from quakestream.engines import probabilities
from quakestream.pipeline.run import Result
from quakestream.raster.prepare import prepare_scene
from quakestream.raster.probe import probe
from quakestream.storage import StorageOptions
from quakestream.testing import World, make_world, write_building_bundle
from quakestream.testing.bundles import expected_logits
from quakestream.testing.worlds import EPSG, GSD_M, NORTH_M, WEST_M
from tests.helpers.mapping import edit

SIDE_PX = 1100
LAYER_GSD_M = 8.0


def crop_world(
    folder: Path,
    *,
    seed: int = 3,
    epochs: tuple[str, ...] = ("pre", "post"),
    hazard: tuple[str, ...] = (),
    window_px: int = 48,
    west_m: float = WEST_M,
) -> World:
    """A world of several cells, with ground that no scene after the event shows.

    The run gives VS30 and the layer `dpm`, which has a hole. It has no imagery.pre where the
    bundle takes post imagery alone.
    """
    world = make_world(folder, seed=seed, side_px=SIDE_PX, buildings=150, west_m=west_m)
    bundle = write_building_bundle(
        folder / "crops", window_px=window_px, epochs=epochs, hazard=hazard
    )
    with rasterio.open(world.post, "r+") as dataset:
        counts = dataset.read()
        counts[:, 300:420, 500:640] = 0
        dataset.write(counts)
    dpm, vs30 = folder / "dpm.tif", folder / "vs30.tif"
    write_layer(dpm, west_m, seed, hole=True)
    write_layer(vs30, west_m, seed + 1, low=300.0)

    def change(content: dict[str, Any]) -> None:
        content["models"] = {"damage": str(bundle)}
        content["execution"] = {
            "runtime": "onnxruntime",
            "threads": 1,
            "cell_windows": 1,
            "group_cells": 2,
        }
        content["hazard"] = {"vs30": str(vs30), "layers": {"dpm": str(dpm)}}
        if "pre" not in epochs:
            del content["imagery"]["pre"]

    edit(world.run_file, change)
    return world


def write_layer(path: Path, west_m: float, seed: int, low: float = 0.0, hole: bool = False) -> None:
    """A float raster that covers a world and 80 m around it."""
    side = int(SIDE_PX * GSD_M / LAYER_GSD_M) + 20
    values_YX = low + np.random.default_rng(seed).uniform(0, 1, (side, side)) * max(low, 1.0)
    if hole:
        values_YX[:, : side // 3] = np.nan
    transform = Affine(LAYER_GSD_M, 0, west_m - 80, 0, -LAYER_GSD_M, NORTH_M + 80)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": EPSG, "nodata": np.nan}
    with rasterio.open(
        path, "w", height=side, width=side, transform=transform, **profile
    ) as dataset:
        dataset.write(values_YX.astype(np.float32), 1)


def resample(path: Path, gsd_m: float) -> None:
    """Writes the scene anew with pixels of another size, off the grid of a run."""
    ratio = GSD_M / gsd_m
    with rasterio.open(path) as dataset:
        profile = dict(dataset.profile)
        side = int(dataset.height * ratio)
        counts = dataset.read(out_shape=(3, side, side))
        transform = dataset.transform @ Affine.scale(1 / ratio)
    path.unlink()
    profile |= {"transform": transform, "height": side, "width": side}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(counts)


def oracle(world: World, result: Result) -> pd.Series:
    """p_destroyed by building id: each crop is read by rasterio and scored in numpy.

    The world must lie in one zone, its scenes on the grid, without a measured shift.
    """
    spec = load_bundle(str(world.folder / "crops")).spec
    rows = result.buildings
    assert (rows["shift_m"].fillna(0) == 0).all()
    outlines = gpd.read_file(world.footprints).set_crs(4326).to_crs(EPSG).set_index("id")
    bounds = outlines.loc[rows["building_id"]].bounds.to_numpy()
    inputs: dict[str, Any] = {}
    for epoch in spec.epochs:
        path = world.post if epoch == "post" else world.pre
        statistics = _statistics(path)
        for name, value_B in zip(("mean", "std"), statistics, strict=True):
            inputs[f"{epoch}_{name}_NB"] = np.tile(np.float32(value_B), (len(rows), 1))
        fill_B = np.rint(statistics[0]).astype(np.uint8)
        with rasterio.open(path) as dataset:
            inputs[epoch] = np.stack([_crop(dataset, b, spec.window_px, fill_B) for b in bounds])
    inputs["hazard"] = np.stack(
        [np.asarray(rows.get(h.name, np.nan), np.float32) * np.ones(len(rows)) for h in spec.hazard]
        or [np.zeros(len(rows))],
        axis=1,
    )
    p_CN = probabilities(expected_logits(spec, inputs).T, spec)
    return pd.Series(p_CN[1], index=rows["building_id"])


def _statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from datetime import UTC, datetime

    from shapely.geometry import box

    from quakestream.domain import Scene

    options = StorageOptions()
    scene = Scene(id="s", href=str(path), datetime=datetime.now(UTC), outline=box(0, 0, 1, 1))
    found = prepare_scene(probe(scene, options), options).statistics
    return np.array(found.mean_B), np.array(found.std_B)


def _crop(dataset: Any, bounds: np.ndarray, side: int, fill_B: np.ndarray) -> np.ndarray:
    """The square nearest to the middle of the bounds, filled with `fill_B` beyond the scene."""
    west, south, east, north = bounds
    col, row = ~dataset.transform @ ((west + east) / 2, (south + north) / 2)
    left, top = round(col - side / 2), round(row - side / 2)
    window = rasterio.windows.Window(left, top, side, side)
    counts = dataset.read(window=window, boundless=True, fill_value=0)
    return np.where(counts.any(axis=0), counts, fill_B[:, None, None])
