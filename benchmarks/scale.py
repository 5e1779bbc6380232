"""Does memory stay flat while the mosaic grows, and is it what the plan said? (law 7)

One real pair repeated 4, 16 and 64 times (33, 133 and 531 Mpx an epoch): the shipped
default bundle, local backend; the middle size on Ray as well.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Measured, as_row, main, quakestream
from benchmarks.mosaic import describe, make_mosaic

SIZES = {"1x": (2, 2), "4x": (4, 4), "16x": (8, 8)}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Maps each size once; a ratio of memory and of rate between sizes."""
    folder = Path(tempfile.gettempdir()) / "quakestream-mosaics"
    sizes = dict(list(SIZES.items())[:2]) if quick else SIZES
    rows = []
    for name, (across, down) in sizes.items():
        run_file = make_mosaic(folder / name, across=across, down=down)
        rows.append({"size": name, "backend": "local", **_map(run_file, "local")})
    middle = folder / "4x" / "run.yaml"
    rows.append({"size": "4x", "backend": "ray", **_map(middle, "ray")})
    first, last = rows[0], rows[len(sizes) - 1]
    metrics = {
        "rows": rows,
        "peak_ratio": round(last["peak_mb"] / first["peak_mb"], 3),
        "input_ratio": round(last["mpx_per_epoch"] / first["mpx_per_epoch"], 1),
        "rate_ratio": round(last["km2_per_h"] / first["km2_per_h"], 3),
    }
    return {"sizes": list(sizes)}, metrics


def _map(run_file: Path, backend: str) -> dict[str, Any]:
    done = quakestream("map", str(run_file), "--backend", backend, "--fresh", "--json", "--quiet")
    result = _result(done)
    return {
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
