"""Laws of polygons: cuts do not show in them, and parts join in any order."""

from itertools import pairwise

import numpy as np
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage

from quakestream.domain import Grid, Window
from quakestream.raster.outlines import STEPS_NODATA, ScoredGround, find_parts
from quakestream.reduce.polygons import MANY_CORNERS, PolygonParts, dissolved, merge, simplified

GRID = Grid(epsg=32637, gsd_m=0.5)
THRESHOLD = 125
ROW, COL = 1_000_003, 40_017
"""Where the rasters of these tests lie on the grid."""

rasters = arrays(
    np.uint8,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([10, 130, 200, STEPS_NODATA]),
)
seeds = st.integers(0, 2**32 - 1)


def piece(p_YX: NDArray[np.uint8], box: Window) -> ScoredGround:
    """A part of a raster whose first pixel lies at (ROW, COL)."""
    rows, cols = slice(box.row, box.row_end), slice(box.col, box.col_end)
    slope_YX = np.where(p_YX % 4 == 0, STEPS_NODATA, p_YX // 3).astype(np.uint8)
    return ScoredGround(
        grid=GRID,
        window=Window(row=box.row + ROW, col=box.col + COL, height=box.height, width=box.width),
        ground_YX=np.ones(box.shape, np.bool_),
        p_YX=p_YX[rows, cols],
        deviation_YX=(p_YX // 5)[rows, cols],
        slope_YX=slope_YX[rows, cols],
    )


def whole(p_YX: NDArray[np.uint8], least: int = 0) -> PolygonParts:
    height, width = p_YX.shape
    box = Window(row=0, col=0, height=height, width=width)
    return find_parts(piece(p_YX, box), THRESHOLD, least)


def cut(p_YX: NDArray[np.uint8], seed: int, least: int = 0) -> list[PolygonParts]:
    """Parts of the raster in pieces of random sizes, in random order."""
    rng = np.random.default_rng(seed)
    height, width = p_YX.shape
    rows, cols = ([0, *np.flatnonzero(rng.random(n - 1) < 0.4) + 1, n] for n in (height, width))
    parts = [
        find_parts(
            piece(p_YX, Window(row=top, col=left, height=low - top, width=right - left)),
            THRESHOLD,
            least,
        )
        for top, low in pairwise(int(v) for v in rows)
        for left, right in pairwise(int(v) for v in cols)
    ]
    return [parts[n] for n in rng.permutation(len(parts))]


def polygons(parts: PolygonParts) -> PolygonParts:
    """Without runs, which say where the ground was cut."""
    return PolygonParts(**{n: getattr(parts, n) for n in COLUMNS}, runs=PolygonParts.empty().runs)


COLUMNS = tuple(n for n in PolygonParts.__dataclass_fields__ if n != "runs")


@given(p_YX=rasters, seed=seeds)
def test_cuts_do_not_show(p_YX: NDArray[np.uint8], seed: int) -> None:
    assert polygons(merge(cut(p_YX, seed))).equals(polygons(whole(p_YX)))


@given(p_YX=rasters)
def test_polygons_are_the_groups_of_pixels_that_share_a_side(p_YX: NDArray[np.uint8]) -> None:
    marked_YX = (p_YX >= THRESHOLD) & (p_YX != STEPS_NODATA)
    label_YX, count = ndimage.label(marked_YX)
    parts = whole(p_YX)
    assert len(parts) == count
    assert shapely.is_valid(parts.outline_N).all()
    place = Affine.translation(COL, ROW)
    for n, outline in enumerate(parts.outline_N):
        assert outline.geom_type == "Polygon"
        inside_YX = rasterize([outline], p_YX.shape, transform=place).astype(np.bool_)
        label = label_YX[parts.row_N[n] - ROW, parts.col_N[n] - COL]
        assert np.array_equal(inside_YX, label_YX == label), "holes are kept"
        assert parts.pixels_N[n] == outline.area == inside_YX.sum()
        assert parts.p_sum_N[n] == p_YX[inside_YX].astype(int).sum()
        assert parts.p_max_N[n] == p_YX[inside_YX].max()
        sloping = inside_YX & (p_YX % 4 != 0)
        assert parts.slope_pixels_N[n] == sloping.sum()
        assert parts.slope_sum_N[n] == (p_YX[sloping].astype(int) // 3).sum()


@given(p_YX=rasters, seed=seeds)
def test_merge_is_associative_and_commutative_with_an_identity(
    p_YX: NDArray[np.uint8], seed: int
) -> None:
    parts = cut(p_YX, seed)
    at_once = merge(parts)
    one_by_one = PolygonParts.empty()
    for part in parts:
        one_by_one = merge([one_by_one, part])
    middle = len(parts) // 2
    in_halves = merge([merge(parts[middle:]), merge(parts[:middle])])
    assert one_by_one.equals(at_once)
    assert in_halves.equals(at_once)
    assert merge([at_once, PolygonParts.empty()]).equals(at_once)


@given(p_YX=rasters, seed=seeds, least=st.integers(1, 6))
def test_what_is_dropped_early_is_too_small_at_the_end(
    p_YX: NDArray[np.uint8], seed: int, least: int
) -> None:
    """Parts that are small for lack of their neighbours stay."""

    def large(parts: PolygonParts) -> list[tuple[int, int, int]]:
        rows = zip(parts.row_N, parts.col_N, parts.pixels_N, strict=True)
        return [(int(r), int(c), int(n)) for r, c, n in rows if n >= least]

    assert large(merge(cut(p_YX, seed, least))) == large(whole(p_YX))


@given(p_YX=rasters, tolerance=st.sampled_from([0.5, 1.0, 2.0]))
def test_simplified_outlines_are_valid_and_near(p_YX: NDArray[np.uint8], tolerance: float) -> None:
    for outline in whole(p_YX).outline_N:
        smooth = simplified(outline, tolerance)
        assert smooth.is_valid
        assert not smooth.is_empty
        assert len(smooth.interiors) == len(outline.interiors)
        assert shapely.hausdorff_distance(smooth.exterior, outline.exterior) <= tolerance + 1e-9


def test_a_ragged_outline_of_many_corners_is_simplified_too() -> None:
    """GEOS's first simplifier took minutes for one slide over a scene: its time is a square."""
    noise_YX = np.random.default_rng(0).normal(size=(450, 450))
    rough_YX = ndimage.gaussian_filter(noise_YX, 1.2) > -0.02
    outline = max(whole(np.where(rough_YX, 200, 0).astype(np.uint8)).outline_N, key=shapely.area)
    assert shapely.get_num_coordinates(outline) > MANY_CORNERS
    smooth = simplified(outline, 1.0)
    assert smooth.is_valid
    assert len(smooth.interiors) == len(outline.interiors)
    assert shapely.get_num_coordinates(smooth) < 0.6 * shapely.get_num_coordinates(outline)
    assert abs(smooth.area / outline.area - 1) < 0.01


def test_a_slide_over_four_hundred_cells_is_one_polygon() -> None:
    """One that winds through 20 × 20 pieces, with a hole, and touches itself nowhere."""
    p_YX = np.full((200, 200), 200, np.uint8)
    p_YX[5::20, :190] = 0
    p_YX[15::20, 10:] = 0
    p_YX[100, 100] = 0
    pieces = [
        find_parts(piece(p_YX, Window(row=r, col=c, height=10, width=10)), THRESHOLD, 30)
        for r in range(0, 200, 10)
        for c in range(0, 200, 10)
    ]
    joined = merge(pieces)
    assert len(pieces) == 400
    assert len(joined) == 1
    assert polygons(joined).equals(polygons(whole(p_YX)))
    assert joined.outline_N[0].equals(dissolved(joined.outline_N))
