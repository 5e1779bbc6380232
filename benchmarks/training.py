"""How fast do networks learn here, and how long do they wait for chips?

The loop itself, on noise that costs what imagery costs: FC-Siam-Diff Small on 128 px chips of a
pair, QMF tiny on 64 px chips of a store with ten hazard values. Eager against compiled, one
worker against two that share the same batch; the first epoch warms up and is not counted. The
share of time spent waiting for data should stay under 5 %. On two cores two workers have one
each, readers included: they cannot be faster than one, and show what sharing costs.
"""

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
import torch

from benchmarks.common import main
from quakestream.domain import Grid, Window
from quakestream.raster.statistics import SceneStatistics
from training.config import ChipsConfig, PairsConfig, TrainConfig
from training.data.pairs import Building, Image, LabelledPair
from training.data.splits import RowSplit
from training.data.store import HazardColumn, StoreMeta, StoreWriter
from training.data.store_format import STATISTICS
from training.lessons import Lesson, open_lesson
from training.lessons.pairs import PairsLesson
from training.loop import run as train_here
from training.recipes import recipe
from training.reporting import LogReporter
from training.run_log import Record
from training.settings import with_values

SIDE_PX = 1536
STORE_PX, SHARD_CHIPS = 112, 64
TRAIN_SHARE = 0.7
"""Of the split by the name of paper-70-15-15."""
GROUPS = (3, 6, 1)


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of images a second and of the share of time without any."""
    epochs, steps = (3, 6) if quick else (5, 40)
    folder = Path(tempfile.mkdtemp(prefix="quakestream-training-"))
    chips = chip_config(epochs, steps, str(folder / "store"))
    make_store(folder / "store", round(steps * chips.schedule.global_batch / TRAIN_SHARE))
    configs = (pair_config(epochs, steps), chips)
    devices: tuple[Literal["cpu", "cuda"], ...] = ("cpu",)
    if torch.cuda.is_available():
        devices = ("cpu", "cuda")
    rows = [
        {"workers": 0, "feed": "thread", **_here(with_values(variant, device=device), steps)}
        for config in configs
        for device in devices
        for variant in (
            with_values(config, device=device),
            with_values(config, device=device, compile=True),
        )
    ]
    for config in configs:
        for workers in (1, 2):
            feed = "ray data" if config.lesson == "chips" else "thread"
            row = _on_ray(config, steps, workers, folder)
            rows.append({"workers": workers, "feed": feed, **row})
    settings = {
        "epochs": epochs,
        "steps_per_epoch": steps,
        "torch": torch.__version__,
        "threads": configs[0].run.threads,
    }
    waits = [r["data_wait"] for r in rows if "data_wait" in r]
    return settings, {"rows": rows, "largest_data_wait": max(waits)}


def pair_config(epochs: int, steps: int) -> TrainConfig:
    """Small as its recipe trains it; an epoch is `steps` long."""
    return with_values(
        recipe("fc_siam_diff_small"),
        epochs=epochs,
        held_regions=("held",),
        window_px=256,
        threads=_threads(),
        keep_every=steps,
    )


def chip_config(epochs: int, steps: int, store: str) -> TrainConfig:
    """QMF tiny as its recipe trains it, on 64 of a store's 112 px."""
    return with_values(
        recipe("qmf_tiny"),
        source=(store,),
        epochs=epochs,
        best="",
        checks=1,
        threads=_threads(),
        keep_every=steps,
        rows=RowSplit(split="paper-70-15-15"),
    )


def open_here(config: TrainConfig, steps: int) -> Lesson:
    """The lesson, with as many examples as an epoch of so many steps needs."""
    if not isinstance(config, PairsConfig):
        return open_lesson(config)
    pairs = [
        noise_pair("train", 1, config.schedule.global_batch * steps),
        noise_pair("held", 2, 24),
    ]
    return PairsLesson(config, pairs)


