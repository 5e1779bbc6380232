"""Pictures in index.html, to check verdicts by eye: scenes, and buildings at full resolution."""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Epoch, Scene, View
from quakestream.outputs.buildings import TILES_JOINT
from quakestream.outputs.pictures import (
    READ_ERRORS,
    WORLD_M,
    Frame,
    PictureSource,
    open_pictures,
    webp,
)
from quakestream.storage import StorageOptions

MAX_SIDE_PX = 2048
SMALLEST_SIDE_PX = 192
"""Smallest useful picture; a scene without room for it is left out with a note."""
BYTES_PER_PIXEL = 0.35
"""Upper estimate for WebP of 0.5 m city imagery at this quality, measured."""
REDUCED = 1.3
"""Pictures that are reduced by more get chips of single buildings beside them."""
SCENES_SHARE = 0.55
"""Part of the bytes that scenes get; the rest is for chips of buildings."""
CHIPS_WORST, CHIPS_RANDOM = 250, 100
"""Buildings with chips: those with the highest scores, and a random sample."""
CHIP_PX, CHIP_M = 320, 50.0
"""Largest side of a chip in pixels, and its smallest side on the ground."""
_PART, _READERS = 64, 8
_SCENES_AT_ONCE = 2
"""Pictures of scenes drawn at a time: each holds a scene of 2,048 px a side in memory."""
NO_ROOM = "no room within the viewer's size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One scene, or one building of it, as a WebP picture, transparent where it has no data."""

    scene: str
    epoch: Epoch
    acquired: str
    """ISO 8601, UTC."""
    bounds: tuple[float, float, float, float]
    """(south, west, north, east), degrees: the corners of the picture."""
    width: int
    height: int
    reduction: float
    """Scene pixels per picture pixel, along one side; 1 is full resolution."""
    ground_m: float
    """Side of a picture pixel on the ground, metres."""
    webp: bytes
    row: int = -1
    """The row whose building a chip shows; -1 for a picture of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previews:
    """The pictures, oldest first, and the scenes without one, with the reason."""

    shown: tuple[Preview, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    chips: tuple[Preview, ...] = ()


def scene_previews(views: Iterable[View], budget_bytes: int, storage: StorageOptions) -> Previews:
    """Pictures of every scene of the views, within `budget_bytes` together.

    Each scene gets an equal share of the bytes. Where that is too little for a picture, the
    oldest scenes have none. A scene that cannot be read is left out with its cause: a missing
    picture must not cost the map.
    """
    scenes = _scenes_of(views)
    fit = min(len(scenes), int(budget_bytes / (BYTES_PER_PIXEL * SMALLEST_SIDE_PX**2)))
    without, pictured = scenes[: len(scenes) - fit], scenes[len(scenes) - fit :]
    draw = partial(_drawn, share=budget_bytes // max(1, fit), storage=storage)
    with ThreadPoolExecutor(_SCENES_AT_ONCE) as pool:
        drawn = list(pool.map(draw, pictured))
    return Previews(
        shown=tuple(one for one in drawn if isinstance(one, Preview)),
        left_out=(
            *((scene.id, NO_ROOM) for _, scene in without),
            *(
                (s.id, one)
                for (_, s), one in zip(pictured, drawn, strict=True)
                if isinstance(one, str)
            ),
        ),
    )


def _drawn(
    epoch_and_scene: tuple[Epoch, Scene], share: int, storage: StorageOptions
) -> Preview | str:
    """The picture of a scene within `share` bytes, or why it has none."""
    epoch, scene = epoch_and_scene
    side = min(MAX_SIDE_PX, int((share / BYTES_PER_PIXEL) ** 0.5))
    try:
        with open_pictures(scene, storage) as source:
            return _preview(source, epoch, side, share) or NO_ROOM
    except READ_ERRORS as error:
        return str(error) or type(error).__name__


def page_pictures(
    views: Sequence[View],
    rows: gpd.GeoDataFrame,
    score_N: NDArray[np.float64],
    budget_bytes: int,
    storage: StorageOptions,
) -> Previews:
    """Pictures of the scenes and, where those are reduced, chips at full resolution.

    Args:
        rows: the buildings.
        score_N: their scores for severe damage, NaN where not assessed: the highest are the
            first to get chips.
    """
    small = scene_previews(views, int(budget_bytes * SCENES_SHARE), storage)
    if not any(p.reduction > REDUCED for p in small.shown) and not small.left_out:
        return small
    sharp = {(p.epoch, p.scene) for p in small.shown if p.reduction <= REDUCED}
    left = budget_bytes - sum(len(p.webp) for p in small.shown)
    if left <= 0:
        return small
    chips = _chips(views, rows, _worth_a_chip(score_N), sharp, storage)
    return Previews(shown=small.shown, left_out=small.left_out, chips=tuple(_within(left, chips)))


def _worth_a_chip(score_N: NDArray[np.float64]) -> list[int]:
    """Rows with the highest scores, then a random sample of the other assessed ones."""
    assessed = np.flatnonzero(np.isfinite(score_N))
    order = assessed[np.argsort(-score_N[assessed], kind="stable")]
    worst, rest = order[:CHIPS_WORST], order[CHIPS_WORST:]
    sample = np.random.default_rng(0).permutation(rest)[:CHIPS_RANDOM]
    return [*worst.tolist(), *sample.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChipTask:
    rank: int
    row: int
    epoch: Epoch
    scene: Scene
    bounds: tuple[float, float, float, float]
    """(west, south, east, north) of the building, degrees."""


def _chips(
    views: Sequence[View],
    rows: gpd.GeoDataFrame,
    chosen: list[int],
    sharp: set[tuple[Epoch, str]],
    storage: StorageOptions,
) -> list[Preview]:
    """Chips of the chosen rows, in their order; scenes that are shown sharply need none."""
    scenes = {(epoch, scene.id): scene for epoch, scene in _scenes_of(views)}
    bounds = rows.geometry.bounds.to_numpy()
    tasks = []
    epochs: tuple[tuple[Epoch, str], ...] = (("pre", "scene_pre"), ("post", "scene_post"))
    for epoch, column in epochs:
        names = rows[column].to_numpy(dtype=object)
        for rank, row in enumerate(chosen):
            key = (epoch, str(names[row]).split(TILES_JOINT)[0])
            if key in scenes and key not in sharp and np.isfinite(bounds[row]).all():
                box = tuple(bounds[row].tolist())
                tasks.append(
                    _ChipTask(rank=rank, row=row, epoch=epoch, scene=scenes[key], bounds=box)
                )
    tasks.sort(key=lambda t: (t.epoch, t.scene.id, t.row))  # rows lie along a curve: near blocks
    groups = [list(g) for _, g in groupby(tasks, key=lambda t: (t.epoch, t.scene.id))]
    parts = [g[n : n + _PART] for g in groups for n in range(0, len(g), _PART)]
    with ThreadPoolExecutor(_READERS) as pool:
        done = [c for part in pool.map(lambda p: _read_part(p, storage), parts) for c in part]
    return [chip for _, chip in sorted(done, key=lambda pair: (pair[0], pair[1].epoch))]


def _read_part(tasks: list[_ChipTask], storage: StorageOptions) -> list[tuple[int, Preview]]:
    """Chips of one scene with their ranks; those that cannot be read are missing."""
    out = []
    try:
        with open_pictures(tasks[0].scene, storage) as source:
            for task in tasks:
                frame = chip_frame(task.bounds, source.native)
                data = webp(source.read(frame))
                out.append((task.rank, _picture(source, task.epoch, frame, data, task.row)))
    except READ_ERRORS:
        return out
    return out


def chip_frame(
    bounds: tuple[float, float, float, float], native: float, most_px: int = CHIP_PX
) -> Frame:
    """A square around a building with its own size of ground around it, at least 50 m in all.

    Args:
        bounds: (west, south, east, north), degrees.
        native: side of the scene's pixels, EPSG:3857 metres.
    """
    west, south, east, north = bounds
    (x0, y0), (x1, y1) = mercator(west, south), mercator(east, north)
    metre = math.cosh((y0 + y1) / 2 / 6378137.0)
    half = max(2 * (x1 - x0), 2 * (y1 - y0), CHIP_M * metre) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    side = max(1, min(most_px, round(2 * half / native)))
    return Frame(
        west=x - half, south=y - half, east=x + half, north=y + half, width=side, height=side
    )


def mercator(lon: float, lat: float) -> tuple[float, float]:
    """Web Mercator, metres."""
    return lon / 360 * WORLD_M, 6378137.0 * math.asinh(math.tan(math.radians(lat)))


def _within(budget_bytes: int, chips: list[Preview]) -> Iterator[Preview]:
    """The first chips that fit."""
    for chip in chips:
        budget_bytes -= len(chip.webp)
        if budget_bytes < 0:
            return
        yield chip


def _scenes_of(views: Iterable[View]) -> list[tuple[Epoch, Scene]]:
    """Distinct scenes, oldest first, so that the newest is on top."""
    scenes: dict[tuple[Epoch, str], Scene] = {}
    for view in views:
        scenes |= {("post", part.id): part for part in view.post.parts}
        scenes |= {("pre", part.id): part for part in (view.pre.parts if view.pre else ())}
    order = sorted(scenes.items(), key=lambda item: (item[1].datetime, item[0]))
    return [(epoch, scene) for (epoch, _), scene in order]


def _preview(source: PictureSource, epoch: Epoch, side: int, share: int) -> Preview | None:
    """A picture of at most `side` pixels and `share` bytes; None if it would be too small."""
    while side >= SMALLEST_SIDE_PX:
        frame = source.frame(side)
        data = webp(source.read(frame))
        if len(data) <= share:
            return _picture(source, epoch, frame, data)
        side = int(side * 0.9 * (share / len(data)) ** 0.5)
    return None


def _picture(
    source: PictureSource, epoch: Epoch, frame: Frame, data: bytes, row: int = -1
) -> Preview:
    return Preview(
        scene=source.scene.id,
        epoch=epoch,
        acquired=source.scene.datetime.isoformat(timespec="seconds"),
        bounds=frame.corners,
        width=frame.width,
        height=frame.height,
        reduction=source.reduction(frame),
        ground_m=frame.ground_m,
        webp=data,
        row=row,
    )
