"""Small pairs, a store and points whose damage shows: learnable in seconds."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from torch import Tensor, nn

from quakestream.domain import Grid, Window
from quakestream.raster.statistics import SceneStatistics
from training.config import PairsConfig, TrainConfig
from training.data.augment import Augmentation
from training.data.pairs import Building, Image, LabelledPair
from training.data.store import HazardColumn, StoreMeta, StoreWriter
from training.data.store_format import STATISTICS
from training.lessons import Lesson, TrainingBatch
from training.lessons.pairs import PairsLesson
from training.settings import with_values

GRID = Grid(epsg=32637, gsd_m=0.5)


def tiny_config(*, steps: int, **changes: object) -> PairsConfig:
    """A run of seconds; region `b` is held out."""
    values: dict[str, object] = {
        "steps": steps,
        "batch": 8,
        "chip_px": 32,
        "held_regions": ("b",),
        "window_px": 128,
        "halo_px": 32,
        "augmentation": Augmentation(max_shift_px=2.0),
        "ema": 0.9,
    }
    tiny = PairsConfig(recipe="tiny", network="fc_siam_diff_small")
    return with_values(tiny, **{**values, **changes})


def open_rubble(config: TrainConfig) -> Lesson:
    """The lesson of two small towns."""
    assert isinstance(config, PairsConfig)
    return PairsLesson(config, [rubble_town("a", 1), rubble_town("b", 2)])


class DiesOnce(PairsLesson):
    """Ends its own process, as `kill -9` does, at a batch of the second worker; once.

    Steps here are shorter than Ray takes to note a report, and a report it has not noted is lost
    with the worker: death waits until the last one is in the log.
    """

    def __init__(self, config: TrainConfig, folder: Path, number: int, told: int) -> None:
        assert isinstance(config, PairsConfig)
        super().__init__(config, [rubble_town("a", 1), rubble_town("b", 2)])
        self._folder, self._number, self._told = folder, number, told

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        marker, log = self._folder / "died", self._folder / "log.jsonl"
        if number == self._number and batch.share.rank == 1 and not marker.exists():
            while not log.exists() or f'"step": {self._told},' not in log.read_text():
                time.sleep(0.1)
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(network, batch, number)


def rubble_town(region: str, seed: int) -> LabelledPair:
    """64 roofs; half of them stay, half turn to noise."""
    rng = np.random.default_rng(seed)
    corners = range(8, 240, 32)
    places = [(r, c, 16, bool((r + c) // 32 % 2)) for r in corners for c in corners]
    pair = town(buildings=places, side=256, name=region)
    for row, col, side, destroyed in places:
        area = (slice(None), slice(row, row + side), slice(col, col + side))
        pair.pre.pixels_BYX[area] = 180
        pair.post.pixels_BYX[area] = rng.integers(40, 255, (3, side, side)) if destroyed else 180
    return pair


def town(
    *, buildings: Sequence[tuple[int, int, int, bool]], side: int = 64, name: str = "town"
) -> LabelledPair:
    """A flat image with square buildings given as (row, column, side, destroyed)."""
    window = Window(row=11_639_000, col=867_000, height=side, width=side)
    west, _, _, north = GRID.bounds(window)
    outlines = [
        shapely.box(west + c / 2, north - (r + s) / 2, west + (c + s) / 2, north - r / 2)
        for r, c, s, _ in buildings
    ]
    return LabelledPair(
        name=name,
        region=name,
        pre=flat_image(window),
        post=flat_image(window),
        buildings=tuple(
            Building(id=str(i), geometry=g, destroyed=b[3])
            for i, (g, b) in enumerate(zip(outlines, buildings, strict=True))
        ),
    )


def flat_image(window: Window) -> Image:
    return Image(
        grid=GRID,
        window=window,
        pixels_BYX=np.full((3, *window.shape), 100, np.uint8),
        statistics=SceneStatistics(mean_B=(110.0,) * 3, std_B=(40.0,) * 3),
    )


def noise_image(window: Window, seed: int) -> Image:
    image = flat_image(window)
    image.pixels_BYX[:] = np.random.default_rng(seed).integers(0, 255, image.pixels_BYX.shape)
    return image


def rubble_store(folder: Path, *, chips: int = 160, crop_px: int = 48) -> str:
    """Chips on a lattice over 8 × 8 km, rougher the more damaged, and shaking that goes with it.

    Three grades; region, source and scene by thirds of the north; a tenth of VS30 is missing.
    """
    rng = np.random.default_rng(0)
    meta = StoreMeta(
        classes=("none", "heavy", "collapsed"),
        hazard=(
            HazardColumn(name="pga_g", unit="g", group="shaking"),
            HazardColumn(name="mmi", unit="MMI", group="shaking"),
            HazardColumn(name="vs30_m_s", unit="m/s", group="site"),
        ),
        gsd_m=0.5,
        crop_px=crop_px,
        epochs=("pre", "post"),
        chips=chips,
        shard_chips=chips,
    )
    label_N = rng.integers(0, 3, chips)
    rough_N = 40.0 * label_N[:, None, None, None]
    pixels = rng.normal(size=(2, chips, 3, crop_px, crop_px))
    post = np.clip(120 + (5 + rough_N) * pixels[0], 1, 255).astype(np.uint8)
    pre = np.clip(120 + 5 * pixels[1], 1, 255).astype(np.uint8)
    inside = np.zeros((chips, crop_px, crop_px), bool)
    inside[:, crop_px // 4 : -crop_px // 4, crop_px // 4 : -crop_px // 4] = True
    x_m_N, y_m_N = rng.uniform(0, 8000, (2, chips))
    third_N = np.array(["south", "middle", "north"], object)[(y_m_N // 2667).astype(int)]
    shaking_N = label_N + rng.normal(0, 0.7, chips)
    table = pd.DataFrame(
        {
            "chip": np.arange(chips),
            "building_id": [f"b{i}" for i in range(chips)],
            "label": label_N,
            "region": third_N,
            "scene": third_N,
            "source": third_N,
            "epsg": 32637,
            "x_m": x_m_N,
            "y_m": y_m_N,
            "weight": 1.0,
            "pga_g": 0.2 + 0.1 * shaking_N,
            "mmi": 6 + shaking_N,
            "vs30_m_s": np.where(rng.random(chips) < 0.1, np.nan, rng.uniform(200, 800, chips)),
        }
        | {name: 120.0 if "mean" in name else 40.0 for name in STATISTICS}
    )
    writer = StoreWriter(uri=str(folder), meta=meta)
    writer.begin()
    writer.write(0, {"pre": pre, "post": post, "inside": inside})
    writer.finish(table)
    return str(folder)


def rubble_points(path: Path, *, count: int = 600) -> str:
    """A CSV of points over 0.2 × 0.2 degrees whose damage goes with their shaking."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 5, count)
    table = pd.DataFrame(
        {
            "lon": 37 + rng.uniform(0, 0.2, count),
            "lat": 37.5 + rng.uniform(0, 0.2, count),
            "label": label_N,
            "pga_g": 0.2 + 0.1 * (label_N + rng.normal(0, 0.5, count)),
            "vs30_m_s": np.where(rng.random(count) < 0.1, np.nan, rng.uniform(200, 800, count)),
        }
    )
    table.to_csv(path, index=False)
    return str(path)
