"""Prepares a scene once, before its cells: statistics, clouds, snow and collars."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from quakestream.domain import Scene
from quakestream.errors import ReadError
from quakestream.raster.bands import BandReader, bands_in
from quakestream.raster.lost_blocks import LostBlocks
from quakestream.raster.masks import BLOCK_M, Blocks, CoarseQuality, block_quality
from quakestream.raster.messages import restated
from quakestream.raster.samples import (
    WHOLE_PX,
    Means,
    averaged_samples,
    averaged_strips,
    averaging,
    is_sampled,
    overview_strips,
)
from quakestream.raster.source import open_scene
from quakestream.raster.statistics import STATISTICS_GSD_M, RunningStatistics, SceneStatistics
from quakestream.raster.stretch import Tables, in_eight_bits, tables_for
from quakestream.storage import StorageOptions

PER_BLOCK = int(BLOCK_M / STATISTICS_GSD_M)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedScene:
    """Facts about a whole scene that its cells need."""

    statistics: SceneStatistics
    quality: CoarseQuality
    pixels: int = 1
    """Valid pixels of about 4 m behind the statistics."""


def prepare_scene(scene: Scene, options: StorageOptions, *, patchy: bool = True) -> PreparedScene:
    """Reads a scene once at 4 m. `raster.samples` states what that costs.

    Of a scene with layers nothing is read: models of physical values take no statistics, and
    clouds come from its mask.
    Blocks that are lost for good are left out.

    Args:
        patchy: False for a scene that has to be whole.

    Raises:
        SceneError: if the scene cannot be opened.
        ReadError: if a part of it did not arrive, or lost blocks leave nothing.
    """
    if scene.layers:
        return _nothing_known(len(scene.layers))
    with open_scene(scene, options) as dataset:
        try:
            bands = bands_in(dataset, scene.bands, scene.stated)
            tables_BV = tables_for(dataset, bands, scene.stretch)
            lost = LostBlocks(scene=scene, options=options) if patchy else None
            reader = BandReader(dataset=dataset, bands=bands, lost=lost)
            gsd_m = scene.gsd_m or STATISTICS_GSD_M
            prepare = _sampled if is_sampled(dataset) else _whole
            return prepare(reader, tables_BV, gsd_m)
        except (RasterioError, OSError) as error:
            where = f"{scene.href} (scene {scene.id})"
            raise restated(ReadError, "cannot read", where, error) from error


def _nothing_known(layers: int) -> PreparedScene:
    return PreparedScene(
        statistics=SceneStatistics(mean_B=(0.0,) * layers, std_B=(1.0,) * layers),
        quality=CoarseQuality(block_YX=np.zeros((1, 1), np.uint8), transform=Affine.identity()),
    )


def coarse_overview(dataset: Any, gsd_m: float) -> int:
    """Factor of the overview in which a large scene's clouds are looked for; 0: it has none.

    It is the finest one that may be read whole and has pixels of 16 m at most.
    """
    pixels, most = dataset.height * dataset.width, averaging(gsd_m) * PER_BLOCK
    factors = sorted(dataset.overviews(1))
    fitting = [by for by in factors if by <= most and pixels / by**2 <= WHOLE_PX]
    return fitting[0] if fitting else 0


def _whole(reader: BandReader, tables_BV: Tables | None, gsd_m: float) -> PreparedScene:
    by = min(averaging(gsd_m), reader.dataset.height, reader.dataset.width)
    running = RunningStatistics.of_bands(3)

    def strips() -> Iterator[tuple[Means, NDArray[np.uint8]]]:
        for part in averaged_strips(reader, by, PER_BLOCK):
            shown_BYX = in_eight_bits(part.counts_BYX, tables_BV)
            running.add(shown_BYX, part.valid_YX)
            yield part, shown_BYX

    blocks = _blocks_of(strips(), PER_BLOCK)
    quality = block_quality(blocks, (by * PER_BLOCK * gsd_m) ** 2)
    for count_YX, value in ((blocks.black_YX, 0), (blocks.white_YX, 255)):
        running.remove(int(count_YX[quality.collar_YX].sum()), value)
    return _prepared(reader, running, quality.block_YX, by * PER_BLOCK)


def _sampled(reader: BandReader, tables_BV: Tables | None, gsd_m: float) -> PreparedScene:
    """Statistics of samples, and clouds from an overview; none are found without one."""
    running = RunningStatistics.of_bands(3)
    for means_BYX, valid_YX in averaged_samples(reader, gsd_m):
        running.add(in_eight_bits(means_BYX, tables_BV), valid_YX)
    overview = coarse_overview(reader.dataset, gsd_m)
    if not overview:
        side = max(reader.dataset.height, reader.dataset.width)
        return _prepared(reader, running, np.zeros((1, 1), np.uint8), side)
    by = max(averaging(gsd_m), overview)
    per_block = max(round(averaging(gsd_m) * PER_BLOCK / by), 1)
    strips = overview_strips(reader, by, per_block)
    shown = ((part, in_eight_bits(part.counts_BYX, tables_BV)) for part in strips)
    quality = block_quality(_blocks_of(shown, per_block), (by * per_block * gsd_m) ** 2)
    return _prepared(reader, running, quality.block_YX, by * per_block)


def _prepared(
    reader: BandReader, running: RunningStatistics, block_YX: NDArray[np.uint8], side_px: int
) -> PreparedScene:
    transform = reader.dataset.transform @ Affine.scale(side_px)
    quality = CoarseQuality(block_YX=block_YX, transform=transform)
    return PreparedScene(statistics=running.result(), quality=quality, pixels=running.count)


def _blocks_of(strips: Iterator[tuple[Means, NDArray[np.uint8]]], side: int) -> Blocks:
    """Blocks of `side` × `side` averaged pixels. Partial ones are filled by their edge."""
    rows = [_row_of_blocks(part, shown_BYX, side) for part, shown_BYX in strips]
    mean_BYX = np.concatenate([row.mean_BYX for row in rows], axis=1)
    others = ("deviation_YX", "valid_YX", "black_YX", "white_YX")
    return Blocks(
        mean_BYX=mean_BYX,
        side=side,
        **{name: np.concatenate([getattr(row, name) for row in rows]) for name in others},
    )


def _row_of_blocks(part: Means, shown_BYX: NDArray[np.uint8], side: int) -> Blocks:
    bands, height, width = shown_BYX.shape
    pad = ((0, -height % side), (0, -width % side))
    padded_BYX = np.pad(shown_BYX * part.valid_YX, ((0, 0), *pad), mode="edge").astype(np.float32)
    tiles = padded_BYX.reshape(bands, padded_BYX.shape[1] // side, side, -1, side)

    def counted(true_YX: NDArray[np.bool_]) -> NDArray[np.int64]:
        padded_YX = np.pad(true_YX, pad)
        tiles = padded_YX.reshape(-1, side, padded_YX.shape[1] // side, side)
        count_YX: NDArray[np.int64] = tiles.sum(axis=(1, 3))
        return count_YX

    return Blocks(
        mean_BYX=tiles.mean(axis=(2, 4)),
        deviation_YX=tiles.mean(axis=0).std(axis=(1, 3)),
        valid_YX=counted(part.valid_YX),
        black_YX=counted(part.black_YX),
        white_YX=counted(part.white_YX),
        side=side,
    )
