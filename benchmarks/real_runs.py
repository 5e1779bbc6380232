"""The real runs, on both backends: wall time, peak memory, and whether the maps are the same."""

import json
import tempfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import yaml

from benchmarks.common import as_row, data_dir, main, quakestream
from benchmarks.kahramanmaras import write_run
from quakestream.config import DEFAULT_DAMAGE_MODEL


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(prefix="quakestream-real-"))
    runs = {
        "kahramanmaras": write_run(
            data_dir() / "kahramanmaras-2023-main", folder, DEFAULT_DAMAGE_MODEL
        )
    }
    if not quick:
        runs["turkiye"] = write_turkiye(folder)
    rows = []
    for name, run_file in runs.items():
        maps = {}
        for backend in ("local", "ray"):
            out = folder / f"{name}-{backend}"
            maps[backend] = out
            rows.append({"run": name, "backend": backend, **_map(run_file, out, backend)})
        rows[-1]["same_map_as_local"] = _same(maps["local"], maps["ray"])
    return {"bundle": DEFAULT_DAMAGE_MODEL}, {"rows": rows}


def write_turkiye(folder: Path) -> Path:
    """All pairs of February 2023, their detector boxes, two images without georeference."""
    source = data_dir() / "turkiye-2023-scenes"
    parts = []
    for path in sorted((source / "labels").glob("*_detection_boxes.geojson")):
        frame = gpd.read_file(path)
        frame["id"] = [f"{path.name.split('_detection')[0]}-{n:04}" for n in range(len(frame))]
        parts.append(frame[["id", "geometry"]])
    boxes = folder / "turkiye.parquet"
    gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=4326).to_parquet(boxes)
    images = [*(source / "imagery").rglob("*.tif"), *(source / "imagery").rglob("*.jpg")]
    content = {
        "event": {"id": "turkiye-2023", "time": "2023-02-06T01:17:34Z"},
        "aoi": "36,36,39,38.5",
        "imagery": {
            "catalog": sorted(str(p) for p in images),
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(boxes), "id": "id"},
        "models": {"damage": DEFAULT_DAMAGE_MODEL},
    }
    path = folder / "turkiye.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _map(run_file: Path, out: Path, backend: str) -> dict[str, Any]:
    done = quakestream(
        "map", str(run_file), "--out", str(out), "--backend", backend, "--json", "--quiet"
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    result = json.loads(done.stdout)
    counts = result["counts"]
    return {
        **as_row(done),
        "planned_peak_mb": result["memory"]["planned_peak_mb"],
        "footprints": counts["footprints"],
        "assessed": counts["assessed"],
        "reasons": counts["reasons"],
        "cells": counts["cells"],
        "km2": result["rates"]["km2"],
        "map_s": result["rates"]["map_s"],
        "km2_per_h": result["rates"]["km2_per_h"],
    }


def _same(one: Path, other: Path) -> bool:
    a, b = (
        gpd.read_parquet(p / "buildings.parquet").sort_values("building_id").reset_index(drop=True)
        for p in (one, other)
    )
    return bool(a.equals(b))


if __name__ == "__main__":
    main("real_runs", run)
