"""Outlines that may be no buildings: parcels, blocks, buffered points, boxes, two sets in one file.

A map of such outlines is made, and its numbers mean something else. The thresholds lie well apart
from real sets of buildings. In twelve of them (OpenStreetMap in Türkiye, Blackshark, Joplin,
SpaceNet, outlines verified by eye) median areas are 138 to 315 m², outlines cover 4 to 23 % of the
ground around them, and at most 1.1 % are boxes. At most 4.3 % overlap, but for one set of which
17 % do, because rows repeat. Boxes of a detector cover 78 %.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

MOST_OUTLINES = 100_000
"""Outlines that are looked at; of more, those of whole squares of a kilometre, drawn at random."""
MOST_OVERLAPS = 2_000
"""Outlines whose overlap with all others is measured."""
FEWEST = 10
"""Outlines below which a shape in common says nothing."""
FEWEST_OF_GROUND = 50
"""Outlines below which the share of covered ground says nothing."""
LARGE_M2, LARGE_ALONE_M2 = 3_000.0, 20_000.0
"""Median area above which outlines are no buildings: of at least `FEWEST`, and of a few."""
SMALL_M2 = 8.0
THIN = 0.3
"""Median of 4π area / perimeter² below which outlines are lines with a width; buildings have 0.63
to 0.8."""
SQUARE = 0.77
"""4π area / perimeter² above which a rectangle is a square."""
ROUND = 0.95
"""4π area / perimeter² above which an outline is a circle."""
ROUND_CORNERS = 12
GAPLESS = 0.75
"""Share of ground that parcels cover and buildings do not."""
ALIKE = 0.5
"""Share of equal, round or boxed outlines above which there is a doubt."""
SAME = 0.02
"""Largest difference of equal outlines, as a share of area and perimeter."""
BOXED = 0.995
"""Share of its bounds that an upright rectangle fills."""
COVERED = 0.5
"""Share of the smaller outline that lies in another one, where the two overlap heavily."""
OVERLAPPED = 0.1
_SQUARE_M = 1_000.0
_AROUND = 5
"""Side of the squares on which covered ground is measured, in sides of a median outline."""
_RECTANGLE = 5
"""Coordinates of a rectangle: the first is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineFigures:
    """Figures of many outlines that tell buildings from other polygons."""

    outlines: int
    """Outlines that were looked at."""
    median_m2: float
    median_compactness: float
    """4π area / perimeter²: 1 for a circle, 0.785 for a square."""
    corners: int
    """The most frequent number of corners."""
    alike: float
    """Share of outlines that equal the median one in corners, area and perimeter."""
    round_share: float
    """Share of circles."""
    boxed: float
    """Share of rectangles along the axes of EPSG:4326 or of the UTM zone."""
    ground: float
    """Share of the ground around a median outline that outlines cover, each counted whole."""
    measured: int
    """Outlines whose overlap was measured."""
    overlapped: float
    """Share of those that overlap heavily with another one."""


def outline_figures(
    geometry_N: NDArray[np.object_], polygon_N: NDArray[np.object_], zone_N: NDArray[np.int64]
) -> OutlineFigures | None:
    """Figures of outlines in the UTM zone that most of them lie in; None without a valid one.

    Args:
        geometry_N: EPSG:4326.
        polygon_N: the same in their UTM zone, metres; None where the outline is invalid.
        zone_N: EPSG code of the zone.
    """
    there_N = ~shapely.is_missing(polygon_N)
    if not there_N.any():
        return None
    zones, count = np.unique(zone_N[there_N], return_counts=True)
    row_N = _looked_at(polygon_N, np.flatnonzero(there_N & (zone_N == zones[count.argmax()])))
    polygon_N = polygon_N[row_N]
    area_N, length_N = shapely.area(polygon_N), shapely.length(polygon_N)
    points_N = shapely.get_num_coordinates(polygon_N)
    compact_N = 4 * math.pi * area_N / np.maximum(length_N, 1e-9) ** 2
    usual = int(np.bincount(points_N).argmax())
    alike_N = (points_N == usual) & _near_median(area_N) & _near_median(length_N)
    measured, overlapped = _overlap(polygon_N, area_N)
    return OutlineFigures(
        outlines=len(row_N),
        median_m2=float(np.median(area_N)),
        median_compactness=float(np.median(compact_N)),
        corners=usual - 1,
        alike=float(alike_N.mean()),
        round_share=float(((compact_N > ROUND) & (points_N > ROUND_CORNERS)).mean()),
        boxed=max(_boxed(geometry_N[row_N]), _boxed(polygon_N)),
        ground=_ground(polygon_N, area_N),
        measured=measured,
        overlapped=overlapped,
    )


