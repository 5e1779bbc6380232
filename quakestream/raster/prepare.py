"""Prepares a scene once, before its cells: statistics, clouds and snow."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import Scene
from quakestream.errors import ReadError
from quakestream.raster.masks import BLOCK_M, CoarseQuality, block_quality
from quakestream.raster.messages import root_cause
from quakestream.raster.source import FULL_M2, open_scene, visible_bands
from quakestream.raster.statistics import STATISTICS_GSD_M, RunningStatistics, SceneStatistics
from quakestream.raster.stretch import Tables, in_eight_bits, tables_for
from quakestream.storage import StorageOptions

PER_BLOCK = int(BLOCK_M / STATISTICS_GSD_M)
STRIP_BLOCKS = 64
"""Rows of blocks read at once, so that memory does not grow with a scene's height."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedScene:
    """Facts about a whole scene that its cells need."""

    statistics: SceneStatistics
    quality: CoarseQuality
    pixels: int = 1
    """Valid pixels of about 4 m behind the statistics."""


def prepare_scene(scene: Scene, options: StorageOptions) -> PreparedScene:
    """Reads a scene once at 4 m, averaged from its pixels; a large one from its overviews.

    Raises:
        SceneError: if the scene cannot be opened.
        ReadError: if a part of it cannot be read.
    """
    with open_scene(scene, options, overviews=_is_large(scene)) as dataset:
        try:
            bands = visible_bands(dataset)
            tables_BV = tables_for(dataset, bands, scene.stretch)
            return _prepare(dataset, bands, tables_BV, scene.gsd_m or STATISTICS_GSD_M)
        except (RasterioError, OSError) as error:
            where = f"{scene.href} (scene {scene.id})"
            raise ReadError(f"cannot read: {root_cause(error)}", where) from error


def _is_large(scene: Scene) -> bool:
    height, width = scene.shape or (0, 0)
    return height * width * (scene.gsd_m or 1.0) ** 2 > FULL_M2


def _prepare(
    dataset: Any, bands: list[int], tables_BV: Tables | None, gsd_m: float
) -> PreparedScene:
    factor = max(STATISTICS_GSD_M / gsd_m, 1.0)
    running = RunningStatistics.of_bands(len(bands))
    strips = []
    for stored_BYX, valid_YX in _strips(dataset, bands, factor):
        pixels_BYX = in_eight_bits(stored_BYX, tables_BV)
        running.add(pixels_BYX, valid_YX)
        strips.append(_blocks(pixels_BYX, valid_YX))
    mean_BYX = np.concatenate([m for m, _ in strips], axis=1)
    deviation_YX = np.concatenate([d for _, d in strips], axis=0)
    side = factor * PER_BLOCK
    return PreparedScene(
        statistics=running.result(),
        pixels=running.count,
        quality=CoarseQuality(
            block_YX=block_quality(mean_BYX, deviation_YX, (side * gsd_m) ** 2),
            transform=dataset.transform @ Affine.scale(side),
        ),
    )


def _strips(
    dataset: Any, bands: list[int], factor: float
) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """The scene's stored counts at 4 m, in strips of whole blocks from top to bottom."""
    width = max(int(dataset.width / factor), 1)
    height = max(int(dataset.height / factor), 1)
    masked = dataset.mask_flag_enums[bands[0] - 1] != [MaskFlags.all_valid]
    step = STRIP_BLOCKS * PER_BLOCK
    for row in range(0, height, step):
        rows = min(step, height - row)
        window = DatasetWindow(0, row * factor, width * factor, rows * factor)
        pixels_BYX = dataset.read(
            bands, window=window, out_shape=(len(bands), rows, width), resampling=Resampling.average
        )
        if masked:
            valid_YX = dataset.dataset_mask(window=window, out_shape=(rows, width)) > 0
        else:
            valid_YX = pixels_BYX.any(axis=0)
        yield pixels_BYX, valid_YX


def _blocks(
    pixels_BYX: NDArray[np.uint8], valid_YX: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Band means and deviation of grey of each block. Partial blocks are filled by their edge."""
    bands, height, width = pixels_BYX.shape
    pad = ((0, 0), (0, -height % PER_BLOCK), (0, -width % PER_BLOCK))
    padded_BYX = np.pad(pixels_BYX * valid_YX, pad, mode="edge").astype(np.float32)
    tiles = padded_BYX.reshape(bands, padded_BYX.shape[1] // PER_BLOCK, PER_BLOCK, -1, PER_BLOCK)
    return tiles.mean(axis=(2, 4)), tiles.mean(axis=0).std(axis=(1, 3))
