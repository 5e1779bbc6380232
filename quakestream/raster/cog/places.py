"""Where the pixels of decoded blocks go, and what tells ground from nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.layout import Colour
from quakestream.raster.cog.workers import Scratch

FEW = 0.1
"""Rows of a block, of all, that are looked at one by one."""
LOOKS_UP_16_BITS = int(cv2.__version__.partition(".")[0]) >= 5
Part2D = tuple[slice, slice]
"""Rows and columns."""
Planes = NDArray[Any] | Mapping[int, NDArray[Any]]
"""Bands by index, each (y, x)."""


class Place(Protocol):
    """Takes blocks. Called from several threads, never twice for one pixel and band."""

    def put(self, made: NDArray[Any], plane: int, source: Part2D, target: Part2D) -> None:
        """Puts the `source` part of a block (of one plane, where bands lie apart) to `target`.

        Args:
            made: (y, x, sample); for a `PlanarPlace` (sample, y, x).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """Arrays to fill with a rectangle of a scene."""

    counts_BYX: NDArray[np.uint8]
    """Red, green, blue, 8 bits."""
    valid_YX: NDArray[np.bool_]
    counts_YX4: NDArray[np.uint8] | None = None
    """Memory that the counts are a view of, where they are to be resampled; what its fourth
    values are does not matter. What is black is then told apart afterwards."""

    @property
    def interleaved(self) -> bool:
        return self.counts_YX4 is not None


