"""How fast is the whole job, and what keeps it from its limits?

A pair of scenes repeated at new positions until both epochs hold 2 Gpx, declared to be of 0.3 m
(for speed only: the model is one for 0.5 m), read from S3 on loopback, with the shipped default
bundle and what `auto` picks. `km2_per_h` is ground whose pixels were scored over the wall time
of the whole command: start-up, plan, co-registration, map, report. Efficiency compares the map
stage with its stages alone, measured in the same run: with the slower of the two, and, since
reading and scoring share the processor here, with the sum of their processor times.

`--kind landslide` measures maps of landslides instead, from local files and each beside its own
limit: a Sentinel-2 tile at 10 m, and a mosaic of 0.5 m imagery. The shipped bundle scores the
mosaic at 1 m; the same graph declared to be one for 0.5 m shows the speed at full resolution.
"""

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import geopandas as gpd
import rasterio
import shapely
import yaml

from benchmarks.common import Measured, main, quakestream
from benchmarks.declared_bundles import declared_for
from benchmarks.mosaic import make_mosaic
from benchmarks.slide_scenes import mosaic_run, sentinel_run
from benchmarks.stages import stage_rates
from benchmarks.stores import Served, UnavailableError, bucket
from quakestream.bundles import load_bundle
from quakestream.config import DEFAULT_DAMAGE_MODEL

GSD_M = 0.3
WIDE = "damage-context-2023"
"""A shipped bundle that sees more of the surroundings, and takes about twice as long to score."""
SLIDES_1_M = "landslide-rgb"
SLIDES_10_M, SLIDES_FINE_M = "landslide-s2-synthetic", 0.5
PUBLISHED_KM2_PER_H = 1241
"""A Ray and Triton pipeline on one A4000, imagery of 0.3 m (aegean.ai)."""
SPARSE_SHARE = 0.25
"""Of the ground, where `sparse` keeps footprints."""


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(tempfile.gettempdir()) / "quakestream-end-to-end"
    across, down = (4, 4) if quick else (16, 8)
    run_file = make_mosaic(
        folder / f"{across}x{down}", across=across, down=down, every=8, gsd_m=GSD_M
    )
    bundles = {
        name: declared_for(name, folder / f"{name}-fine", GSD_M)
        for name in (DEFAULT_DAMAGE_MODEL, WIDE)
    }
    with ExitStack() as stack:
        served, why = None, ""
        try:
            served = stack.enter_context(bucket(run_file.parent))
        except UnavailableError as error:
            why = str(error)
        variants = _variants(run_file, bundles, served)
        rows = [_row(name, path) for name, path in variants.items()]
        headline = rows[0]
        alone = stage_rates(next(iter(variants.values())))
    kind = ("bundle", "engine", "dense")
    same = [row for row in rows if all(row[key] == headline[key] for key in kind)]
    efficiency = {row["name"]: _efficiency(row, alone) for row in same}
    settings = {
        "bundle": DEFAULT_DAMAGE_MODEL,
        "gsd_m": GSD_M,
        "gpx": round(2 * headline["scene_mpx"] / 1000, 2),
        "s3": why or "radosgw on loopback",
    }
    return settings, {
        "km2_per_h": headline["km2_per_h"],
        "mpx_per_s": headline["mpx_per_s"],
        "efficiency": efficiency[headline["name"]]["of_slower"],
        "peak_rss_mb": headline["peak_mb"],
        "planned_peak_mb": headline["planned_peak_mb"],
        "over_published": round(headline["km2_per_h"] / PUBLISHED_KM2_PER_H, 2),
        "rows": rows,
        "stages_alone": alone,
        "efficiencies": efficiency,
    }


def _variants(run_file: Path, bundles: dict[str, Path], served: Served | None) -> dict[str, Path]:
    """Run files by name; the first is the headline."""
    told = yaml.safe_load(run_file.read_text())
    told["models"] = {"damage": str(bundles[DEFAULT_DAMAGE_MODEL])}
    boxes = gpd.read_parquet(told["footprints"]["path"])
    near = _part(boxes)
    sparse = run_file.parent / "boxes-sparse.parquet"
    boxes[near].to_parquet(sparse)
    remote = dict(told)
    if served is not None:
        names = [Path(p).name for p in told["imagery"]["catalog"]]
        imagery = told["imagery"] | {"catalog": [f"{served.uri}/{name}" for name in names]}
        remote = told | {"imagery": imagery, "storage": served.options.protocols}
    where = "file" if served is None else "s3"
    variants = {
        f"local_{where}": remote,
        "ray_file": told,
        f"local_{where}_fp32": remote | {"execution": {"runtime": "openvino"}},
        f"local_{where}_wide": remote | {"models": {"damage": str(bundles[WIDE])}},
        f"local_{where}_sparse": remote | {"footprints": {"path": str(sparse), "id": "id"}},
    }
    paths = {}
    for name, content in variants.items():
        path = run_file.parent / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | {"out": str(run_file.parent / f"out-{name}")}))
        paths[name] = path
    return paths


def _part(boxes: gpd.GeoDataFrame) -> Any:
    """True for the boxes in one quarter of the ground, a block in the middle."""
    west, south, east, north = boxes.total_bounds
    side = (1 - SPARSE_SHARE**0.5) / 2
    block = shapely.box(
        west + side * (east - west),
        south + side * (north - south),
        east - side * (east - west),
        north - side * (north - south),
    )
    return shapely.within(boxes.geometry.values, block)


def _row(name: str, run_file: Path) -> dict[str, Any]:
    backend = "ray" if name.startswith("ray") else "local"
    done = quakestream("map", str(run_file), "--backend", backend, "--fresh", "--json", "--quiet")
    return {"name": name, "backend": backend, **_figures(done, run_file)}


