"""Vector tiles of a published map: outlines where one looks closely, counts on squares far away."""

import threading
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from quakestream.outputs.mvt import BUFFER, EXTENT, TileLayer, encoded
from quakestream.tiling.antimeridian import spans_side_by_side

OUTLINES_FROM = 14
"""Zoom from which buildings have outlines; a tile is then at most 2.5 km wide."""
LAST_ZOOM = 22
SQUARES = 64
"""Squares along a side of a tile, on which the buildings of lower zooms are counted."""
BUILDING_COLUMNS = ("building_id", "status", "reason", "damage", "damage_label")
SLIDE_COLUMNS = ("landslide_id", "area_m2", "probability", "slope_deg")
DIGITS = 3
"""Of probabilities in tiles."""
_NORTHMOST_DEG = 85.0511287798066
_GROUPS_OPEN = 4

World = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Positions in the square of Web Mercator: 0 to 1 eastwards and southwards."""


class MapTiles:
    """Tiles over `buildings.parquet`, found by its bbox column. Threads may share it.

    Args:
        file: the table.
        lock: held while the file is read.
        labels: damage classes, mildest first.
        slides: landslides of the map, EPSG:4326; None where the run looked for none.
    """

    def __init__(
        self,
        file: pq.ParquetFile,
        lock: threading.Lock,
        labels: tuple[str, ...],
        slides: gpd.GeoDataFrame | None = None,
    ) -> None:
        self._file, self._lock, self._labels, self._slides = file, lock, labels, slides
        known = set(file.schema_arrow.names)
        figures = ("score", *(f"p_{label}" for label in labels))
        self._columns = [n for n in (*BUILDING_COLUMNS, *figures) if n in known]

    def tile(self, z: int, x: int, y: int) -> bytes | None:
        """A tile of XYZ numbering; None for one that is not there, empty for one of no features.

        It has the layer `buildings` from zoom `OUTLINES_FROM` on, `building_counts` below it, and
        `landslides`.
        """
        if not (0 <= z <= LAST_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
            return None
        layers = self._buildings(z, x, y) if z >= OUTLINES_FROM else self._counts(z, x, y)
        return encoded([*layers, *self._landslides(z, x, y)])

    def places(self, z: int) -> set[tuple[int, int]]:
        """(x, y) of the tiles of a zoom that features reach into, or their buffers."""
        boxes = [np.stack(self._boxes)]
        if self._slides is not None and len(self._slides):
            boxes.append(np.stack(_boxes_of(self._slides.bounds.to_numpy().T)))
        pad = BUFFER / EXTENT
        west_N, north_N, east_N, south_N = np.concatenate(boxes, axis=1) * 2**z
        edges = np.floor([west_N - pad, east_N + pad, north_N - pad, south_N + pad])
        spans = np.unique(edges[:, np.isfinite(edges).all(axis=0)].astype(np.int64), axis=1)
        return {
            (x % 2**z, y)
            for west, east, north, south in spans.T.tolist()
            for x in range(west, east + 1)
            for y in range(max(north, 0), min(south, 2**z - 1) + 1)
        }

    def description(self, address: str) -> dict[str, Any]:
        """The TileJSON 3.0 of the tiles.

        Args:
            address: of the tiles, with {z}, {x} and {y}.
        """
        west, south, east, north = self._degrees
        placed = bool(np.isfinite(west).any())
        layers = {
            "buildings": (OUTLINES_FROM, LAST_ZOOM, self._columns),
            "building_counts": (0, OUTLINES_FROM - 1, ["buildings", "assessed", *self._labels]),
        }
        if self._slides is not None:
            layers["landslides"] = (0, LAST_ZOOM, list(SLIDE_COLUMNS))
        return {
            "tilejson": "3.0.0",
            "tiles": [address],
            "minzoom": 0,
            "maxzoom": LAST_ZOOM,
            "bounds": _bounds(west, south, east, north) if placed else [-180, -85, 180, 85],
            "vector_layers": [
                {"id": name, "minzoom": low, "maxzoom": high, "fields": dict.fromkeys(columns, "")}
                for name, (low, high, columns) in layers.items()
            ],
        }

    def _buildings(self, z: int, x: int, y: int) -> list[TileLayer]:
        row_N = np.flatnonzero(_touching(self._boxes, z, x, y))
        if not len(row_N):
            return []
        table = self._rows(row_N)
        shapes = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False))
        columns = {name: _values(table.column(name)) for name in self._columns}
        return [
            TileLayer(
                name="buildings",
                geometry_N=_in_tile(shapes, z, x, y),
                id_N=row_N.tolist(),
                attributes=columns,
            )
        ]

    def _counts(self, z: int, x: int, y: int) -> list[TileLayer]:
        """Buildings per square, at the square's centre."""
        (east_N, south_N), damage_N = self._centres
        places = _units(east_N, z, x), _units(south_N, z, y)
        inside_N = np.logical_and.reduce([(p >= 0) & (p < EXTENT) for p in places])
        side = EXTENT // SQUARES
        col_N, row_N = (np.floor(p[inside_N] / side).astype(np.int64) for p in places)
        square_G, of_N = np.unique(row_N * SQUARES + col_N, return_inverse=True)
        damage_N = damage_N[inside_N]

        def counted(chosen_N: NDArray[np.bool_]) -> list[int]:
            counts: list[int] = np.bincount(of_N[chosen_N], minlength=len(square_G)).tolist()
            return counts

        columns = {
            "buildings": counted(np.ones(len(of_N), np.bool_)),
            "assessed": counted(damage_N >= 0),
        }
        columns |= {label: counted(damage_N == k) for k, label in enumerate(self._labels)}
        row_G, col_G = np.divmod(square_G, SQUARES)
        centres = shapely.points((col_G + 0.5) * side, (row_G + 0.5) * side)
        return [
            TileLayer(
                name="building_counts",
                geometry_N=np.asarray(centres, object),
                id_N=square_G.tolist(),
                attributes=columns,
            )
        ]

    def _landslides(self, z: int, x: int, y: int) -> list[TileLayer]:
        slides = self._slides
        if slides is None or not len(slides):
            return []
        row_N = np.flatnonzero(_touching(_boxes_of(slides.bounds.to_numpy().T), z, x, y))
        rows = slides.iloc[row_N]
        columns = {n: _values(pa.Array.from_pandas(rows[n])) for n in SLIDE_COLUMNS if n in rows}
        shapes = np.asarray(rows.geometry.values, object)
        return [
            TileLayer(
                name="landslides",
                geometry_N=_in_tile(shapes, z, x, y),
                id_N=row_N.tolist(),
                attributes=columns,
            )
        ]

    def _rows(self, row_N: NDArray[np.int64]) -> pa.Table:
        """Rows of the table, ascending, through the row groups that hold them."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        first_G = np.cumsum([0, *sizes])
        group_N = np.searchsorted(first_G, row_N, side="right") - 1
        return pa.concat_tables(
            self._group(int(g)).take(row_N[group_N == g] - first_G[g]) for g in np.unique(group_N)
        )

    @cached_property
    def _group(self) -> Callable[[int], pa.Table]:
        @lru_cache(maxsize=_GROUPS_OPEN)
        def read(number: int) -> pa.Table:
            with self._lock:
                return self._file.read_row_group(number, columns=[*self._columns, "geometry"])

        return read

    @cached_property
    def _degrees(self) -> tuple[NDArray[np.float64], ...]:
        """(west, south, east, north) of each building; NaN without a position."""
        with self._lock:
            box = self._file.read(columns=["bbox"]).column("bbox").combine_chunks()
        west, south, east, north = (
            np.asarray(box.field(n).to_numpy(zero_copy_only=False), np.float64)
            for n in ("xmin", "ymin", "xmax", "ymax")
        )
        west, east = spans_side_by_side(west, east)
        return west, south, east, north

    @cached_property
    def _boxes(self) -> tuple[NDArray[np.float64], ...]:
        return _boxes_of(self._degrees)

    @cached_property
    def _centres(self) -> tuple[World, NDArray[np.int64]]:
        """Centres of the buildings, and the class of each, -1 where not assessed."""
        with self._lock:
            damage = self._file.read(columns=["damage"]).column("damage")
        west, south, east, north = self._degrees
        world = _world((west + east) / 2, (south + north) / 2)
        return world, damage.fill_null(-1).to_numpy().astype(np.int64)


def _bounds(*degrees: NDArray[np.float64]) -> list[float]:
    west, south, east, north = degrees
    found = np.nanmin(west), np.nanmin(south), np.nanmax(east), np.nanmax(north)
    return [round(float(v), 6) for v in found]


def _world(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> World:
    sine = np.sin(np.radians(np.clip(lat, -_NORTHMOST_DEG, _NORTHMOST_DEG)))
    return lon / 360 + 0.5, 0.5 - np.arctanh(sine) / (2 * np.pi)


def _boxes_of(
    degrees: tuple[NDArray[np.float64], ...] | NDArray[np.float64],
) -> tuple[NDArray[np.float64], ...]:
    """(west, north, east, south) of boxes in the square of Web Mercator."""
    west, south, east, north = degrees
    return (*_world(west, north), *_world(east, south))


def _units(world_N: NDArray[np.float64], z: int, number: int) -> NDArray[np.float64]:
    """Positions in units of a tile, from 0 round the Earth."""
    units_N: NDArray[np.float64] = np.mod((world_N * 2**z - number) * EXTENT, EXTENT * 2**z)
    return units_N


def _touching(boxes: tuple[NDArray[np.float64], ...], z: int, x: int, y: int) -> NDArray[np.bool_]:
    """True for boxes that reach into a tile or its buffer."""
    west, north, east, south = boxes
    pad = BUFFER / EXTENT
    low, high = (x - pad) / 2**z, (x + 1 + pad) / 2**z
    beside = [(east + turn >= low) & (west + turn <= high) for turn in (-1, 0, 1)]
    rows = (south >= (y - pad) / 2**z) & (north <= (y + 1 + pad) / 2**z)
    return np.asarray(np.logical_or.reduce(beside) & rows)


def _in_tile(shape_N: NDArray[np.object_], z: int, x: int, y: int) -> NDArray[np.object_]:
    """Shapes of EPSG:4326 in units of a tile; a point becomes a small square."""

    def moved(lonlat_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        east, south = _world(lonlat_N2[:, 0], lonlat_N2[:, 1])
        return np.stack([(east * 2**z - x) * EXTENT, (south * 2**z - y) * EXTENT], axis=1)

    moved_N = np.asarray(shapely.transform(shape_N, moved), object)
    turn = EXTENT * 2**z
    middle_N = shapely.bounds(moved_N)[:, ::2].mean(axis=1) - EXTENT / 2
    for far_N, by in ((middle_N > turn / 2, -turn), (middle_N < -turn / 2, turn)):
        moved_N[far_N] = _beside(moved_N[far_N], by)
    areal_N = np.isin(shapely.get_type_id(moved_N), (3, 6))
    moved_N[~areal_N] = shapely.envelope(shapely.buffer(moved_N[~areal_N], 4))
    broken_N = areal_N & ~shapely.is_valid(moved_N)
    moved_N[broken_N] = shapely.make_valid(
        moved_N[broken_N], method="structure", keep_collapsed=False
    )
    return moved_N


def _beside(shape_N: NDArray[np.object_], by: float) -> NDArray[np.object_]:
    step = np.array([by, 0.0])
    return np.asarray(shapely.transform(shape_N, lambda xy_N2: xy_N2 + step), object)


def _values(column: "pa.ChunkedArray | pa.Array") -> list[Any]:
    """Values of a column as plain ones; figures with a few digits."""
    if not pa.types.is_floating(column.type):
        found: list[Any] = column.to_pylist()
        return found
    rounded = column.to_pandas().astype(float).round(DIGITS)
    return [None if v != v else float(v) for v in rounded]