def interleaved(counts_YX4: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> Target:
    """A target for pixels that are to be resampled: OpenCV takes a third of the time to
    interpolate four bands that it takes for three."""
    counts_BYX = counts_YX4[..., :3].transpose(2, 0, 1)
    return Target(counts_BYX=counts_BYX, valid_YX=valid_YX, counts_YX4=counts_YX4)


class SamplePlace:
    """Bands into arrays of their own, each (y, x), those nobody wants left out."""

    def __init__(self, planes: Mapping[int, NDArray[Any]], *, apart: bool) -> None:
        self._planes, self._apart = planes, apart

    def put(self, made: NDArray[Any], plane: int, source: Part2D, target: Part2D) -> None:
        if self._apart:
            self._planes[plane][target] = made[..., 0][source]
            return
        for sample, out_YX in self._planes.items():
            out_YX[target] = made[..., sample][source]


class PlanarPlace:
    """Pixels whose bands lie together, into bands that lie apart; and validity."""

    def __init__(self, colour: Colour, target: Target, scratch: Scratch) -> None:
        self._colour, self._target, self._scratch = colour, target, scratch

    def put(self, made: NDArray[Any], plane: int, source: Part2D, target: Part2D) -> None:
        part_SYX = made[(slice(None), *source)]
        for band, out_YX in zip(self._colour.bands, self._target.counts_BYX, strict=True):
            out_YX[target] = part_SYX[band]
        self._judge(part_SYX, target)

    def split(self, block_YXS: NDArray[np.uint8], source: Part2D, target: Part2D) -> bool:
        """Puts a part of a block whose samples, (y, x, sample), are the bands; False for others."""
        if self._colour.bands != (0, 1, 2) or block_YXS.shape[2] != 3:
            return False
        part_YXS = block_YXS[source]
        bands = [out_YX[target] for out_YX in self._target.counts_BYX]
        cv2.split(part_YXS, bands)
        if self._colour.validity == "black" and part_YXS.min() > 0:
            self._target.valid_YX[target] = True
        else:
            self._judge(dict(enumerate(bands)), target)
        return True

    def _judge(self, part_SYX: Planes, target: Part2D) -> None:
        colour, valid_YX = self._colour, self._target.valid_YX
        if colour.validity == "black":
            green_YX = part_SYX[colour.bands[1]]
            # what is green is not black: all of most blocks, and nearly all rows of others
            whole = green_YX.min() > 0
            row_R = np.flatnonzero(green_YX.min(axis=1) == 0) if not whole else ()
            if len(row_R) < FEW * len(green_YX):
                into_YX = valid_YX[target]
                into_YX[:] = True
                if not whole:
                    seen = [part_SYX[band][row_R] for band in colour.bands]
                    into_YX[row_R] = np.bitwise_or.reduce(seen) != 0
                return
        truth_YX = validity(colour, part_SYX, self._target, self._scratch)
        if truth_YX is not None:
            np.not_equal(truth_YX, 0, out=valid_YX[target])


class InterleavedPlace:
    """Pixels whose bands lie together and stay so; and validity."""

    def __init__(self, colour: Colour, target: Target, scratch: Scratch) -> None:
        self._colour, self._target, self._scratch = colour, target, scratch

    def put(self, made: NDArray[Any], plane: int, source: Part2D, target: Part2D) -> None:
        into, part_YXS = self._target, made[source]
        assert into.counts_YX4 is not None
        if self._colour.bands == (0, 1, 2) and made.shape[2] == 3:
            cv2.cvtColor(part_YXS, cv2.COLOR_RGB2RGBA, into.counts_YX4[target])
        elif self._colour.bands == (0, 1, 2) and made.shape[2] == 4:
            into.counts_YX4[target] = part_YXS
        else:
            for band, out_YX in zip(self._colour.bands, into.counts_BYX, strict=True):
                out_YX[target] = part_YXS[..., band]
        truth_YX = validity(self._colour, part_YXS.transpose(2, 0, 1), into, self._scratch)
        if truth_YX is not None:
            np.not_equal(truth_YX, 0, out=into.valid_YX[target])


class StretchedPlace:
    """Pixels of 16 bits whose bands lie together, into bands of 8; and validity, as stored."""

    def __init__(
        self, colour: Colour, target: Target, scratch: Scratch, tables_VS: NDArray[np.uint8]
    ) -> None:
        self._colour, self._target, self._scratch = colour, target, scratch
        self._tables_VS = tables_VS

    def put(self, made: NDArray[Any], plane: int, source: Part2D, target: Part2D) -> None:
        into, part_YXS = self._target, made[source]
        shown_YXS = looked_up(part_YXS, self._tables_VS)
        for band, out_YX in zip(self._colour.bands, into.counts_BYX, strict=True):
            out_YX[target] = shown_YXS[..., band]
        truth_YX = validity(self._colour, part_YXS.transpose(2, 0, 1), into, self._scratch)
        if truth_YX is not None:
            np.not_equal(truth_YX, 0, out=into.valid_YX[target])


_sample: type[Place] = SamplePlace
_planar: type[Place] = PlanarPlace
_interleaved: type[Place] = InterleavedPlace
_stretched: type[Place] = StretchedPlace


def bands_apart(
    make: Callable[[tuple[int, int], str], NDArray[np.uint8]], samples: int, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Memory for bands, (sample, y, x), none of which begins where the next does in 32 bytes.

    For `cv2.split`: where all it writes to is aligned alike it writes past the cache, to bytes
    that are needed next; and unless they are aligned to 32 it writes half lines, which takes
    six times as long.
    """
    pixels = shape[0] * shape[1]
    pitch = pixels + -pixels % 32 + 16
    return make((samples, pitch), "|u1")[:, :pixels].reshape(samples, *shape)


def tables_of_samples(
    tables_BV: NDArray[np.uint8], colour: Colour, samples: int
) -> NDArray[np.uint8]:
    """Tables as `looked_up` takes them; samples that are no colour become 0."""
    tables_VS = np.zeros((tables_BV.shape[1], samples), np.uint8)
    tables_VS[:, list(colour.bands)] = tables_BV.T
    return tables_VS


def looked_up(part_YXS: NDArray[Any], tables_VS: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What tables make of counts of 16 bits, sample by sample.

    OpenCV learnt it with version 5, and takes 3 ns a pixel of four samples where numpy takes 7.
    """
    native_YXS = part_YXS.astype(np.uint16, copy=False)
    if LOOKS_UP_16_BITS:
        made = cv2.LUT(native_YXS, tables_VS[np.newaxis])
        return np.asarray(made, np.uint8).reshape(native_YXS.shape)
    shown_YXS = np.empty(native_YXS.shape, np.uint8)
    for sample, table_V in enumerate(tables_VS.T):
        shown_YXS[..., sample] = table_V[native_YXS[..., sample]]
    return shown_YXS


def validity(colour: Colour, planes: Planes, into: Target, scratch: Scratch) -> NDArray[Any] | None:
    """Not 0 where a pixel shows the ground; None where something else tells (a mask).

    The result is overwritten by the thread's next call.
    """
    if colour.validity == "mask" or (colour.validity == "black" and into.interleaved):
        return None
    if colour.validity == "alpha":
        assert colour.alpha is not None
        return planes[colour.alpha]
    if colour.validity == "black":
        return _any([planes[b] for b in colour.bands], scratch)
    seen = [planes[b] for b in colour.nodata_bands]
    if colour.nodata:
        seen = [plane_YX ^ plane_YX.dtype.type(colour.nodata) for plane_YX in seen]
    return _any(seen, scratch)


def _any(planes: Sequence[NDArray[Any]], scratch: Scratch) -> NDArray[Any]:
    """Not 0 where any plane is not."""
    if len(planes) == 1:
        return planes[0]
    truth_YX = scratch.array("truth", planes[0].shape, planes[0].dtype.str)
    np.bitwise_or(planes[0], planes[1], out=truth_YX)
    for plane_YX in planes[2:]:
        np.bitwise_or(truth_YX, plane_YX, out=truth_YX)
    return truth_YX
