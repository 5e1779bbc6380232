"""Against what a user would write today: same model, same scenes, same machine, in one run.

`sliding_window` (a rasterio Dataset, a torch DataLoader with two workers, torch in float32, one
array for the scene) and `whole_scene` (both scenes in memory, hard decisions, a loop over the
buildings, in the manner of Microsoft's workflow) against the whole command `quakestream map`,
start-up, co-registration, masks, map and report included, which the scripts do not make. At
equal precision (`fp32`) and with what `auto` picks. Rounds interleave; ratios are taken within
a round.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import geopandas as gpd
import numpy as np
import yaml

from benchmarks.common import Measured, main, measure, quakestream
from benchmarks.mosaic import describe, make_mosaic

ROUNDS, QUICK_ROUNDS = 5, 1
SCRIPTS = ("sliding_window", "whole_scene")
OURS = {"quakestream_fp32": "openvino", "quakestream_auto": "auto"}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(tempfile.gettempdir()) / "quakestream-peers"
    run_file = make_mosaic(folder, across=2, down=1 if quick else 2, every=2)
    contestants = {
        **{name: _script(name, folder, run_file) for name in SCRIPTS},
        **{name: _map(name, runtime, folder, run_file) for name, runtime in OURS.items()},
    }
    rounds: list[dict[str, Measured]] = []
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        rounds.append({name: once() for name, once in contestants.items()})
    mpx = describe(run_file)["mpx_per_epoch"]
    km2 = mpx * 0.25
    rows = [
        {
            "name": name,
            "wall_s": [round(r[name].wall_s, 1) for r in rounds],
            "km2_per_h": round(km2 * 3600 / median(r[name].wall_s for r in rounds)),
            "peak_mb": round(max(r[name].peak_mb for r in rounds)),
        }
        for name in contestants
    ]
    settings = {"rounds": len(rounds), **describe(run_file), "km2": km2, "gsd_m": 0.5}
    return settings, {
        "rows": rows,
        "ratio": {
            f"{ours} over {script}": _ratio(rounds, ours, script)
            for ours in OURS
            for script in SCRIPTS
        },
        "same_answers": _agreement(folder),
    }


def _ratio(rounds: list[dict[str, Measured]], ours: str, script: str) -> dict[str, float]:
    """How many times faster, within each round."""
    ratios = sorted(r[script].wall_s / r[ours].wall_s for r in rounds)
    return {
        "median": round(median(ratios), 2),
        "min": round(ratios[0], 2),
        "max": round(ratios[-1], 2),
    }


def _script(name: str, folder: Path, run_file: Path) -> Callable[[], Measured]:
    told = yaml.safe_load(run_file.read_text())
    pre, post = told["imagery"]["catalog"]
    out = folder / name
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", f"benchmarks.peer_scripts.{name}", "--pre", pre]
    command += ["--post", post, "--boxes", told["footprints"]["path"], "--out", str(out)]
    return lambda: _checked(measure(command))


def _map(name: str, runtime: str, folder: Path, run_file: Path) -> Callable[[], Measured]:
    told = yaml.safe_load(run_file.read_text())
    told |= {"out": str(folder / name), "execution": {"runtime": runtime}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(told))
    return lambda: _checked(
        quakestream("map", str(path), "--backend", "local", "--fresh", "--json", "--quiet")
    )


def _checked(done: Measured) -> Measured:
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return done


def _agreement(folder: Path) -> dict[str, Any]:
    """Per-building probabilities of the sliding windows against ours in the same precision.

    They are not the same: ours are moved by the pair's shift, and calibrated.
    """
    theirs = gpd.read_parquet(folder / "sliding_window" / "buildings.parquet")
    ours = gpd.read_parquet(folder / "quakestream_fp32" / "buildings.parquet")
    both = theirs.merge(ours[["building_id", "p_destroyed"]], left_on="id", right_on="building_id")
    both = both.dropna(subset=["p_destroyed_x", "p_destroyed_y"])
    record = json.loads((folder / "quakestream_fp32" / "run.json").read_text())
    correlation = np.corrcoef(both["p_destroyed_x"], both["p_destroyed_y"])[0, 1]
    return {
        "buildings": len(both),
        "correlation": round(float(correlation), 4),
        "not_assessed": record["counts"]["footprints"] - len(both),
    }


if __name__ == "__main__":
    main("peers", run)
