"""Puts the pixels of decoded blocks in place, and tells ground from nodata."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.block_plan import BlockPart, RowsCols
from quakestream.raster.cog.layout import Colour
from quakestream.raster.cog.scratch import Scratch

FEW_ROWS = 0.1
"""Share of a block's rows up to which rows with black are checked one by one."""
HAS_16_BIT_LUT = int(cv2.__version__.partition(".")[0]) >= 5
"""True if OpenCV looks up counts of 16 bits, as it does since version 5."""
Planes = NDArray[Any] | Mapping[int, NDArray[Any]]
"""Bands by index, each (y, x)."""


class Place(Protocol):
    """Arrays that take blocks. Called from several threads, once for each pixel and band."""

    planar: bool
    """True if blocks come as (sample, y, x); False for (y, x, sample)."""

    def put(self, block: NDArray[Any], plane: int, source: RowsCols, target: RowsCols) -> None:
        """Copies the `source` part of a block to the `target` part of the arrays.

        Args:
            plane: the band that the block holds, where bands have blocks of their own.
        """
        ...


@dataclass(slots=True, eq=False)
class BlockTask:
    """One part of a block to be read, and the place of its pixels."""

    part: BlockPart
    place: Place
    claimed: bool = False
    """True while other threads wait for this thread to make the block."""

    def put(self, block: NDArray[Any]) -> None:
        """Puts the part in its place."""
        self.place.put(block, self.part.plane, self.part.source, self.part.target)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """Arrays to fill with a rectangle of a scene."""

    counts_BYX: NDArray[np.uint8]
    """Counts of red, green and blue, shape (band, y, x)."""
    valid_YX: NDArray[np.bool_]
    """True where the sensor saw the ground, shape (y, x)."""
    counts_YX4: NDArray[np.uint8] | None = None
    """The memory behind `counts_BYX` if the counts will be resampled, shape (y, x, 4). Its
    fourth values have no meaning. Black pixels are then found after resampling."""

    @property
    def interleaved(self) -> bool:
        return self.counts_YX4 is not None