def building_doubts(
    geometry_N: NDArray[np.object_], polygon_N: NDArray[np.object_], zone_N: NDArray[np.int64]
) -> tuple[str, ...]:
    """Why outlines may be no buildings, each with figures and what to do; empty for buildings.

    The arguments are those of `outline_figures`.
    """
    figures = outline_figures(geometry_N, polygon_N, zone_N)
    if figures is None:
        return ()
    another = _another_kind(figures)
    if another:
        return (f"footprints may be no buildings: {another}",)
    return tuple(_odd_buildings(figures))


def _another_kind(figures: OutlineFigures) -> str:
    """What outlines seem to be instead of buildings; empty for buildings."""
    if figures.outlines >= FEWEST and (said := _of_many(figures)):
        return said
    least_m2 = LARGE_M2 if figures.outlines >= FEWEST else LARGE_ALONE_M2
    if figures.median_m2 > least_m2:
        return (
            f"their median area is {_area(figures.median_m2)} ({_outlines(figures)}), as of "
            "blocks, districts, fields or land use; that of buildings is 50 to 500 m². One "
            f"fallen building hardly changes such a verdict: {_OUTLINES}"
        )
    joined = figures.overlapped > OVERLAPPED  # then ground is counted twice
    if figures.ground > GAPLESS and figures.outlines >= FEWEST_OF_GROUND and not joined:
        return (
            f"{figures.outlines:,} outlines cover {_per_cent(min(figures.ground, 1.0))} of the "
            "ground around them, as parcels do; buildings seldom cover half. Yards and gardens are "
            f"judged with the house: {_OUTLINES}"
        )
    return ""


_OUTLINES = "check that the file and its layer hold outlines of buildings"
_PLACES = (
    "Ground beside the building is judged with it: give outlines of buildings, or read each "
    "verdict as one of a place"
)


def _of_many(figures: OutlineFigures) -> str:
    """What outlines seem to be by a shape that most of them share."""
    if figures.alike > ALIKE:
        return _of_one_shape(figures)
    if figures.round_share > ALIKE:
        number = f"{_per_cent(figures.round_share)} of {figures.outlines:,} outlines"
        return f"{number} are circles, as of points with a buffer. {_PLACES}"
    if figures.median_compactness < THIN:
        return (
            f"most of {figures.outlines:,} outlines are long and thin, as of roads or rivers with "
            f"a width: {_OUTLINES}"
        )
    if figures.median_m2 < SMALL_M2:
        return (
            f"their median area is {_area(figures.median_m2)} ({_outlines(figures)}), as of "
            "trees, cars or specks. No model sees damage on so few pixels: check the layer, and "
            "the CRS of the file"
        )
    return ""


def _of_one_shape(figures: OutlineFigures) -> str:
    number = f"{_per_cent(figures.alike)} of {figures.outlines:,} outlines are equal"
    if figures.median_compactness > ROUND and figures.corners >= ROUND_CORNERS:
        radius_m = math.sqrt(figures.median_m2 / math.pi)
        return f"{number} circles of {radius_m:.1f} m radius, as of points with a buffer. {_PLACES}"
    if figures.corners == _RECTANGLE - 1 and figures.median_compactness > SQUARE:
        side_m = math.sqrt(figures.median_m2)
        return (
            f"{number} squares of {side_m:.3g} m, as of a grid or points with a buffer. {_PLACES}"
        )
    return (
        f"{number} in shape ({figures.corners} corners, {_area(figures.median_m2)}), as of a grid "
        f"or one symbol for all. Unless they are huts or containers of one model, {_OUTLINES}"
    )


