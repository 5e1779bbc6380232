"""The blocks that a rectangle needs, their requests, and their names in messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakestream.raster.cog.block_plan import (
    Rect,
    block_name,
    block_parts,
    plan_requests,
    request_waves,
)
from quakestream.storage.ranges import FetchPolicy, RangeRequest
from tests.helpers.cog_case import small_level


@given(data=st.data(), height=st.integers(1, 70), width=st.integers(1, 90))
def test_parts_cover_a_rectangle_once(data: st.DataObject, height: int, width: int) -> None:
    """Each pixel comes from its own block, and shares add up to the rectangle."""
    image = small_level(height, width)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rect = Rect(
        top=top,
        left=left,
        height=data.draw(st.integers(1, height - top)),
        width=data.draw(st.integers(1, width - left)),
    )
    number_YX = np.arange(height * width).reshape(height, width)
    padded_YX = np.pad(number_YX, ((0, 16), (0, 24)), constant_values=-1)
    seen_YX = np.full((rect.height, rect.width), -1)
    pixels = 0.0
    for part in block_parts(image, 0, rect, [0]):
        row, col = part.index // image.across * 16, part.index % image.across * 24
        assert part.offset == 100 * part.index
        block_YX = padded_YX[row : row + 16, col : col + 24]
        assert (seen_YX[part.target] == -1).all()
        seen_YX[part.target] = block_YX[part.source]
        pixels += part.share * min(16, height - row) * min(24, width - col)
    np.testing.assert_array_equal(
        seen_YX, number_YX[top : top + rect.height, left : left + rect.width]
    )
    assert pixels == pytest.approx(rect.height * rect.width)


def test_bands_apart_have_blocks_of_their_own() -> None:
    image = small_level(32, 48, planar=True)
    rect = Rect(top=0, left=0, height=16, width=48)
    parts = list(block_parts(image, 0, rect, [2, 0]))
    assert [(p.plane, p.index) for p in parts] == [(2, 8), (2, 9), (0, 0), (0, 1)]
    assert {p.share for p in parts} == {1.0}


def test_blocks_side_by_side_come_in_one_request() -> None:
    image = small_level(64, 96)
    parts = list(block_parts(image, 0, Rect(top=0, left=0, height=32, width=40), [0]))
    assert [p.index for p in parts] == [0, 1, 4, 5]
    assert plan_requests(parts, FetchPolicy(gap_bytes=0)) == [
        RangeRequest(0, 200, (0, 1)),
        RangeRequest(400, 200, (2, 3)),
    ]


def test_waves_are_bounded_and_keep_the_order() -> None:
    requests = [RangeRequest(start, length, ()) for start, length in ((0, 6), (6, 4), (10, 30))]
    assert list(request_waves(requests, 10)) == [requests[:2], requests[2:]]
    assert list(request_waves([], 10)) == []


def test_a_block_has_a_name_that_finds_it() -> None:
    image = small_level(64, 96, planar=True)
    (part,) = block_parts(image, 0, Rect(top=20, left=30, height=1, width=1), [1])
    assert block_name(part, 3) == "block 1,1 of band 2"
    mask = small_level(64, 96)
    names = []
    for number in (2, 3, 5):
        (part,) = block_parts(mask, number, Rect(top=0, left=0, height=1, width=1), [0])
        names.append(block_name(part, 3))
    assert names == [
        "block 0,0 of overview 2",
        "block 0,0 of the mask",
        "block 0,0 of the mask of overview 2",
    ]
