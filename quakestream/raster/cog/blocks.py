"""Rectangles of a scene's own pixels: fetched in few requests, decoded block by block.

Counts go from the decoder's scratch into the caller's arrays; nothing larger than a
block lies between them.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ReadError
from quakestream.raster.cog.decode import decode, heading
from quakestream.raster.cog.layout import CogLayout, Level
from quakestream.raster.cog.pending import Wanted
from quakestream.raster.cog.places import (
    InterleavedPlace,
    Part2D,
    Place,
    PlanarPlace,
    SamplePlace,
    StretchedPlace,
    Target,
    bands_apart,
    tables_of_samples,
    validity,
)
from quakestream.raster.cog.workers import Scratch, Team, between_vectors
from quakestream.storage.fetchers import LocalFetcher
from quakestream.storage.ranges import Buffer, Fetcher, RangeRequest, merge_ranges

IN_FLIGHT_BYTES = 64 << 20
"""Encoded bytes of one window that are held at once, unless a single request is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """Pixels of one level: rows from `top`, columns from `left`."""

    top: int
    left: int
    height: int
    width: int


@dataclass(slots=True, eq=False)
class Part:
    """One block's share of a rectangle."""

    level: Level
    image: int
    """Index into the layout's levels and masks."""
    index: int
    """Of the block in the level."""
    plane: int
    row: int
    offset: int
    size: int
    """Bytes in the file; 0 where the block is not there."""
    source: Part2D
    """Rows and columns of the block."""
    target: Part2D
    """Rows and columns of the rectangle."""
    share: float
    """Of the block's pixels on the image that are wanted; 1: nothing is left for others."""
    place: Place
    claimed: bool = False
    """True while other threads wait for us to make the block."""


Answered = tuple[Part, int, Future[Buffer]]
"""A block, where it begins in the answer, and the answer."""


