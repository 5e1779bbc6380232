"""Plans reads: which blocks a rectangle needs, and which requests bring their bytes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quakestream.raster.cog.layout import Level
from quakestream.storage.ranges import FetchPolicy, RangeRequest, merge_ranges

IN_FLIGHT_BYTES = 64 << 20
"""Encoded bytes of one window that are held at once, unless a single request is larger."""
RowsCols = tuple[slice, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """Pixels of one level: rows from `top`, columns from `left`."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class BlockPart:
    """The part of one block that lies in a rectangle."""

    level: Level
    image: int
    """Index of the level among the layout's levels and masks."""
    index: int
    """Index of the block in the level."""
    plane: int
    row: int
    offset: int
    size: int
    """Bytes in the file; 0 where the block is not in it."""
    source: RowsCols
    """Rows and columns of the block."""
    target: RowsCols
    """Rows and columns of the rectangle."""
    share: float
    """Share of the block's pixels inside the image that the rectangle needs; 1 if all of them."""


def block_parts(level: Level, image: int, rect: Rect, planes: Iterable[int]) -> Iterator[BlockPart]:
    """The parts of all blocks that a rectangle covers, plane by plane and row by row."""
    high, wide = level.block_height, level.block_width
    rows = range(rect.top // high, -(-(rect.top + rect.height) // high))
    cols = range(rect.left // wide, -(-(rect.left + rect.width) // wide))
    row_parts = [(r, *_overlap(rect.top, rect.height, r * high, high, level.height)) for r in rows]
    col_parts = [_overlap(rect.left, rect.width, c * wide, wide, level.width) for c in cols]
    for plane in planes:
        for row, source_rows, target_rows, row_share in row_parts:
            first = level.block(plane, row, cols.start)
            offsets = level.offset_N[first : first + len(cols)].tolist()
            sizes = level.bytes_N[first : first + len(cols)].tolist()
            for n, (source_cols, target_cols, col_share) in enumerate(col_parts):
                yield BlockPart(
                    level,
                    image,
                    first + n,
                    plane,
                    row,
                    offsets[n],
                    sizes[n],
                    (source_rows, source_cols),
                    (target_rows, target_cols),
                    row_share * col_share,
                )


def plan_requests(parts: Sequence[BlockPart], policy: FetchPolicy) -> list[RangeRequest]:
    """Requests that bring the blocks of all parts; their members are indices of `parts`."""
    return merge_ranges([p.offset for p in parts], [p.size for p in parts], policy)


def request_waves(
    requests: Iterable[RangeRequest], limit_bytes: int = IN_FLIGHT_BYTES
) -> Iterator[list[RangeRequest]]:
    """Requests in groups of bounded size. A request above the bound is a group of its own."""
    wave: list[RangeRequest] = []
    wave_bytes = 0
    for request in requests:
        if wave and wave_bytes + request.length > limit_bytes:
            yield wave
            wave, wave_bytes = [], 0
        wave.append(request)
        wave_bytes += request.length
    if wave:
        yield wave


def block_name(part: BlockPart, levels: int) -> str:
    """A block's name in messages, such as `block 3,4 of the mask of overview 1`.

    Args:
        levels: number of the layout's levels; the images after them are their masks.
    """
    name = f"block {part.row},{part.index % part.level.across}"
    if part.level.planar:
        name += f" of band {part.plane + 1}"
    if part.image >= levels:
        name += " of the mask"
    if part.image % levels:
        name += f" of overview {part.image % levels}"
    return name


def _overlap(start: int, length: int, at: int, side: int, end: int) -> tuple[slice, slice, float]:
    """The overlap of a rectangle and a block along one axis.

    Args:
        start: first pixel of the rectangle.
        at: first pixel of the block.
        end: length of the image, which may cut the block.

    Returns:
        Pixels of the block, pixels of the rectangle, and the share of the block.
    """
    first, last = max(start, at), min(start + length, at + side)
    share = (last - first) / (min(at + side, end) - at)
    return slice(first - at, last - at), slice(first - start, last - start), share