def _figures(done: Measured, run_file: Path) -> dict[str, Any]:
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    result = json.loads(done.stdout)
    rates = result["rates"]
    scene_mpx = _scene_mpx(run_file)
    scene_km2 = scene_mpx * GSD_M**2
    dense = "sparse" not in run_file.name
    # windows on the rim reach over the scene's edge: ground that nobody saw does not count
    km2 = min(rates["km2"], scene_km2)
    return {
        "bundle": result["bundle"]["name"],
        "engine": result["bundle"]["engine"],
        "dense": dense,
        "scene_mpx": scene_mpx,
        "footprints": result["counts"]["footprints"],
        "wall_s": round(done.wall_s, 1),
        "prepare_s": rates["prepare_s"],
        "map_s": rates["map_s"],
        "km2": round(km2, 2),
        "km2_per_h": round(km2 / done.wall_s * 3600),
        "km2_per_h_map_stage": round(km2 / rates["map_s"] * 3600),
        "aoi_km2_per_h": round(scene_km2 / done.wall_s * 3600),
        "mpx_per_s": round(km2 / GSD_M**2 / done.wall_s, 2),
        "windows_mpx_per_s_map_stage": round(rates["km2"] / GSD_M**2 / rates["map_s"], 2),
        "peak_mb": round(done.peak_mb),
        "planned_peak_mb": result["memory"]["planned_peak_mb"],
    }


def _scene_mpx(run_file: Path) -> float:
    """Of one epoch; the local file says it, wherever the run reads from."""
    with rasterio.open(next(run_file.parent.glob("mosaic_*.tif"))) as scene:
        return round(float(scene.width * scene.height) / 1e6, 1)


def _efficiency(row: dict[str, Any], alone: dict[str, Any]) -> dict[str, float]:
    """The map stage's rate over its limits."""
    rate = row["windows_mpx_per_s_map_stage"]
    slower = min(alone["read"]["mpx_per_s"], alone["score"]["mpx_per_s"])
    shared = _limit_mpx_per_s(alone)
    return {"of_slower": round(rate / slower, 3), "of_shared_processor": round(rate / shared, 3)}


def run_landslides(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(tempfile.gettempdir()) / "quakestream-landslides"
    side_m = 20_520 if quick else 109_800
    across, down = (1, 1) if quick else (8, 4)
    finer = str(declared_for(SLIDES_1_M, folder / "finer", SLIDES_FINE_M))
    mosaic = folder / f"{across}x{down}"
    files = {
        "10 m": sentinel_run(folder / f"tile-{side_m}", SLIDES_10_M, side_m),
        "0.5 m imagery at 1 m": mosaic_run(mosaic, SLIDES_1_M, across=across, down=down),
        "0.5 m": mosaic_run(mosaic, finer, across=across, down=down),
    }
    rows = [_slide_row(name, path) for name, path in files.items()]
    first = rows[0]
    settings = {
        "bundles": [SLIDES_10_M, SLIDES_1_M, load_bundle(finer).spec.name],
        "source": "local files, one process",
        "load_after": round(os.getloadavg()[0], 2),
    }
    return settings, {
        "km2_per_h": first["km2_per_h"],
        "mpx_per_s": first["mpx_per_s"],
        "efficiency": first["of_slower"],
        "peak_rss_mb": first["peak_mb"],
        "planned_peak_mb": first["planned_peak_mb"],
        "rows": rows,
    }


def _slide_row(name: str, run_file: Path) -> dict[str, Any]:
    """One run, and the map stage's rate over the rates of its stages alone."""
    done = quakestream("map", str(run_file), "--backend", "local", "--fresh", "--json", "--quiet")
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    result = json.loads(done.stdout)
    spec = load_bundle(yaml.safe_load(run_file.read_text())["models"]["landslide"]).spec
    alone, rates = stage_rates(run_file), result["rates"]
    # windows on the rim reach over the scene's edge: ground that nobody saw does not count
    km2 = min(rates["km2"], _scene_km2(run_file))
    mpx = km2 / spec.gsd_m**2
    rate = {"windows_mpx_per_s_map_stage": rates["km2"] / spec.gsd_m**2 / rates["map_s"]}
    return {
        "name": name,
        "engine": alone["engine"],
        "bands": len(spec.bands),
        "gsd_m": spec.gsd_m,
        "km2": round(km2, 2),
        "wall_s": round(done.wall_s, 1),
        "map_s": rates["map_s"],
        "km2_per_h": round(km2 / done.wall_s * 3600),
        "km2_per_h_map_stage": round(km2 / rates["map_s"] * 3600),
        "mpx_per_s": round(mpx / done.wall_s, 3),
        "slides": result["counts"]["landslides"]["slides"],
        **_efficiency(rate, alone),
        "limit_km2_per_h": round(_limit_mpx_per_s(alone) * spec.gsd_m**2 * 3600),
        "stages_alone": alone,
        "peak_mb": round(done.peak_mb),
        "planned_peak_mb": result["memory"]["planned_peak_mb"],
    }


def _scene_km2(run_file: Path) -> float:
    """Ground of the largest file beside a run file."""
    sizes = []
    for path in run_file.parent.glob("*.tif"):
        with rasterio.open(path) as scene:
            sizes.append(scene.width * scene.height * scene.res[0] * scene.res[1] / 1e6)
    return float(max(sizes))


def _limit_mpx_per_s(alone: dict[str, Any]) -> float:
    """What all cores could do if reading and scoring cost nothing but their processor time."""
    cpu_s = alone["read"]["cpu_s_per_mpx"] + alone["score"]["cpu_s_per_mpx"]
    return float((os.cpu_count() or 1) / cpu_s)


if __name__ == "__main__":
    main("end_to_end", run, {"landslide": run_landslides})
