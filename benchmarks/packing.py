"""Does the map hang on how its scenes were packed? Kahramanmaraş, packed in many ways.

The pair (JPEG, averaged overviews) is decoded once and saved anew. Two bundles map each packing.
Each map is compared with two others, building by building: with that of the file as it came, and
with that of plain deflate.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling

from benchmarks.common import data_dir, main, quakestream
from benchmarks.kahramanmaras import write_run
from quakestream.config import DEFAULT_DAMAGE_MODEL

BUNDLES = (DEFAULT_DAMAGE_MODEL, "damage-context-2023")
PLAIN, ORIGINAL = "deflate, no overviews", "as it came (JPEG)"
TILES = {"tiled": True, "blockxsize": 512, "blockysize": 512}
SMALL = {"tiled": True, "blockxsize": 256, "blockysize": 256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How both scenes are saved."""

    options: dict[str, Any]
    overviews: Resampling | None = None
    noise: int | None = None
    """Seed of noise of -1, 0 or 1 count on every value; None for none."""
    cut: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels cut at the top, left, bottom and right."""


DEFLATE = {"compress": "deflate", **TILES}
PACKINGS = {
    PLAIN: Packing(options=DEFLATE),
    "deflate, average": Packing(options=DEFLATE, overviews=Resampling.average),
    "deflate, nearest": Packing(options=DEFLATE, overviews=Resampling.nearest),
    "deflate, gauss": Packing(options=DEFLATE, overviews=Resampling.gauss),
    "deflate, bilinear": Packing(options=DEFLATE, overviews=Resampling.bilinear),
    "deflate, cubic": Packing(options=DEFLATE, overviews=Resampling.cubic),
    "ZSTD in tiles of 256, average": Packing(
        options={"compress": "zstd", **SMALL}, overviews=Resampling.average
    ),
    "LZW in strips": Packing(options={"compress": "lzw"}),
    "uncompressed strips": Packing(options={}),
    "JPEG again at quality 95": Packing(
        options={"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 95, **TILES}
    ),
    "noise of ±1 (first)": Packing(options=DEFLATE, noise=0),
    "noise of ±1 (second)": Packing(options=DEFLATE, noise=1),
    "noise of ±1 (third)": Packing(options=DEFLATE, noise=2),
    "cut by 1 px at the top": Packing(options=DEFLATE, cut=(1, 0, 0, 0)),
    "cut by 1 px at the left": Packing(options=DEFLATE, cut=(0, 1, 0, 0)),
    "cut by 1 px on all sides": Packing(options=DEFLATE, cut=(1, 1, 1, 1)),
}
QUICK = (PLAIN, "deflate, nearest", "noise of ±1 (first)", "cut by 1 px on all sides")


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    source = data_dir() / "kahramanmaras-2023-main"
    images = sorted((source / "imagery").glob("*.tif"))
    names = QUICK if quick else tuple(PACKINGS)
    folder = Path(tempfile.mkdtemp(prefix="quakestream-packing-"))
    maps: dict[str, dict[str, gpd.GeoDataFrame]] = {bundle: {} for bundle in BUNDLES}
    try:
        for name in (ORIGINAL, *names):
            packed = list(_written(images, folder, PACKINGS[name])) if name in PACKINGS else images
            for bundle in BUNDLES:
                maps[bundle][name] = _map(source, folder, packed, bundle)
    finally:
        shutil.rmtree(folder)
    rows = [row for bundle in BUNDLES for row in _rows(bundle, maps[bundle])]
    return {"bundles": list(BUNDLES), "footprints": len(maps[BUNDLES[0]][ORIGINAL])}, {"rows": rows}


def _rows(bundle: str, maps: dict[str, gpd.GeoDataFrame]) -> list[dict[str, Any]]:
    return [
        {
            "bundle": bundle,
            "packing": name,
            "destroyed": int((found["damage"] == 1).sum()),
            **_apart(found, maps[ORIGINAL], "original"),
            **_apart(found, maps[PLAIN], "plain"),
        }
        for name, found in maps.items()
    ]


def _apart(found: gpd.GeoDataFrame, other: gpd.GeoDataFrame, name: str) -> dict[str, Any]:
    shift_m = (found["shift_m"] - other["shift_m"]).abs()
    return {
        f"flips_from_{name}": int((found["damage"] != other["damage"]).sum()),
        f"score_from_{name}": _largest((found["score"] - other["score"]).abs()),
        f"probability_from_{name}": _largest((found["p_destroyed"] - other["p_destroyed"]).abs()),
        f"shift_m_from_{name}": _largest(shift_m),
        f"moved_from_{name}": int((shift_m > 0.01).sum()),
    }


def _largest(values: Any) -> float:
    return round(float(values.max()), 3)


def _written(images: list[Path], folder: Path, packing: Packing) -> Iterator[Path]:
    for n, image in enumerate(images):
        with rasterio.open(image) as dataset:
            counts_BYX, where, crs = dataset.read(), dataset.transform, dataset.crs
        if packing.noise is not None:
            counts_BYX = _noisy(counts_BYX, packing.noise * len(images) + n)
        top, left, bottom, right = packing.cut
        height, width = counts_BYX.shape[1:]
        counts_BYX = counts_BYX[:, top : height - bottom, left : width - right]
        profile = {
            "driver": "GTiff",
            "count": 3,
            "height": counts_BYX.shape[1],
            "width": counts_BYX.shape[2],
            "dtype": "uint8",
            "crs": crs,
            "transform": where @ Affine.translation(left, top),
            "photometric": "rgb",
            **packing.options,
        }
        path = folder / image.name
        path.unlink(missing_ok=True)
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(counts_BYX)
        if packing.overviews is not None:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews([2, 4], packing.overviews)
        yield path


def _noisy(counts_BYX: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    noise_BYX = np.random.default_rng(seed).integers(-1, 2, counts_BYX.shape)
    return (counts_BYX + noise_BYX).clip(0, 255).astype(np.uint8)


def _map(source: Path, folder: Path, images: list[Path], bundle: str) -> gpd.GeoDataFrame:
    run_file = write_run(source, folder, bundle)
    content = yaml.safe_load(run_file.read_text())
    content["imagery"]["catalog"] = [str(path) for path in images]
    del content["hazard"]
    run_file.write_text(yaml.safe_dump(content))
    out = folder / "out"
    done = quakestream("map", str(run_file), "--out", str(out), "--fresh", "--json", "--quiet")
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    assert json.loads(done.stdout)["counts"]["assessed"] > 0
    found = gpd.read_parquet(out / "buildings.parquet").set_index("building_id").sort_index()
    shutil.rmtree(out)
    return found


if __name__ == "__main__":
    main("packing", run)