class BlockReader:
    """Reads one scene's blocks. Safe to use from several threads.

    Args:
        tables_BV: what counts of 16 bits become where colour is asked for; None for 8 bits.
    """

    def __init__(
        self,
        layout: CogLayout,
        fetcher: Fetcher,
        *,
        name: str,
        team: Team,
        tables_BV: NDArray[np.uint8] | None = None,
    ) -> None:
        self._layout, self._fetcher, self._name = layout, fetcher, name
        self._tables_BV, self._tables_VS = tables_BV, None
        if tables_BV is not None and layout.colour is not None:
            samples = layout.levels[0].samples
            self._tables_VS = tables_of_samples(tables_BV, layout.colour, samples)
        self._images = (*layout.levels, *layout.masks)
        self._team = team
        self._policy = fetcher.policy
        self._scratch = team.scratch

    def samples(self, image: int, rect: Rect) -> NDArray[Any]:
        """All bands as they are stored, shape (sample, y, x), in the machine's byte order.

        Raises:
            ReadError: if a block cannot be fetched or decoded; names it.
        """
        level = self._images[image]
        dtype = np.dtype(level.coding.dtype).newbyteorder("=")
        if level.coding.bits == 1:
            dtype = np.dtype(np.bool_)
        out_SYX = np.empty((level.samples, rect.height, rect.width), dtype)
        place = SamplePlace(dict(enumerate(out_SYX)), apart=level.planar)
        self._read(list(self._parts(image, rect, range(level.planes), place)))
        return out_SYX

    def colour(self, level: int, rect: Rect, target: Target) -> None:
        """Red, green, blue and validity of a rectangle, into arrays of its shape.

        Validity is left alone where the target is interleaved and nothing is declared.

        Raises:
            ReadError: if a block cannot be fetched or decoded; names it.
        """
        colour = self._layout.colour
        assert colour is not None
        truth = SamplePlace({0: target.valid_YX}, apart=False)
        if not self._images[level].planar:
            self._read(self._wanted(level, rect, self._together(target), truth))
            return
        planes: dict[int, NDArray[Any]] = {}
        if self._tables_BV is None:
            planes.update(zip(colour.bands, target.counts_BYX, strict=True))
        counts = np.uint8 if self._tables_BV is None else np.uint16
        for sample in colour.used[len(planes) :]:
            planes[sample] = np.empty(target.valid_YX.shape, counts)
        self._read(self._wanted(level, rect, SamplePlace(planes, apart=True), truth))
        if self._tables_BV is not None:
            bands = zip(self._tables_BV, colour.bands, target.counts_BYX, strict=True)
            for table_V, band, out_YX in bands:
                out_YX[:] = table_V[planes[band]]
        truth_YX = validity(colour, planes, target, Scratch())
        if truth_YX is not None:
            np.not_equal(truth_YX, 0, out=target.valid_YX)

    def prefetch(self, level: int, rects: Sequence[Rect], *, interleaved: bool) -> None:
        """Asks for what `colour` will need of rectangles, and returns at once.

        What lies side by side in different rectangles comes in one request. Nothing is done
        where bytes are at hand, or too many are on their way already.
        """
        assert self._layout.colour is not None
        if self._policy.requests == 0:
            return
        parts: dict[Hashable, Part] = {}
        for rect in rects:
            for part in self._coming(level, rect, interleaved=interleaved):
                parts.setdefault(self._name_of(part), part)
        self._ask([part for part in parts.values() if not self._expected(part)])

    def _coming(self, level: int, rect: Rect, *, interleaved: bool) -> list[Part]:
        """The blocks of a rectangle whose pixels go nowhere yet."""
        shape = rect.height, rect.width
        target = Target(
            counts_BYX=np.broadcast_to(np.uint8(0), (3, *shape)),
            valid_YX=np.broadcast_to(np.False_, shape),
            counts_YX4=np.broadcast_to(np.uint8(0), (*shape, 4)) if interleaved else None,
        )
        place = self._together(target)
        if self._images[level].planar:
            place = SamplePlace({}, apart=True)
        return self._wanted(level, rect, place, SamplePlace({}, apart=False))

    def _expected(self, part: Part) -> bool:
        """True if nobody has to ask for a block."""
        return (
            part.size == 0
            or self._name_of(part) in self._team.ahead
            or self._team.blocks.has(self._key(part))
        )

    def _ask(self, parts: Sequence[Part]) -> None:
        for run in self._runs(parts):
            blocks = [
                Wanted(self._name_of(parts[n]), parts[n].offset - run.start) for n in run.members
            ]
            submit = partial(self._team.later, self._fetching(run))
            self._team.ahead.ask(run.length, blocks, submit)

    def _together(self, target: Target) -> Place:
        """Where blocks go that hold all bands."""
        colour = self._layout.colour
        assert colour is not None
        if self._tables_VS is not None:
            return StretchedPlace(colour, target, self._scratch, self._tables_VS)
        kind = InterleavedPlace if target.interleaved else PlanarPlace
        return kind(colour, target, self._scratch)

    def _wanted(self, level: int, rect: Rect, place: Place, truth: Place) -> list[Part]:
        """All blocks that tell colour and validity of a rectangle."""
        colour = self._layout.colour
        assert colour is not None
        planes = colour.used if self._images[level].planar else (0,)
        parts = list(self._parts(level, rect, planes, place))
        if colour.validity == "mask":
            parts.extend(self._parts(len(self._layout.levels) + level, rect, (0,), truth))
        return parts

    def _parts(self, image: int, rect: Rect, planes: Iterable[int], place: Place) -> Iterator[Part]:
        """The blocks a rectangle lies on."""
        level = self._images[image]
        high, wide = level.block_height, level.block_width
        rows = range(rect.top // high, -(-(rect.top + rect.height) // high))
        cols = range(rect.left // wide, -(-(rect.left + rect.width) // wide))
        downs = [(r, *_share(rect.top, rect.height, r * high, high, level.height)) for r in rows]
        acrosses = [(c, *_share(rect.left, rect.width, c * wide, wide, level.width)) for c in cols]
        for plane in planes:
            for row, from_y, to_y, all_y in downs:
                first = level.block(plane, row, cols.start)
                last = first + len(cols)
                offsets = level.offset_N[first:last].tolist()
                sizes = level.bytes_N[first:last].tolist()
                for n, (_, from_x, to_x, all_x) in enumerate(acrosses):
                    yield Part(
                        level,
                        image,
                        first + n,
                        plane,
                        row,
                        offsets[n],
                        sizes[n],
                        (from_y, from_x),
                        (to_y, to_x),
                        all_y * all_x,
                        place,
                    )

    def _read(self, parts: Sequence[Part]) -> None:
        """Places parts: from memory, from what other threads make, and from the file."""
        own: list[Part] = []
        others: list[tuple[Part, Future[NDArray[Any] | None]]] = []
        try:
            for part in parts:
                known = self._known(part)
                if known is None:
                    own.append(part)
                    continue
                self._team.ahead.take(self._name_of(part))  # nobody will come for it any more
                if isinstance(known, Future):
                    others.append((part, known))
                else:
                    part.place.put(known, part.plane, part.source, part.target)
            self._make(own)
        finally:
            for part in own:
                self._settle(part, None)
        for part, answer in others:  # only now: whom we wait for may wait for ours
            self._from_another(part, answer)

    def _known(self, part: Part) -> "NDArray[Any] | Future[NDArray[Any] | None] | None":
        """A block that is not in the file, or was made already, or is being made."""
        if part.size == 0:
            return self._absent(part)
        if not self._shared(part):
            return self._team.blocks.get(self._key(part), part.share)
        found = self._team.blocks.claim(self._key(part), part.share)
        part.claimed = found is None
        return found

    def _shared(self, part: Part) -> bool:
        """True if another window may need the rest of a block, and blocks are kept."""
        return part.share < 1.0 and self._team.blocks.limit_bytes > 0

    def _settle(self, part: Part, made: NDArray[Any] | Exception | None) -> None:
        """Tells who waits for a block what became of it, once."""
        if part.claimed:
            part.claimed = False
            self._team.blocks.settle(self._key(part), made)

    def _from_another(self, part: Part, answer: "Future[NDArray[Any] | None]") -> None:
        try:
            made = answer.result()
        except Exception as error:
            self._fail(part, error)
        if made is None:  # given up, for a block that is broken
            self._read([part])
        else:
            part.place.put(made, part.plane, part.source, part.target)

    def _make(self, parts: Sequence[Part]) -> None:
        """Fetches, decodes and places parts, several at once."""
        if not parts:
            return
        if self._policy.requests == 0:
            self._team.each(parts, self._inline)
            return
        asked: list[Answered] = []
        rest: list[Part] = []
        for part in parts:
            found = self._team.ahead.take(self._name_of(part))
            if found is None:
                rest.append(part)
            else:
                asked.append((part, found[1], found[0]))
        waves = list(_waves(self._runs(rest)))
        for n, wave in enumerate(waves or [[]]):
            self._read_runs(rest, wave, asked if n == 0 else [])

    def _runs(self, parts: Sequence[Part]) -> list[RangeRequest]:
        return merge_ranges([p.offset for p in parts], [p.size for p in parts], self._policy)

    def _absent(self, part: Part) -> NDArray[Any]:
        """A block that is not in the file, as its place takes it: nodata, else 0, like GDAL."""
        shape, dtype = part.level.shape_of(part.row), part.level.coding.dtype
        mask = part.image >= len(self._layout.levels)
        made = np.full(shape, 0 if mask else self._layout.fill, dtype)
        return made.transpose(2, 0, 1) if isinstance(part.place, PlanarPlace) else made

    def _inline(self, part: Part) -> None:
        try:
            coding, shape = part.level.coding, part.level.packed_shape(part.row)
            header = heading(coding, shape, part.size)
            if not (header and isinstance(self._fetcher, LocalFetcher)):
                self._decode(part, self._fetcher.fetch(part.offset, part.size))
                return
            room = self._scratch.room(len(header) + part.size)
            room[: len(header)] = header
            held = self._fetcher.fetch_into(part.offset, room[len(header) :])
            self._decode(part, room[: len(header) + held], header=len(header))
        except Exception as error:  # stores and codecs share no base
            self._fail(part, error)

    def _read_runs(
        self, parts: Sequence[Part], runs: list[RangeRequest], asked: list[Answered]
    ) -> None:
        """All requests at once; blocks are decoded as soon as theirs is answered.

        Args:
            asked: blocks whose requests are under way.
        """
        new: list[Answered] = []
        for run in runs:
            answer = self._team.later(self._fetching(run))
            new += [(parts[n], parts[n].offset - run.start, answer) for n in run.members]

        def one(item: Answered) -> None:
            part, start, answer = item
            try:
                self._decode(part, memoryview(answer.result())[start : start + part.size])
            except Exception as error:
                self._fail(part, error)

        try:
            self._team.each([*asked, *new], one)
        finally:
            for _, _, answer in new:  # those made ahead may bring blocks of other windows
                answer.cancel()

    def _fetching(self, run: RangeRequest) -> Callable[[], Buffer]:
        return lambda: self._fetcher.fetch(run.start, run.length)

    def _decode(self, part: Part, data: Buffer, header: int = 0) -> None:
        missing = part.size + header - len(data)
        if missing > 0:
            raise ValueError(f"the file ends {missing} bytes before it does")
        keep = self._shared(part)
        level = part.level
        shape, dtype = level.packed_shape(part.row), level.coding.dtype
        planar = isinstance(part.place, PlanarPlace)
        own = keep and not planar
        make = between_vectors if own else partial(self._scratch.array, "block")
        made = decode(level, data, make(shape, dtype), headed=header > 0)
        if isinstance(part.place, PlanarPlace):
            if not keep and part.place.split(made, part.source, part.target):
                return
            made = self._split(made, keep)
        elif keep and level.coding.codec == "none":
            made = made.copy()  # a view of the request's bytes, which would be kept whole
        self._settle(part, made)
        part.place.put(made, part.plane, part.source, part.target)

    def _split(self, block_YXS: NDArray[np.uint8], keep: bool) -> NDArray[np.uint8]:
        """A block's bands, (sample, y, x); with `keep` in memory of their own."""
        height, width, samples = block_YXS.shape
        make = np.empty if keep else partial(self._scratch.array, "bands")
        made_SYX = bands_apart(make, samples, (height, width))
        cv2.split(block_YXS, list(made_SYX))
        return made_SYX

    def _name_of(self, part: Part) -> Hashable:
        return self._layout.key, part.image, part.index

    def _key(self, part: Part) -> Hashable:
        # a block is kept as its place wants it, and one scene may be read on two grids
        return (self._layout.key, part.image, part.index, isinstance(part.place, PlanarPlace))

    def _fail(self, part: Part, error: Exception) -> NoReturn:
        """Raises an error that names the scene, the block and the cause."""
        self._settle(part, error)
        if isinstance(error, ImportError):
            raise error
        href, images = self._layout.href, len(self._layout.levels)
        what = f"block {part.row},{part.index % part.level.across}"
        if part.level.planar:
            what += f" of band {part.plane + 1}"
        if part.image >= images:
            what += " of the mask"
        if part.image % images:
            what += f" of overview {part.image % images}"
        told = str(error).rpartition(f"{href}: ")[2] or type(error).__name__
        raise ReadError(f"cannot read {href} ({self._name}{what}): {told}") from error


def _share(start: int, length: int, at: int, side: int, end: int) -> tuple[slice, slice, float]:
    """Along one axis: what a rectangle wants of a block, where it goes, and its share."""
    first, last = max(start, at), min(start + length, at + side)
    share = (last - first) / (min(at + side, end) - at)
    return slice(first - at, last - at), slice(first - start, last - start), share


def _waves(runs: Iterable[RangeRequest]) -> Iterator[list[RangeRequest]]:
    """Requests in groups that hold a bounded number of bytes."""
    wave: list[RangeRequest] = []
    held = 0
    for run in runs:
        if wave and held + run.length > IN_FLIGHT_BYTES:
            yield wave
            wave, held = [], 0
        wave.append(run)
        held += run.length
    if wave:
        yield wave
