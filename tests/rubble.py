"""Small pairs whose destroyed roofs have turned to noise: learnable in seconds."""

from collections.abc import Sequence

import numpy as np
import shapely

from quakestream.domain import Grid, Window
from quakestream.raster.statistics import SceneStatistics
from training.config import TrainConfig
from training.data.augment import Augmentation
from training.data.pairs import Building, Image, LabelledPair
from training.lessons import Lesson
from training.lessons.pairs import PairsLesson

GRID = Grid(epsg=32637, gsd_m=0.5)


def tiny_config(*, steps: int, **changes: object) -> TrainConfig:
    """A run of seconds; region `b` is held out."""
    values: dict[str, object] = {
        "recipe": "tiny",
        "network": "fc_siam_diff_small",
        "steps": steps,
        "batch": 8,
        "chip_px": 32,
        "held_regions": "b",
        "window_px": 128,
        "halo_px": 32,
        "augmentation": Augmentation(max_shift_px=2.0),
        "ema": 0.9,
    }
    return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]


def open_rubble(config: TrainConfig) -> Lesson:
    """The lesson of two small towns."""
    return PairsLesson(config, [rubble_town("a", 1), rubble_town("b", 2)])


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
