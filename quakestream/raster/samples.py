"""Reads a scene once at about 4 m, at a cost that is bounded for scenes of any size.

The full resolution is read and averaged here, and overviews are not used where that can be
helped: their values depend on how they were made (nearest, average, cubic), and a map must not.
A scene of up to `WHOLE_PX` pixels is read whole. Of a larger one, `SAMPLES` squares are read,
which lie on a lattice fixed to the scene.

Cost of a scene, in decoded pixels: at most `WHOLE_PX` (201 MB of three bands in 8 bits). Of a
larger one, the blocks under `SAMPLES`: 1,024 blocks of 512 × 512, or where a scene has strips,
512 m of it at full width. Clouds and collars take at most `WHOLE_PX` more, from an overview.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import Window
from quakestream.raster.bands import BandReader, lattice_windows
from quakestream.raster.lost_blocks import readable
from quakestream.raster.statistics import STATISTICS_GSD_M

WHOLE_PX = 1 << 26
"""Largest image that is read whole, pixels: 8,192 × 8,192."""
SAMPLE_M = 32.0
"""Side of a sample on the ground, metres."""
SAMPLES = 16, 64
"""Samples along the rows and the columns of a scene. Samples side by side are cheap in strips."""
LEAST_PX = 64
"""Smallest side of a part that is read alone where blocks are lost, pixels."""
STRIP_PX = 1 << 23
"""Pixels of a scene that are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Means:
    """A part of a scene, averaged over its valid pixels."""

    counts_BYX: NDArray[Any]
    """Stored counts, shape (band, y, x); 0 where invalid."""
    valid_YX: NDArray[np.bool_]
    """True where at least half of a pixel shows the ground, shape (y, x)."""
    black_YX: NDArray[np.bool_]
    """True where every valid count of every band is 0."""
    white_YX: NDArray[np.bool_]
    """True where every valid count of every band is the largest of its dtype."""


def averaging(gsd_m: float) -> int:
    """Pixels along a side that are averaged to one of about 4 m."""
    return max(round(STATISTICS_GSD_M / gsd_m), 1)


def is_sampled(dataset: Any) -> bool:
    """True for a scene that is too large to be read whole."""
    return bool(dataset.height * dataset.width > WHOLE_PX)


