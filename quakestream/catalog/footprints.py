"""Building outlines with stable ids, and the accounting of law 3.

Every feature of the file counts once: as a row, as a collapsed identical duplicate, as outside
the AOI, or as without a position. A feature without a position has no geometry, an empty one or
no finite coordinate. It cannot lie in the AOI and is reported. Invalid outlines are repaired
where that keeps their area, and stay invalid elsewhere.
"""

from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.catalog.outlines import outline_digests, repaired
from quakestream.domain import Issue
from quakestream.errors import AccountingError, FootprintError, NoFootprintError
from quakestream.storage import StorageOptions
from quakestream.tiling.antimeridian import cut_at_180
from quakestream.vectors import LEFT_OUT, Attributes, Box, VectorRequest, read_vectors

AUTO_ID = "auto"
"""The `id` of footprints that are named by a digest of their outline."""
_USUAL_ID = "id"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footprints:
    """The buildings of a run.

    Raises:
        AccountingError: if the counts do not add up to the rows of the file.
    """

    table: gpd.GeoDataFrame
    """`building_id` (unique strings) and the original `geometry`, EPSG:4326."""
    invalid: NDArray[np.bool_]
    """True where the geometry is not a valid polygon, shape (N,)."""
    representative: NDArray[np.object_]
    """A point per row: inside the outline, or the middle of its box where it is invalid."""
    issues: list[Issue]
    rows_read: int
    """Features in the file."""
    duplicates_collapsed: int
    """Features with the id and the geometry of an earlier one."""
    outside_aoi: int
    without_position: int
    """Features without a position."""
    notes: tuple[str, ...] = ()
    """What was chosen or mended on reading, once for the whole file."""
    doubts: tuple[str, ...] = ()
    """Why the outlines may be no buildings; a plan finds them."""

    def __post_init__(self) -> None:
        left_out = self.duplicates_collapsed + self.outside_aoi + self.without_position
        if len(self.table) + left_out != self.rows_read:
            raise AccountingError(
                "footprints do not add up",
                expected=f"{self.rows_read} footprints read",
                got=f"{len(self.table)} rows and {left_out} left out",
            )

    @classmethod
    def none(cls) -> "Footprints":
        """For a run that names no buildings."""
        table = gpd.GeoDataFrame({"building_id": np.empty(0, object)}, geometry=[], crs=4326)
        return cls(
            table=table,
            invalid=np.empty(0, np.bool_),
            representative=np.empty(0, object),
            issues=[],
            rows_read=0,
            duplicates_collapsed=0,
            outside_aoi=0,
            without_position=0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintRequest:
    """A file of building outlines."""

    uri: str
    """Any vector file, any CRS."""
    id_column: str | None = None
    """Column with the ids; `fid`: the file's feature numbers; `auto`: a digest of the outline;
    None: the column `id`, and `auto` where the file has no such column."""
    layer: str | None = None


def read_footprints(
    request: FootprintRequest, aoi: BaseGeometry, options: StorageOptions | None = None
) -> Footprints:
    """The footprints whose representative point lies in the AOI, one row per distinct input id.

    Integers become plain strings ("7"). A missing id becomes `row-N`, where N counts from 0 in
    file order. An id that repeats with another geometry gets a suffix (`ID#2`) in file order,
    whatever the AOI. Missing and repeated ids are issues.

    Args:
        request: the file and its ids.
        aoi: EPSG:4326.
        options: how to reach the file.

    Raises:
        FootprintError: if the file is unreadable or empty, lacks a CRS or the id column, or
            has nothing in the AOI.
        StorageError: if the store fails.
    """
    frame = _features(request, options, near=aoi.bounds)
    left_out = int(frame.attrs[LEFT_OUT])
    try:
        found = _among(frame, request, aoi)
    except FootprintError:
        if not left_out:
            raise
        return _among(_features(request, options, near=None), request, aoi)
    return replace(
        found, rows_read=found.rows_read + left_out, outside_aoi=found.outside_aoi + left_out
    )


def _features(
    request: FootprintRequest, options: StorageOptions | None, near: Box | None
) -> gpd.GeoDataFrame:
    """Features of the file, or those that may lie near a box."""
    column = request.id_column
    attributes = Attributes(
        required=() if column in (None, AUTO_ID) else (str(column),),
        optional=() if column else (_USUAL_ID,),
        remedy="`id: auto` names buildings by their outlines, `id: fid` by their number",
    )
    asked = VectorRequest(uri=request.uri, layer=request.layer, attributes=attributes, near=near)
    return read_vectors(asked, options or StorageOptions(), FootprintError)


def _among(frame: gpd.GeoDataFrame, request: FootprintRequest, aoi: BaseGeometry) -> Footprints:
    column = request.id_column
    named = column not in (None, AUTO_ID)
    geometry_N = np.asarray(frame.geometry.values, object)
    usual = column is None and _USUAL_ID in frame and bool(frame[_USUAL_ID].notna().any())
    if named or usual:
        return footprints_in(
            frame[column or _USUAL_ID].to_numpy(object), geometry_N, aoi, request.uri
        )
    found = footprints_in(_names_of_outlines(geometry_N, aoi), geometry_N, aoi, request.uri)
    if column == AUTO_ID:
        return found
    note = (
        "the footprints have no ids: each building is named by a digest of its outline, the same "
        "in every run; footprints.id names another column"
    )
    return replace(found, notes=(note, *found.notes))


def _names_of_outlines(geometry_N: NDArray[np.object_], aoi: BaseGeometry) -> NDArray[np.object_]:
    """Digests of the outlines that may lie in the AOI; row numbers for the others.

    A file of a whole country holds a hundred times the AOI. Elsewhere names are only counted.
    """
    geometry_N = cut_at_180(geometry_N)
    west, south, east, north = aoi.bounds
    minx_N, miny_N, maxx_N, maxy_N = shapely.bounds(geometry_N).T
    with np.errstate(invalid="ignore"):  # bounds of an empty geometry are NaN
        apart_N = (minx_N > east) | (maxx_N < west) | (miny_N > north) | (maxy_N < south)
    name_N = np.arange(len(geometry_N)).astype(object)
    name_N[~apart_N] = outline_digests(geometry_N[~apart_N])
    return name_N


def footprints_in(
    raw_id_N: NDArray[np.object_], geometry_N: NDArray[np.object_], aoi: BaseGeometry, source: str
) -> Footprints:
    """Footprints from raw ids (any type, None for a missing one) and geometries.

    Raises:
        NoFootprintError: if none lies in the AOI.
    """
    geometry_N = cut_at_180(geometry_N)
    geometry_N, mended_N = repaired(geometry_N)
    id_N, unnamed_N = _names(raw_id_N)
    id_N, first_N, repeated_N = _distinct(id_N, geometry_N)
    cause_N = _causes(geometry_N)
    point_N = _positions(geometry_N, cause_N)
    placed_N = ~shapely.is_missing(point_N)
    shapely.prepare(aoi)
    inside_N = np.zeros(len(id_N), bool)
    inside_N[placed_N] = shapely.intersects(aoi, point_N[placed_N])
    row_N = first_N & inside_N
    _check_outlines(geometry_N, source)
    if not row_N.any():
        raise NoFootprintError(
            "no footprint lies in the AOI",
            source,
            expected=f"footprints in {_bounds(aoi)}",
            got=f"{len(id_N):,} in {_bounds(geometry_N[placed_N])}",
            remedy=_misplaced(geometry_N[placed_N], point_N[placed_N], aoi),
        )
    nowhere_N = first_N & ~placed_N
    flagged_N = row_N | nowhere_N
    geometry = gpd.GeoSeries(list(geometry_N[row_N]), crs=4326)
    return Footprints(
        table=gpd.GeoDataFrame({"building_id": id_N[row_N]}, geometry=geometry),
        invalid=np.array([c is not None for c in cause_N[row_N]], np.bool_),
        representative=point_N[row_N],
        issues=[
            *_issues(id_N, flagged_N & unnamed_N, "has no id; it is named by its row"),
            *_issues(id_N, flagged_N & repeated_N, "repeats an id with another outline"),
            *_issues(id_N, row_N, cause_N),
            *_issues(id_N, nowhere_N, cause_N, "; it has no position and no row"),
        ],
        rows_read=len(id_N),
        duplicates_collapsed=int((~first_N).sum()),
        outside_aoi=int((first_N & placed_N & ~inside_N).sum()),
        without_position=int(nowhere_N.sum()),
        notes=_mended_note(id_N[row_N & mended_N]),
    )


def _check_outlines(geometry_N: NDArray[np.object_], source: str) -> None:
    """Raises FootprintError if no geometry is an outline, as in a file of points."""
    there_N = geometry_N[~shapely.is_missing(geometry_N)]
    if len(there_N) and not np.isin(shapely.get_type_id(there_N), (3, 6, 7)).any():
        kinds = {shape.geom_type for shape in there_N[:1000]}
        raise FootprintError(
            "footprints have no outlines",
            source,
            expected="polygons",
            got=f"{len(there_N):,} of {', '.join(sorted(kinds))}",
            remedy="name a file of building outlines",
        )


def _misplaced(
    outlines: NDArray[np.object_], points: NDArray[np.object_], aoi: BaseGeometry
) -> str:
    """What to do where all footprints lie elsewhere; it names districts and swapped coordinates."""
    if shapely.intersects(aoi, outlines[shapely.is_valid(outlines)]).any():
        return (
            "outlines reach into the AOI and have their middle outside, as districts do: give "
            "outlines of buildings"
        )
    swapped = shapely.points(shapely.get_y(points), shapely.get_x(points))
    if len(points) and shapely.intersects(shapely.box(*aoi.bounds), swapped).any():
        return "latitude and longitude are swapped in the file or in the AOI: write longitude first"
    return "check the AOI and the CRS of the footprints"


def _mended_note(id_N: NDArray[np.object_]) -> tuple[str, ...]:
    if not len(id_N):
        return ()
    more = ", ..." if len(id_N) > 3 else ""
    shown = ", ".join(map(str, id_N[:3])) + more
    outlines = "1 outline was" if len(id_N) == 1 else f"{len(id_N):,} outlines were"
    return (f"{outlines} invalid and mended without a change of area: {shown}",)


def _names(raw_id_N: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Ids as strings, and True where the id is missing."""
    names = [_name(value) for value in raw_id_N]
    unnamed_N = np.array([name is None for name in names], np.bool_)
    filled = [f"row-{i}" if name is None else name for i, name in enumerate(names)]
    return np.array(filled, object), unnamed_N


def _name(value: Any) -> str | None:
    if value is None or value != value:  # NaN, NaT
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip() or None if str(value) != "<NA>" else None


def _distinct(
    id_N: NDArray[np.object_], geometry_N: NDArray[np.object_]
) -> tuple[NDArray[np.object_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Unique ids, True for rows that are no identical duplicate, and True for ids with a suffix.

    Only rows with a repeated id are compared, by the bytes of their geometry with rings and
    parts in a fixed order.
    """
    names, inverse_N, count = np.unique(id_N.astype(str), return_inverse=True, return_counts=True)
    first_N = np.ones(len(id_N), bool)
    repeated_N = np.zeros(len(id_N), bool)
    used = set(names.tolist())
    unique_N = id_N.copy()
    shapes_of_id: dict[str, set[bytes]] = {}
    for row in np.flatnonzero(count[inverse_N] > 1).tolist():
        shapes = shapes_of_id.setdefault(id_N[row], set())
        with np.errstate(invalid="ignore"):  # coordinates may be NaN
            shape = shapely.to_wkb(shapely.normalize(geometry_N[row])) or b""
        if shape in shapes:
            first_N[row] = False
        elif shapes:
            number = len(shapes) + 1
            while f"{id_N[row]}#{number}" in used:
                number += 1
            unique_N[row] = f"{id_N[row]}#{number}"
            used.add(unique_N[row])
            repeated_N[row] = True
        shapes.add(shape)
    return unique_N, first_N, repeated_N


def _causes(geometry_N: NDArray[np.object_]) -> NDArray[np.object_]:
    """Why a geometry is not a valid polygon on the Earth; None where it is one."""
    cause_N = np.full(len(geometry_N), None, object)
    missing_N = shapely.is_missing(geometry_N)
    empty_N = shapely.is_empty(geometry_N)
    polygon_N = np.isin(shapely.get_type_id(geometry_N), (3, 6))
    valid_N = shapely.is_valid(geometry_N)
    for row in np.flatnonzero(~valid_N & ~missing_N).tolist():
        cause_N[row] = f"invalid geometry: {shapely.is_valid_reason(geometry_N[row])}"
    cause_N[~_on_earth(geometry_N)] = "coordinates are not finite degrees on the Earth"
    for row in np.flatnonzero(~polygon_N & ~missing_N).tolist():
        cause_N[row] = f"geometry is not a polygon: got a {geometry_N[row].geom_type}"
    cause_N[empty_N] = "geometry is empty"
    cause_N[missing_N] = "geometry is missing or cannot be decoded"
    return cause_N


def _on_earth(geometry_N: NDArray[np.object_]) -> NDArray[np.bool_]:
    coordinates, row = shapely.get_coordinates(geometry_N, return_index=True)
    good = (np.abs(coordinates) <= (360.0, 90.0)).all(axis=1)
    on_earth_N = np.ones(len(geometry_N), bool)
    on_earth_N[row[~good]] = False
    return on_earth_N


def _positions(
    geometry_N: NDArray[np.object_], cause_N: NDArray[np.object_]
) -> NDArray[np.object_]:
    """A point on each valid polygon, the middle of the box of others, None without coordinates."""
    point_N = np.full(len(geometry_N), None, object)
    valid_N = np.array([cause is None for cause in cause_N], np.bool_)
    point_N[valid_N] = shapely.point_on_surface(geometry_N[valid_N])
    for row in np.flatnonzero(~valid_N).tolist():
        coordinates = shapely.get_coordinates(geometry_N[row])
        finite = coordinates[np.isfinite(coordinates).all(axis=1)]
        if len(finite):
            middle = (finite.min(axis=0) + finite.max(axis=0)) / 2
            point_N[row] = shapely.Point(middle)
    return point_N


def _issues(
    id_N: NDArray[np.object_],
    where_N: NDArray[np.bool_],
    cause: str | NDArray[np.object_],
    suffix: str = "",
) -> list[Issue]:
    issues = []
    for row in np.flatnonzero(where_N).tolist():
        text = cause if isinstance(cause, str) else cause[row]
        if text is not None:
            issues.append(Issue(subject=id_N[row], kind="footprint", cause=text + suffix))
    return issues


def _bounds(geometry: Any) -> str:
    if np.all(shapely.is_missing(geometry)):
        return "no place"
    bounds = shapely.total_bounds(geometry)
    return ", ".join(f"{v:.4f}" for v in bounds)