def interleaved_target(counts_YX4: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> Target:
    """A target for pixels that will be resampled.

    OpenCV interpolates four bands in a third of the time that it takes for three.
    """
    counts_BYX = counts_YX4[..., :3].transpose(2, 0, 1)
    return Target(counts_BYX=counts_BYX, valid_YX=valid_YX, counts_YX4=counts_YX4)


class SamplePlace:
    """Puts bands into arrays of their own, each (y, x).

    Args:
        planes: arrays by band; bands without an array are left out.
        planes_apart: each band has blocks of its own.
    """

    planar = False

    def __init__(self, planes: Mapping[int, NDArray[Any]], *, planes_apart: bool) -> None:
        self._planes, self._planes_apart = planes, planes_apart

    def put(self, block: NDArray[Any], plane: int, source: RowsCols, target: RowsCols) -> None:
        if self._planes_apart:
            self._planes[plane][target] = block[..., 0][source]
            return
        for sample, out_YX in self._planes.items():
            out_YX[target] = block[..., sample][source]


class PlanarPlace:
    """Splits interleaved pixels into bands, and sets validity."""

    planar = True

    def __init__(self, colour: Colour, target: Target, scratch: Scratch) -> None:
        self._colour, self._target, self._scratch = colour, target, scratch

    def put(self, block: NDArray[Any], plane: int, source: RowsCols, target: RowsCols) -> None:
        part_SYX = block[(slice(None), *source)]
        for band, out_YX in zip(self._colour.bands, self._target.counts_BYX, strict=True):
            out_YX[target] = part_SYX[band]
        self._set_validity(part_SYX, target)

    def split(self, block_YXS: NDArray[np.uint8], source: RowsCols, target: RowsCols) -> bool:
        """Puts a part of a block whose only samples are red, green and blue, in this order.

        Returns:
            False for any other block, which `put` takes.
        """
        if self._colour.bands != (0, 1, 2) or block_YXS.shape[2] != 3:
            return False
        part_YXS = block_YXS[source]
        bands = [out_YX[target] for out_YX in self._target.counts_BYX]
        cv2.split(part_YXS, bands)
        if self._colour.validity == "black" and part_YXS.min() > 0:
            self._target.valid_YX[target] = True
        else:
            self._set_validity(dict(enumerate(bands)), target)
        return True

    def _set_validity(self, part_SYX: Planes, target: RowsCols) -> None:
        colour, valid_YX = self._colour, self._target.valid_YX
        if colour.validity == "black":
            green_YX = part_SYX[colour.bands[1]]
            # pixels with green are not black: all of most blocks, nearly all rows of others
            whole = green_YX.min() > 0
            row_R = np.flatnonzero(green_YX.min(axis=1) == 0) if not whole else ()
            if len(row_R) < FEW_ROWS * len(green_YX):
                part_YX = valid_YX[target]
                part_YX[:] = True
                if not whole:
                    rows = [part_SYX[band][row_R] for band in colour.bands]
                    part_YX[row_R] = np.bitwise_or.reduce(rows) != 0
                return
        ground_YX = validity(colour, part_SYX, self._scratch)
        if ground_YX is not None:
            np.not_equal(ground_YX, 0, out=valid_YX[target])


class InterleavedPlace:
    """Copies interleaved pixels as they are, and sets validity.

    Args:
        counts_YX4: the target's interleaved memory.
    """

    planar = False

    def __init__(
        self, colour: Colour, target: Target, scratch: Scratch, counts_YX4: NDArray[np.uint8]
    ) -> None:
        self._colour, self._target, self._scratch = colour, target, scratch
        self._counts_YX4 = counts_YX4

    def put(self, block: NDArray[Any], plane: int, source: RowsCols, target: RowsCols) -> None:
        part_YXS = block[source]
        if self._colour.bands == (0, 1, 2) and block.shape[2] == 3:
            cv2.cvtColor(part_YXS, cv2.COLOR_RGB2RGBA, self._counts_YX4[target])
        elif self._colour.bands == (0, 1, 2) and block.shape[2] == 4:
            self._counts_YX4[target] = part_YXS
        else:
            for band, out_YX in zip(self._colour.bands, self._target.counts_BYX, strict=True):
                out_YX[target] = part_YXS[..., band]
        part_SYX = part_YXS.transpose(2, 0, 1)
        ground_YX = validity(self._colour, part_SYX, self._scratch, black_later=True)
        if ground_YX is not None:
            np.not_equal(ground_YX, 0, out=self._target.valid_YX[target])


class StretchedPlace:
    """Brings interleaved pixels of 16 bits to bands of 8, and sets validity by stored counts."""

    planar = False

    def __init__(
        self, colour: Colour, target: Target, scratch: Scratch, tables_VS: NDArray[np.uint8]
    ) -> None:
        self._colour, self._target, self._scratch = colour, target, scratch
        self._tables_VS = tables_VS

    def put(self, block: NDArray[Any], plane: int, source: RowsCols, target: RowsCols) -> None:
        arrays, part_YXS = self._target, block[source]
        shown_YXS = look_up(part_YXS, self._tables_VS)
        for band, out_YX in zip(self._colour.bands, arrays.counts_BYX, strict=True):
            out_YX[target] = shown_YXS[..., band]
        part_SYX = part_YXS.transpose(2, 0, 1)
        ground_YX = validity(self._colour, part_SYX, self._scratch, black_later=arrays.interleaved)
        if ground_YX is not None:
            np.not_equal(ground_YX, 0, out=arrays.valid_YX[target])


_sample: type[Place] = SamplePlace
_planar: type[Place] = PlanarPlace
_interleaved: type[Place] = InterleavedPlace
_stretched: type[Place] = StretchedPlace


def empty_bands(
    empty: Callable[[tuple[int, int], str], NDArray[np.uint8]], samples: int, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Memory for `cv2.split`, shape (sample, y, x): bands begin at different addresses modulo 32.

    Where all bands are aligned alike, `cv2.split` writes past the cache, although the bytes are
    needed next. Where they are aligned alike but not to 32 bytes, it also writes half lines,
    which takes six times as long.

    Args:
        empty: makes memory of a shape and dtype, such as `np.empty`.
    """
    pixels = shape[0] * shape[1]
    pitch = pixels + -pixels % 32 + 16
    return empty((samples, pitch), "|u1")[:, :pixels].reshape(samples, *shape)


def sample_tables(tables_BV: NDArray[np.uint8], colour: Colour, samples: int) -> NDArray[np.uint8]:
    """Tables for `look_up`, one per sample. Samples that are no colour become 0."""
    tables_VS = np.zeros((tables_BV.shape[1], samples), np.uint8)
    tables_VS[:, list(colour.bands)] = tables_BV.T
    return tables_VS


def look_up(part_YXS: NDArray[Any], tables_VS: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replaces counts of 16 bits by the tables' values, sample by sample.

    OpenCV takes 3 ns for a pixel of four samples, numpy 7.
    """
    native_YXS = part_YXS.astype(np.uint16, copy=False)
    if HAS_16_BIT_LUT:
        shown = cv2.LUT(native_YXS, tables_VS[np.newaxis])
        return np.asarray(shown, np.uint8).reshape(native_YXS.shape)
    shown_YXS = np.empty(native_YXS.shape, np.uint8)
    for sample, table_V in enumerate(tables_VS.T):
        shown_YXS[..., sample] = table_V[native_YXS[..., sample]]
    return shown_YXS


def validity(
    colour: Colour, planes: Planes, scratch: Scratch, *, black_later: bool = False
) -> NDArray[Any] | None:
    """An array that is not 0 where a pixel shows the ground; None where the planes do not tell.

    The thread's next call overwrites the result.

    Args:
        black_later: black pixels are found after resampling.
    """
    if colour.validity == "mask" or (colour.validity == "black" and black_later):
        return None
    if not colour.fills:
        return _declared(colour, planes, scratch)
    only_item = colour.validity == "nodata" and colour.nodata is None
    grounds = [] if only_item else [_declared(colour, planes, scratch) != 0]
    for fill in colour.fills:
        apart = [_apart(planes[b], count) for b, count in zip(colour.bands, fill, strict=True)]
        grounds.append(_any(apart, scratch) != 0)
    ground_YX: NDArray[np.bool_] = np.logical_and.reduce(grounds)
    return ground_YX


def _declared(colour: Colour, planes: Planes, scratch: Scratch) -> NDArray[Any]:
    """An array that is not 0 where the file itself, or its black, says that there is ground."""
    if colour.alpha is not None:
        return planes[colour.alpha]
    if colour.validity == "black":
        return _any([planes[b] for b in colour.bands], scratch)
    return _any([_apart(planes[b], colour.nodata or 0) for b in colour.nodata_bands], scratch)


def _apart(plane_YX: NDArray[Any], count: int) -> NDArray[Any]:
    """An array that is 0 where a band has a count."""
    return plane_YX ^ plane_YX.dtype.type(count) if count else plane_YX


def _any(planes: Sequence[NDArray[Any]], scratch: Scratch) -> NDArray[Any]:
    """An array that is not 0 where any plane is not 0."""
    if len(planes) == 1:
        return planes[0]
    any_YX = scratch.array("any", planes[0].shape, planes[0].dtype.str)
    np.bitwise_or(planes[0], planes[1], out=any_YX)
    for plane_YX in planes[2:]:
        np.bitwise_or(any_YX, plane_YX, out=any_YX)
    return any_YX
