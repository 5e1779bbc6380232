"""Does memory stay flat while the mosaic grows, and is it what the plan said? (law 7)

One real pair repeated 4, 16 and 64 times (33, 133 and 531 Mpx an epoch), the shipped
default bundle, on the local loop and on Ray. `thin` keeps the number of footprints
of the smallest mosaic, spread over the larger ground: what then grows is pixels alone.
`dense` (4x) keeps all footprints: what grows besides is the tables, by a stated size a row.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Measured, as_row, main, quakestream
from benchmarks.mosaic import describe, make_mosaic

SIZES = {"1x": (2, 2), "4x": (4, 4), "16x": (8, 8)}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Maps each size; ratios between the largest and the smallest."""
    folder = Path(tempfile.gettempdir()) / "quakestream-mosaics"
    sizes = dict(list(SIZES.items())[:2]) if quick else SIZES
    rows = []
    for name, (across, down) in sizes.items():
        times = across * down // 4
        thin = make_mosaic(folder / name, across=across, down=down, every=times)
        dense = make_mosaic(folder / name, across=across, down=down)
        rows.append({"size": name, "footprints_are": "thin", **_map(thin, "local")})
        if name == "4x":
            rows.append({"size": name, "footprints_are": "dense", **_map(dense, "local")})
        if name != "16x":
            rows.append({"size": name, "footprints_are": "thin", **_map(thin, "ray")})
    thin = [r for r in rows if r["footprints_are"] == "thin" and r["backend"] == "local"]
    metrics = {
        "rows": rows,
        "peak_ratio": round(thin[-1]["peak_mb"] / thin[0]["peak_mb"], 3),
        "input_ratio": round(thin[-1]["mpx_per_epoch"] / thin[0]["mpx_per_epoch"], 1),
        "rate_ratio": round(thin[-1]["km2_per_h"] / thin[0]["km2_per_h"], 3),
        "largest_over_plan": round(max(r["peak_mb"] / r["planned_peak_mb"] for r in rows), 3),
    }
    return {"sizes": list(sizes)}, metrics


def _map(run_file: Path, backend: str) -> dict[str, Any]:
    done = quakestream("map", str(run_file), "--backend", backend, "--fresh", "--json", "--quiet")
    result = _result(done)
    return {
        "backend": backend,
        **describe(run_file),
        **as_row(done),
        "planned_peak_mb": result["memory"]["planned_peak_mb"],
        "footprints": result["counts"]["footprints"],
        "cells": result["counts"]["cells"],
        "km2": result["rates"]["km2"],
        "km2_per_h": result["rates"]["km2_per_h"],
        "map_s": result["rates"]["map_s"],
    }


def _result(done: Measured) -> dict[str, Any]:
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


if __name__ == "__main__":
    main("scale", run)
