"""map.pmtiles: the vector tiles of a map in one file, which web maps read in parts.

Any server that answers range requests serves it, and no program has to run beside it.
"""

import gzip
import io
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer

from quakestream.outputs.geoparquet import geoparquet_bytes
from quakestream.outputs.map_layers import MapLayers
from quakestream.outputs.map_tiles import BUILDING_COLUMNS, OUTLINES_FROM, MapTiles

PER_DEGREE = 10_000_000
"""Positions in the header of an archive are whole numbers of 1e-7 degrees."""


def tile_archive(layers: MapLayers) -> bytes:
    """The tiles from zoom 0 to 14 as a PMTiles archive, specification 3.

    A tile of zoom 14 is 2.4 km wide and has 4,096 units, so that viewers draw the outlines of
    buildings at any closer zoom from it. An archive of a map without a feature has one empty tile.
    """
    tiles = _tiles(layers)
    about = tiles.description("")
    archive = io.BytesIO()
    writer = Writer(archive)
    for number, data in _numbered(tiles):
        writer.write_tile(number, gzip.compress(data, 6, mtime=0))
    writer.finalize(_header(about["bounds"]), _metadata(layers, about))
    return archive.getvalue()


def _tiles(layers: MapLayers) -> MapTiles:
    """The tiles of the layers, over a table in memory that has the columns of tiles alone."""
    labels = tuple(one.label for one in layers.classes)
    wanted = (*BUILDING_COLUMNS, "score", *(f"p_{label}" for label in labels))
    rows = layers.buildings
    types = {
        name: pa.array(rows[name], from_pandas=True).type for name in wanted if name in rows.columns
    }
    table = pq.ParquetFile(pa.BufferReader(geoparquet_bytes(rows, types)))
    return MapTiles(table, threading.Lock(), labels, layers.landslides)


def _numbered(tiles: MapTiles) -> Iterator[tuple[int, bytes]]:
    """Tiles that have features, by ascending number: each zoom along a Hilbert curve."""
    some = False
    for z in range(OUTLINES_FROM + 1):
        places = {zxy_to_tileid(z, x, y): (x, y) for x, y in tiles.places(z)}
        for number in sorted(places):
            if data := tiles.tile(z, *places[number]):
                some = True
                yield number, data
    if not some:
        yield 0, b""


def _header(bounds: list[float]) -> dict[str, Any]:
    west, south, east, north = bounds
    middle = (west + east) / 2, (south + north) / 2
    names = ("min_lon", "min_lat", "max_lon", "max_lat", "center_lon", "center_lat")
    degrees = zip(names, (west, south, east, north, *middle), strict=True)
    # the zoom at which the whole map is about two tiles wide
    wide = max((east - west) / 360, (north - south) / 180, 1e-9)
    return {
        "tile_type": TileType.MVT,
        "tile_compression": Compression.GZIP,
        "center_zoom": int(np.clip(math.floor(-math.log2(wide)) + 1, 0, OUTLINES_FROM)),
        **{f"{name}_e7": round(value * PER_DEGREE) for name, value in degrees},
    }


def _metadata(layers: MapLayers, about: dict[str, Any]) -> dict[str, Any]:
    fields = [
        one | {"maxzoom": min(one["maxzoom"], OUTLINES_FROM)} for one in about["vector_layers"]
    ]
    return {"name": layers.title, "description": layers.note, "vector_layers": fields}