def averaged_samples(
    reader: BandReader, gsd_m: float
) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Averaged counts and validity of the whole scene, or of samples of it.

    Samples that are white throughout are left out: they lie on a collar or a saturated cloud.

    Raises:
        RasterioError: if the scene cannot be read.
    """
    dataset, by = reader.dataset, averaging(gsd_m)
    if not is_sampled(dataset):
        for part in averaged_strips(reader, by, 1):
            yield part.counts_BYX, part.valid_YX
        return
    side = max(round(SAMPLE_M / STATISTICS_GSD_M) * by, 1)
    windows = lattice_windows(dataset.height, dataset.width, side, SAMPLES)
    for part in _some(reader, (_averaged(reader, window, by) for window in windows)):
        yield part.counts_BYX, part.valid_YX & (not part.white_YX.all())


def averaged_strips(reader: BandReader, by: int, rows: int) -> Iterator[Means]:
    """The whole scene in strips from top to bottom.

    Args:
        by: pixels along a side that become one.
        rows: a strip has a multiple of so many averaged rows, the last one excepted.
    """
    dataset = reader.dataset
    by = min(by, dataset.height, dataset.width)
    width, height = dataset.width // by, dataset.height // by
    step = max(STRIP_PX // (by * by * width) // rows, 1) * rows
    windows = (
        DatasetWindow(0, top * by, width * by, min(step, height - top) * by)
        for top in range(0, height, step)
    )
    return _some(reader, (_averaged(reader, window, by) for window in windows))


def _some(reader: BandReader, parts: Iterator[Means]) -> Iterator[Means]:
    """The parts of a scene, of which some pixel can be read.

    Raises:
        RasterioError: if lost blocks leave no pixel.
    """
    seen = False
    for part in parts:
        seen |= bool(part.valid_YX.any())
        yield part
    if not seen and reader.lost is not None and reader.lost.latest is not None:
        raise reader.lost.latest


def overview_strips(reader: BandReader, by: int, rows: int) -> Iterator[Means]:
    """As `averaged_strips`, but averaged by GDAL from an overview."""
    dataset = reader.dataset
    width, height = dataset.width // by, dataset.height // by
    step = max(STRIP_PX // width // rows, 1) * rows
    for top in range(0, height, step):
        high = min(step, height - top)
        yield _overview(reader, DatasetWindow(0, top * by, width * by, high * by), by)


def _averaged(reader: BandReader, window: DatasetWindow, by: int) -> Means:
    try:
        stored_BYX, valid_YX = reader.read(
            window, (int(window.height), int(window.width)), Resampling.nearest
        )
    except RasterioError:
        return _instead(reader, window, by)
    return _means(stored_BYX, valid_YX, by)


def _instead(reader: BandReader, window: DatasetWindow, by: int) -> Means:
    """What is known of a window in which a block cannot be read.

    Its overview may be there, as in a file whose end was cut off. Else the parts of the window
    that can be read stand alone.
    """
    try:
        return _overview(reader, window, by)
    except RasterioError as error:
        if reader.lost is None or not reader.lost.are_why(error):
            raise
        are_why = reader.lost.are_why
    whole = Window(row=0, col=0, height=int(window.height), width=int(window.width))

    def read(part: Window) -> Means:
        at = DatasetWindow(
            window.col_off + part.col, window.row_off + part.row, part.width, part.height
        )
        shape = part.height, part.width
        return _means(*reader.read(at, shape, Resampling.nearest), by)

    shape = max(whole.height // by, 1), max(whole.width // by, 1)
    masks = [np.zeros(shape, np.bool_) for _ in range(3)]
    dtype = reader.dataset.dtypes[reader.bands.rgb[0] - 1]
    counts_BYX = np.zeros((len(reader.bands.rgb), *shape), dtype)
    for part, means in readable(whole, read, are_why, _least(reader.dataset), by):
        rows, cols = (
            slice(at // by, at // by + size)
            for at, size in (
                (part.row, means.valid_YX.shape[0]),
                (part.col, means.valid_YX.shape[1]),
            )
        )
        counts_BYX[:, rows, cols] = means.counts_BYX
        for mask_YX, part_YX in zip(
            masks, (means.valid_YX, means.black_YX, means.white_YX), strict=True
        ):
            mask_YX[rows, cols] = part_YX
    return Means(counts_BYX=counts_BYX, valid_YX=masks[0], black_YX=masks[1], white_YX=masks[2])


def _least(dataset: Any) -> tuple[int, int]:
    """Height and width of a part that is not divided any more: a quarter of a block."""
    height, width = getattr(dataset, "block_shapes", [(256, 256)])[0]
    return max(height // 4, LEAST_PX), max(width // 4, LEAST_PX)


def _means(stored_BYX: NDArray[Any], valid_YX: NDArray[np.bool_], by: int) -> Means:
    high, wide = (max(side // by, 1) for side in valid_YX.shape)
    by = min(by, *valid_YX.shape)
    tiles = (slice(0, high * by), slice(0, wide * by))
    weight_YX = _sums(valid_YX[tiles], by)
    whole = bool((weight_YX == by * by).all())
    counts_BYX = stored_BYX[(slice(None), *tiles)]
    sum_BYX = np.stack(
        [_sums(band_YX if whole else band_YX * valid_YX[tiles], by) for band_YX in counts_BYX]
    )
    some_YX = np.maximum(weight_YX, 1)
    full = np.iinfo(stored_BYX.dtype).max
    ground_YX = 2 * weight_YX >= by * by
    means_BYX = ((sum_BYX + some_YX // 2) // some_YX * ground_YX).astype(stored_BYX.dtype)
    return Means(
        counts_BYX=means_BYX,
        valid_YX=ground_YX,
        black_YX=ground_YX & (sum_BYX == 0).all(axis=0),
        white_YX=ground_YX & (sum_BYX == full * weight_YX).all(axis=0),
    )


def _overview(reader: BandReader, window: DatasetWindow, by: int) -> Means:
    shape = max(int(window.height) // by, 1), max(int(window.width) // by, 1)
    means_BYX, valid_YX = reader.read(window, shape, Resampling.average)
    full = np.iinfo(means_BYX.dtype).max
    return Means(
        counts_BYX=means_BYX * valid_YX,
        valid_YX=valid_YX,
        black_YX=valid_YX & (means_BYX == 0).all(axis=0),
        white_YX=valid_YX & (means_BYX == full).all(axis=0),
    )


def _sums(values_YX: NDArray[Any], by: int) -> NDArray[np.int64]:
    """Sums over squares of `by` × `by` pixels."""
    high, wide = values_YX.shape[0] // by, values_YX.shape[1] // by
    rows_YX = values_YX.reshape(high, by, -1).sum(axis=1, dtype=np.int64)
    sum_YX: NDArray[np.int64] = rows_YX.reshape(high, wide, by).sum(axis=2)
    return sum_YX