def noise_pair(region: str, seed: int, buildings: int) -> LabelledPair:
    """Noise with square buildings in rows, every other one destroyed."""
    rng = np.random.default_rng(seed)
    grid = Grid(epsg=32637, gsd_m=0.5)
    window = Window(row=11_639_000, col=867_000, height=SIDE_PX, width=SIDE_PX)
    west, _, _, north = grid.bounds(window)
    statistics = SceneStatistics(mean_B=(127.0,) * 3, std_B=(70.0,) * 3)
    images = [
        Image(
            grid=grid,
            window=window,
            pixels_BYX=rng.integers(1, 255, (3, SIDE_PX, SIDE_PX)).astype(np.uint8),
            statistics=statistics,
        )
        for _ in range(2)
    ]
    spots = [(west + 5 + 25 * (i % 30), north - 5 - 25 * (i // 30)) for i in range(buildings)]
    return LabelledPair(
        name=region,
        region=region,
        pre=images[0],
        post=images[1],
        buildings=tuple(
            Building(id=str(i), geometry=shapely.box(x, y - 12, x + 12, y), destroyed=i % 2 == 0)
            for i, (x, y) in enumerate(spots)
        ),
    )


def make_store(folder: Path, chips: int) -> None:
    """Noise in a store of one epoch, with ten hazard values in three groups."""
    rng = np.random.default_rng(0)
    columns = tuple(
        HazardColumn(name=f"h{i}", unit="1", group=str(group))
        for i, group in enumerate(g for g, size in enumerate(GROUPS) for _ in range(size))
    )
    meta = StoreMeta(
        classes=("slight", "heavy", "to_be_demolished", "collapsed"),
        hazard=columns,
        gsd_m=0.5,
        crop_px=STORE_PX,
        epochs=("post",),
        chips=chips,
        shard_chips=SHARD_CHIPS,
    )
    writer = StoreWriter(uri=str(folder), meta=meta)
    writer.begin()
    for shard in range(meta.shards):
        count = min(SHARD_CHIPS, chips - shard * SHARD_CHIPS)
        shape = (count, 3, STORE_PX, STORE_PX)
        writer.write(
            shard,
            {
                "post": rng.integers(1, 255, shape).astype(np.uint8),
                "inside": np.ones((count, STORE_PX, STORE_PX), bool),
            },
        )
    table: dict[str, Any] = {
        "chip": np.arange(chips),
        "building_id": [str(i) for i in range(chips)],
        "label": rng.integers(0, 4, chips),
        "region": "noise",
        "scene": "noise",
        "source": "noise",
        "epsg": 32637,
        "x_m": rng.uniform(0, 1e4, chips),
        "y_m": rng.uniform(0, 1e4, chips),
        "weight": 1.0,
    }
    table |= dict.fromkeys(STATISTICS, 70.0)
    table |= {column.name: rng.normal(size=chips) for column in columns}
    writer.finish(pd.DataFrame(table))


def _here(config: TrainConfig, steps: int) -> dict[str, Any]:
    pace = _Pace()
    try:
        train_here(config, open_here(config, steps), LogReporter(pace))
    except Exception as error:  # no compiler here, say: a row that says so
        reason = str(error).strip().splitlines()[0][:200]
        return {**_about(config), "failed": f"{type(error).__name__}: {reason}"}
    return {**_about(config), **pace.figures()}


def _on_ray(config: TrainConfig, steps: int, workers: int, folder: Path) -> dict[str, Any]:
    from training.workers import Cluster, train_on_ray

    shared = with_values(config, batch=config.schedule.batch // workers, workers=workers, threads=1)
    pace = _Pace()
    train_on_ray(
        shared,
        folder / f"{config.network}-{workers}",
        Cluster(workers=workers, max_failures=0),
        opened=partial(open_here, steps=steps),
        echo=lambda line: pace(json.loads(line)),
    )
    return {**_about(shared), **pace.figures()}


class _Pace:
    """Records of a run's epochs, and when the first came."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._epochs: list[Record] = []
        self._first_s = 0.0

    def __call__(self, record: Record) -> None:
        if record["event"] != "epoch":
            return
        if not self._epochs:
            self._first_s = time.perf_counter() - self._began
        self._epochs.append(record)

    def figures(self) -> dict[str, Any]:
        """Medians over the epochs after the first; seconds until the first one and in all."""
        later = self._epochs[1:]
        return {
            "wall_s": round(time.perf_counter() - self._began, 1),
            "first_epoch_s": round(self._first_s, 1),
            "images_per_s": round(median(r["images_per_s"] for r in later), 1),
            "data_wait": round(median(r["data_wait"] for r in later), 4),
        }


def _about(config: TrainConfig) -> dict[str, Any]:
    return {
        "network": config.network,
        "chip_px": config.chip_px if isinstance(config, PairsConfig | ChipsConfig) else 0,
        "batch": config.schedule.global_batch,
        "device": config.run.device,
        "compiled": config.run.compile,
    }


def _threads() -> int:
    return max(1, (os.cpu_count() or 1) // 2)


if __name__ == "__main__":
    main("training", run)