def _odd_buildings(figures: OutlineFigures) -> Iterator[str]:
    """What is odd about outlines that may well be buildings."""
    if figures.outlines < FEWEST:
        return
    if figures.boxed > ALIKE:
        yield (
            f"footprints are boxes: {_per_cent(figures.boxed)} of {figures.outlines:,} outlines "
            "are rectangles along the axes, as of a detector. A box takes in ground and "
            "neighbours, and the shape of one that a damage detector drew gives the answer away, "
            "so that scores flatter: give the outlines that the boxes were made from"
        )
    if figures.overlapped > OVERLAPPED:
        yield (
            f"footprints overlap: {_per_cent(figures.overlapped)} of {figures.measured:,} outlines "
            "looked at share more than half with another one, as where two sets were joined, rows "
            "repeat, or parts of buildings lie beside the whole. Such buildings count twice: keep "
            "one set, or remove the outlines that repeat"
        )


def _outlines(figures: OutlineFigures) -> str:
    return "1 outline" if figures.outlines == 1 else f"{figures.outlines:,} outlines"


def _area(area_m2: float) -> str:
    if area_m2 >= 1e6:
        return f"{area_m2 / 1e6:,.3g} km²"
    return f"{area_m2:,.0f} m²" if area_m2 >= 10 else f"{area_m2:.2g} m²"


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _near_median(value_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    middle = float(np.median(value_N))
    near_N: NDArray[np.bool_] = np.abs(value_N - middle) <= SAME * middle
    return near_N


def _looked_at(polygon_N: NDArray[np.object_], row_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of some outlines; of too many, all those of some squares, so that neighbours stay."""
    if len(row_R) <= MOST_OUTLINES:
        return row_R
    corner_R2 = np.floor(shapely.bounds(polygon_N[row_R])[:, :2] / _SQUARE_M).astype(np.int64)
    _, square_R, count = np.unique(corner_R2, axis=0, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(count))
    enough = int(np.searchsorted(np.cumsum(count[order]), MOST_OUTLINES)) + 1
    taken = np.zeros(len(count), np.bool_)
    taken[order[:enough]] = True
    return row_R[taken[square_R.ravel()]]


def _boxed(geometry_N: NDArray[np.object_]) -> float:
    """Share of rectangles along the axes."""
    rectangle_N = shapely.get_num_coordinates(geometry_N) == _RECTANGLE
    west, south, east, north = shapely.bounds(geometry_N).T
    return float(
        (rectangle_N & (shapely.area(geometry_N) > BOXED * (east - west) * (north - south))).mean()
    )


def _ground(polygon_N: NDArray[np.object_], area_N: NDArray[np.float64]) -> float:
    """Share of the ground that outlines cover, in the square of a median outline."""
    side_m = _AROUND * math.sqrt(max(float(np.median(area_N)), 1.0))
    middle_N2 = shapely.get_coordinates(shapely.centroid(polygon_N))
    square_N2 = np.floor(middle_N2 / side_m).astype(np.int64)
    _, square_N = np.unique(square_N2, axis=0, return_inverse=True)
    covered = np.bincount(square_N.ravel(), area_N) / side_m**2
    return float(np.median(covered[square_N.ravel()]))


def _overlap(polygon_N: NDArray[np.object_], area_N: NDArray[np.float64]) -> tuple[int, float]:
    """How many outlines were compared with all others, and the share that overlap heavily."""
    row_M = np.unique(np.linspace(0, len(polygon_N) - 1, MOST_OVERLAPS).astype(np.int64))
    m_P, other_P = shapely.STRtree(polygon_N).query(polygon_N[row_M], predicate="intersects")
    apart_P = row_M[m_P] != other_P
    m_P, other_P = m_P[apart_P], other_P[apart_P]
    both_P = shapely.area(shapely.intersection(polygon_N[row_M[m_P]], polygon_N[other_P]))
    smaller_P = np.minimum(area_N[row_M[m_P]], area_N[other_P])
    heavy_M = np.zeros(len(row_M), np.bool_)
    heavy_M[m_P[both_P > COVERED * smaller_P]] = True
    return len(row_M), float(heavy_M.mean())
