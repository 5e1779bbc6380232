"""Small worlds on disk: a scene pair, footprints and a run file, made in milliseconds.

They serve tests of laws, which need pixels that all differ. For a realistic town use
`quakestream.synthetic`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry import box, mapping

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec
from quakestream.testing.bundles import CLASSES
from quakestream.tiling import unproject

EPSG = 32637
WEST_M, NORTH_M = 320_000.0, 4_160_000.0
GSD_M = 0.5
BORDER_M = 234_968.0
"""Easting of 36°E, where zone 37 ends, at the north edge of a small world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Files of a small world."""

    folder: Path
    run_file: Path
    pre: Path
    post: Path
    footprints: Path


def write_bundle(
    folder: Path,
    *,
    window_px: int = 96,
    halo_px: int = 16,
    epochs: tuple[str, ...] = ("pre", "post"),
) -> Path:
    """A bundle without a network, for the runtimes `threshold` and `uniform`."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = BundleSpec(
        name="no-network",
        version="1",
        task="segmentation",
        epochs=epochs,
        bands=("red", "green", "blue"),
        gsd_m=GSD_M,
        window_px=window_px,
        halo_px=halo_px,
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
        classes=CLASSES,
    )
    golden: dict[str, NDArray[Any]] = {}
    for epoch in epochs:
        golden[epoch] = np.zeros((1, 3, window_px, window_px), np.uint8)
        golden[f"{epoch}_mean_NB"] = np.full((1, 3), 120, np.float32)
        golden[f"{epoch}_std_NB"] = np.full((1, 3), 50, np.float32)
    golden["logits"] = np.zeros((1, 2, window_px, window_px), np.float32)
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    (folder / "model.onnx").write_bytes(b"no network")
    write_manifest(folder, spec)
    return folder


def make_world(
    folder: Path,
    *,
    seed: int = 0,
    side_px: int = 420,
    buildings: int = 60,
    execution: dict[str, Any] | None = None,
    west_m: float = WEST_M,
) -> World:
    """Two scenes of noise at 0.5 m, overlapping footprints, and an AOI around them.

    Args:
        execution: the run file's `execution` section over `{"runtime": "threshold"}`.
        west_m: west edge of the scenes, metres in zone 37. `BORDER_M` less half their side puts
            them on the border with zone 36.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    base_BYX = rng.integers(30, 200, (3, side_px, side_px))
    change_BYX = rng.integers(-60, 61, (3, side_px, side_px))
    pre, post = folder / "pre_20220801.tif", folder / "post_20230210.tif"
    where = Affine(GSD_M, 0, west_m, 0, -GSD_M, NORTH_M)
    write_scene(pre, base_BYX.astype(np.uint8), transform=where)
    write_scene(post, (base_BYX + change_BYX).clip(1, 255).astype(np.uint8), transform=where)
    footprints = folder / "footprints.geojson"
    _write_footprints(footprints, rng, _ground(side_px, west_m), buildings)
    bundle = write_bundle(folder / "bundle")
    run_file = folder / "run.yaml"
    area = unproject(np.array([_ground(side_px, west_m).buffer(50)], object), EPSG)[0]
    content = {
        "event": {"id": "small-world", "time": "2023-02-06T01:17:34Z"},
        "aoi": area.wkt,
        "imagery": {
            "catalog": [str(pre), str(post)],
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(footprints), "id": "id"},
        "models": {"damage": str(bundle)},
        "execution": {"runtime": "threshold", **(execution or {})},
        "out": str(folder / "out"),
    }
    run_file.write_text(yaml.safe_dump(content))
    return World(folder=folder, run_file=run_file, pre=pre, post=post, footprints=footprints)


def write_scene(
    path: Path,
    counts_BYX: NDArray[np.uint8],
    *,
    transform: Affine | None = None,
    crs: Any = EPSG,
    **options: Any,
) -> None:
    """A tiled, deflated GeoTIFF."""
    bands, height, width = counts_BYX.shape
    profile = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": "uint8",
        "crs": crs,
        "transform": transform or Affine(GSD_M, 0, WEST_M, 0, -GSD_M, NORTH_M),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
        **options,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(counts_BYX)


def _ground(side_px: int, west_m: float) -> Any:
    side_m = side_px * GSD_M
    return box(west_m, NORTH_M - side_m, west_m + side_m, NORTH_M)


def _write_footprints(path: Path, rng: np.random.Generator, ground: Any, count: int) -> None:
    """Boxes of 4 to 20 m. Some overlap, some cross the edge of the scenes, some lie beyond."""
    west_m, _, east_m, north_m = ground.bounds
    side_m = east_m - west_m
    features = []
    for n in range(count):
        x, y = rng.uniform(-14, side_m + 2, 2)
        width, height = rng.uniform(4, 20, 2)
        outline = box(west_m + x, north_m - y - height, west_m + x + width, north_m - y)
        outline = unproject(np.array([outline], object), EPSG)[0]
        features.append(
            {"type": "Feature", "properties": {"id": f"b{n:03}"}, "geometry": mapping(outline)}
        )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
