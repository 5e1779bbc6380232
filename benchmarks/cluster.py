"""Does the control path scale to more machines, and to a million cells?

Machines are Ray nodes on this one (`ray.cluster_utils.Cluster`), each with an engine that
sleeps a known time for every window, so that few cores do not limit: what is left is what the
stream itself costs. Planning is measured on squares of 10^4, 10^5 and 10^6 cells, a process each.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from affine import Affine
from ray.cluster_utils import Cluster

from benchmarks.common import ROOT, main
from benchmarks.streams import PreparedRun, make_country, stream
from quakestream.config import open_run
from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.backends.wire import Scenes, dump_task
from quakestream.pipeline.planning.plan import Plan, make_plan
from quakestream.pipeline.planning.tasks import TaskMaker, keyed_groups, worker_spec
from quakestream.pipeline.work.prepare import Prepared
from quakestream.raster.masks import CoarseQuality
from quakestream.raster.prepare import PreparedScene
from quakestream.raster.statistics import SceneStatistics

WINDOW_S = 0.2
GROUP_CELLS = 4
NODES = (1, 2, 4, 8)
CELLS_PER_NODE = 120
PLANNED = (10_000, 100_000, 1_000_000)
TASK_GROUPS = 200
BLOCK_M = 16.0


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    nodes, planned = (NODES[:2], PLANNED[:2]) if quick else (NODES, PLANNED)
    per_node = CELLS_PER_NODE // (3 if quick else 1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [_scaled(Path(folder) / f"n{n}", n, per_node * n) for n in nodes]
        cells = [_in_a_process(Path(folder), n) for n in planned]
    settings = {"window_s": WINDOW_S, "group_cells": GROUP_CELLS, "cells_per_node": per_node}
    metrics = {
        "rows": rows,
        "efficiency": rows[-1]["efficiency"],
        "driver_ms_per_cell": rows[-1]["driver_ms_per_cell"],
        "planned": cells,
        "plan_us_ratio": round(cells[-1]["driver_us_per_cell"] / cells[0]["driver_us_per_cell"], 2),
        "bytes_per_cell": cells[-1]["bytes_per_cell"],
    }
    return settings, metrics


def _scaled(folder: Path, nodes: int, cells: int) -> dict[str, Any]:
    """Everything through `nodes` Ray nodes with an engine each."""
    run_file = make_country(folder, cells=cells, window_s=WINDOW_S)
    opened = PreparedRun.of(run_file, folder / "out", group_cells=GROUP_CELLS)
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, include_dashboard=False, log_to_driver=False)
        with RayBackend() as backend:
            done = stream(opened, backend)
    finally:
        ray.shutdown()
        cluster.shutdown()
    limit = nodes / WINDOW_S
    return {
        "nodes": nodes,
        **{k: round(v, 3) for k, v in asdict(done).items()},
        "limit_cells_per_s": limit,
        "efficiency": round(done.cells_per_s / limit, 3),
        "driver_ms_per_cell": round(done.driver_s_per_cell * 1000, 2),
    }


def _in_a_process(folder: Path, cells: int) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.cluster",
            "--plan",
            str(folder / f"p{cells}"),
            str(cells),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def planned(folder: Path, cells: int) -> dict[str, Any]:
    """The driver's time and memory for a run of that many cells, a footprint in each."""
    run_file = make_country(folder, cells=cells, window_s=0.0, group_cells=16)
    make_plan(open_run(make_country(folder / "small", cells=100, window_s=0.0)))  # imports
    before_mb, times = _rss_mb(), [time.process_time()]
    plan = make_plan(open_run(run_file))
    times.append(time.process_time())
    hazard_NM = np.empty((len(plan.footprints.table), 0), np.float32)
    keyed = keyed_groups(plan, hazard_NM)
    times.append(time.process_time())
    held_mb = _rss_mb() - before_mb
    groups = keyed[:TASK_GROUPS]
    spec = worker_spec(plan, str(folder / "out"))
    tasks = TaskMaker(plan=plan, prepared=_prepared(plan), spec=spec, hazard_NM=hazard_NM)
    scenes: Scenes = {}
    began = time.process_time()
    size = sum(len(dump_task(tasks.group(group), scenes)) for group in groups)
    made = sum(len(group) for group in groups)
    tasks_us = (time.process_time() - began) / made * 1e6
    number = len(plan.units)
    plan_us, keys_us = (np.diff(times) / number * 1e6).tolist()
    return {
        "cells": number,
        "plan_us_per_cell": round(plan_us, 1),
        "keys_us_per_cell": round(keys_us, 1),
        "tasks_us_per_cell": round(tasks_us, 1),
        "driver_us_per_cell": round(plan_us + keys_us + tasks_us, 1),
        "task_bytes_per_cell": round(size / made),
        "bytes_per_cell": round(held_mb * 1e6 / number),
        "planned_bytes_per_cell": round(plan.memory().tables_mb * 1e6 / number),
    }


def _prepared(plan: Plan) -> Prepared:
    """What preparing would know of scenes of this size, without reading them."""
    scenes = {}
    for scene in (s for v in plan.views for s in (v.post, v.pre) if s is not None):
        assert scene.shape is not None
        shape = [max(1, round(n * (scene.gsd_m or 1) / BLOCK_M)) for n in scene.shape]
        scenes[scene.version] = PreparedScene(
            statistics=SceneStatistics(mean_B=(1.0,) * 3, std_B=(1.0,) * 3),
            quality=CoarseQuality(block_YX=np.zeros(shape, np.uint8), transform=Affine.identity()),
        )
    return Prepared(scenes=scenes)


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss / 1e6)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plan"]:
        print(json.dumps(planned(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main("cluster", run)
