"""A published map by parts, for the server of `quakestream view`.

The page starts with a few numbers of every building and asks for the rest where it looks:
details of a group of neighbouring rows, and windows of the scenes at full resolution. Scenes are
named by their ids in run.json; no request names a file or an address.
"""

import gzip
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from shapely.geometry import Polygon

from quakestream.domain import Scene, SceneLayer, Stretch
from quakestream.outputs.areas import AREA_TYPES
from quakestream.outputs.buildings import TILES_JOINT, arrow_types
from quakestream.outputs.layout import SPOT_CHECKS
from quakestream.outputs.map_tiles import MapTiles
from quakestream.outputs.pictures import Frame, PictureSource, picture_source, tile_frame, webp
from quakestream.outputs.previews import chip_frame
from quakestream.outputs.readback import current_object, current_run, current_table, scale_of
from quakestream.outputs.report import report_html
from quakestream.outputs.viewer import packed_text, page
from quakestream.outputs.viewer_content import MapContent, about
from quakestream.outputs.viewer_rows import CoreColumns, core_blob, detail_columns
from quakestream.raster.datasets import gdal_session
from quakestream.storage import MissingObjectError, StorageOptions, Store
from quakestream.tiling.antimeridian import spans_side_by_side

GROUP_ROWS = 2000
"""Rows of a group of details: about a city block of a dense town."""
FOUND_AT_MOST = 8
ZOOMS = range(14, 23)
"""Zooms of tiles: below, a tile of a scene without overviews would read all of it."""
OPEN_AT_MOST = 16
"""Scenes that stay open."""
WINDOW_PX = 640
EMPTY = webp(np.zeros((1, 1, 4), np.uint8))
"""A transparent picture: browsers take an empty answer for a failure."""
LARGEST_DEG = 0.02
"""Largest building that a window is cut for, about 2 km."""
PAD_DEG = 0.003
"""Ground shown around the buildings of a scene, about 300 m."""


class LiveMap:
    """The current snapshot of a store. Methods may be called from several threads.

    Raises:
        RequestError: if there is no finished map.
    """

    def __init__(self, store: Store, storage: StorageOptions | None = None) -> None:
        self._store = store
        self.run = current_run(store)
        self._scenes = _Scenes(
            records={str(s["id"]): s for s in (self.run.get("inputs") or {}).get("scenes", [])},
            storage=storage or store.options,
        )
        self._lock = threading.Lock()

    @cached_property
    def _file(self) -> pq.ParquetFile:
        data = current_object(self._store, self.run, "buildings.parquet")
        return pq.ParquetFile(pa.BufferReader(data))

    @cached_property
    def content(self) -> MapContent:
        """Everything but the buildings."""
        store, run = self._store, self.run
        labels = tuple(c.label for c in scale_of(run))
        columns = tuple(self._file.schema_arrow.names)
        known = {*arrow_types(labels, columns), "geometry", "bbox"}
        return MapContent(
            run=run,
            classes=scale_of(run),
            layers=tuple(c for c in columns if c not in known),
            coverage=self._geo("coverage.parquet"),
            areas=self._areas(),
            issues=_records(current_table(store, run, "quarantine.parquet")),
            scenes=list(self._scenes.records.values()),
            landslides=self._landslides(),
        )

    def _landslides(self) -> gpd.GeoDataFrame | None:
        if not self.run.get("landslide_bundle"):
            return None
        return self._geo("landslides.parquet")

    def page(self) -> bytes:
        """The page that asks this server."""
        text = json.dumps(
            about(self.content, []) | {"groupRows": GROUP_ROWS, "snapshot": self.run["snapshot"]},
            default=str,
        )
        packed = {"about": packed_text(text), "core": ""}
        return page(self.content, packed, [], self._frames(), served=True)

    @cached_property
    def core(self) -> bytes:
        """The few numbers of every building, see `core_blob`."""
        labels = self.content.labels
        names = ["damage", "reason", *(f"p_{a}" for a in labels)]
        table = self._columns(names)
        box = self._columns(["bbox"]).column("bbox").combine_chunks()
        west, south, east, north = (
            np.asarray(box.field(n).to_numpy(zero_copy_only=False), np.float64)
            for n in ("xmin", "ymin", "xmax", "ymax")
        )
        west, east = spans_side_by_side(west, east)
        p_CN = [table.column(f"p_{a}").to_numpy().astype(np.float64) for a in labels]
        return core_blob(
            CoreColumns(
                lon_N=(west + east) / 2,
                lat_N=(south + north) / 2,
                damage_N=table.column("damage").fill_null(-1).to_numpy().astype(np.int64),
                reason_N=table.column("reason").to_numpy(),
                p_NC=np.stack(p_CN, axis=1),
            )
        )

    def details(self, group: int) -> bytes | None:
        """Details of a group of rows, gzip; None beyond the last."""
        first = group * GROUP_ROWS
        if not 0 <= first < self._file.metadata.num_rows:
            return None
        rows = self._rows(first, first + GROUP_ROWS)
        content = self.content
        columns = detail_columns(
            rows, content.labels, content.layers, content.threshold, range(first, first + len(rows))
        )
        text = json.dumps(columns, separators=(",", ":"), ensure_ascii=False)
        return gzip.compress(text.encode(), 5, mtime=0)

    def find(self, text: str) -> list[dict[str, Any]]:
        """Buildings whose id holds a text: the exact one first."""
        ids = self._ids
        exact = pc.indices_nonzero(pc.equal(ids, text)).to_pylist()
        holds = pc.match_substring(ids, text, ignore_case=True)
        near = pc.indices_nonzero(holds)[: FOUND_AT_MOST + 1].to_pylist()
        rows = list(dict.fromkeys([*exact, *near]))[:FOUND_AT_MOST]
        return [{"row": row, "id": ids[row].as_py()} for row in rows]

    def tile(self, scene: str, z: int, x: int, y: int) -> bytes | None:
        """A tile of a scene as WebP, transparent where it shows nothing.

        None for a scene or a tile that is not there.
        """
        if z not in ZOOMS or not (0 <= x < 2**z and 0 <= y < 2**z):
            return None
        return self._scenes.picture(scene, tile_frame(z, x, y))

    def window(self, scene: str, bounds: tuple[float, float, float, float]) -> bytes | None:
        """A square of a scene around a building, at full resolution; None for another scene.

        Args:
            bounds: (west, south, east, north) of the building, degrees.
        """
        return self._scenes.window(scene, bounds)

    @cached_property
    def tiles(self) -> MapTiles:
        """The map as vector tiles."""
        labels = tuple(c.label for c in scale_of(self.run))
        return MapTiles(self._file, self._lock, labels, self._landslides())

    def scene_record(self, scene: str) -> Mapping[str, Any]:
        """What run.json says of a scene; empty for another scene."""
        return self._scenes.records.get(scene, {})

    def scene_records(self) -> list[Mapping[str, Any]]:
        """What run.json says of each scene."""
        return list(self._scenes.records.values())

    def sample(self) -> bytes | None:
        """The sample for spot checks as GeoJSON; None where none was drawn."""
        try:
            return self._store.get(f"{SPOT_CHECKS}sample.geojson")
        except MissingObjectError:
            return None

    def report(self) -> bytes:
        """The report of the snapshot."""
        return report_html(self._store, map_link="./")

    @cached_property
    def _ids(self) -> pa.ChunkedArray:
        return self._columns(["building_id"]).column("building_id")

    def _columns(self, names: list[str]) -> pa.Table:
        with self._lock:
            return self._file.read(columns=names)

    def _rows(self, first: int, end: int) -> gpd.GeoDataFrame:
        """Rows of the table, through the row groups that hold them."""
        parts, at = [], 0
        for n in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(n).num_rows
            if at < end and first < at + rows:
                parts.append(
                    self._row_group(n).slice(
                        max(first - at, 0), min(end, at + rows) - max(first, at)
                    )
                )
            at += rows
        frame = pa.concat_tables(parts).drop_columns(["bbox"]).to_pandas()
        shapes = gpd.GeoSeries.from_wkb(frame.pop("geometry"), crs=4326)
        return gpd.GeoDataFrame(frame, geometry=shapes.to_numpy(), crs=4326)

    @cached_property
    def _row_group(self) -> Any:
        @lru_cache(maxsize=4)
        def read(number: int) -> pa.Table:
            with self._lock:
                return self._file.read_row_group(number)

        return read

    def _geo(self, name: str) -> gpd.GeoDataFrame:
        data = current_object(self._store, self.run, name)
        return gpd.read_parquet(pa.BufferReader(data))

    def _areas(self) -> gpd.GeoDataFrame:
        try:
            return self._geo("areas.parquet")
        except MissingObjectError:  # a map of an earlier version
            return gpd.GeoDataFrame({n: [] for n in AREA_TYPES}, geometry=[], crs=4326)

    def _frames(self) -> list[dict[str, Any]]:
        """The scenes in use, oldest first, each with the ground around its buildings."""
        frames = []
        box = self._columns(["scene_pre", "scene_post", "bbox"]).flatten().to_pandas()
        ends_of = box["bbox.xmin"].to_numpy(), box["bbox.xmax"].to_numpy()
        box["bbox.xmin"], box["bbox.xmax"] = spans_side_by_side(*ends_of)
        for epoch in ("pre", "post"):
            name = f"scene_{epoch}"
            apart = box.assign(**{name: box[name].str.split(TILES_JOINT)}).explode(name)
            by_scene = apart.groupby(name, sort=False)
            ends = by_scene.agg(
                {"bbox.xmin": "min", "bbox.ymin": "min", "bbox.xmax": "max", "bbox.ymax": "max"}
            )
            for scene, west, south, east, north in ends.itertuples():
                record = self._scenes.records.get(scene)
                if record is not None:
                    frames.append(
                        {
                            "scene": scene,
                            "epoch": epoch,
                            "acquired": record["datetime"],
                            "bounds": [
                                south - PAD_DEG,
                                west - PAD_DEG,
                                north + PAD_DEG,
                                east + PAD_DEG,
                            ],
                            "ground": record.get("gsd_m"),
                            "row": -1,
                        }
                    )
        return sorted(frames, key=lambda f: (f["acquired"], f["epoch"], f["scene"]))


@dataclass(slots=True, kw_only=True)
class _Scenes:
    """Scenes that are open for pictures. One thread reads a scene at a time."""

    records: Mapping[str, Mapping[str, Any]]
    storage: StorageOptions
    opened: "OrderedDict[str, tuple[threading.Lock, ExitStack, list[PictureSource]]]" = field(
        default_factory=OrderedDict
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def picture(self, name: str, frame: Frame) -> bytes | None:
        return self._read(name, lambda source: frame)

    def window(self, name: str, bounds: tuple[float, float, float, float]) -> bytes | None:
        return self._read(name, lambda source: chip_frame(bounds, source.native, WINDOW_PX))

    def _read(self, name: str, frame_of: Any) -> bytes | None:
        """The picture of a scene, transparent where it shows nothing; None for an unknown scene.

        Raises:
            OSError: if it cannot be read (also rasterio's errors, ValueError).
        """
        if name not in self.records:
            return None
        lock, stack, sources = self._entry(name)
        with lock, gdal_session(self.storage):
            if not sources:
                scene = _scene_of(self.records[name])
                sources.append(picture_source(scene, self.storage, stack))
            frame = frame_of(sources[0])
            if not sources[0].shows(frame):
                return EMPTY
            return webp(sources[0].read(frame))

    def _entry(self, name: str) -> tuple[threading.Lock, ExitStack, list[PictureSource]]:
        with self.lock:
            if name not in self.opened:
                self.opened[name] = (threading.Lock(), ExitStack(), [])
            self.opened.move_to_end(name)
            while len(self.opened) > OPEN_AT_MOST:
                _, (lock, stack, _) = self.opened.popitem(last=False)
                with lock:
                    stack.close()
            return self.opened[name]


def _scene_of(record: Mapping[str, Any]) -> Scene:
    """The scene of a record of run.json."""
    return Scene(
        id=str(record["id"]),
        href=str(record["href"]),
        datetime=datetime.fromisoformat(str(record["datetime"])),
        outline=Polygon(),
        gsd_m=record.get("gsd_m"),
        stretch=Stretch.of(record["stretch"]) if "stretch" in record else None,
        layers=tuple(SceneLayer.of(layer) for layer in record.get("layers", ())),
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in one.items()} for one in table.to_dict("records")]


def live_part(
    live: LiveMap, parts: list[str], query: dict[str, list[str]]
) -> tuple[bytes | None, str]:
    """Bytes of a part of the map, None for what is not there, and a name that tells its kind.

    Args:
        live: the map.
        parts: the path below `live/`, split at its slashes and unquoted.
        query: the query by name.
    """
    match parts:
        case ["core"]:
            return live.core, "core.gz"
        case ["details", group] if group.isdecimal():
            return live.details(int(group)), "details.gz"
        case ["sample"]:
            return live.sample(), "sample.json"
        case ["find"]:
            found = live.find(query.get("q", [""])[0]) if query.get("q") else []
            return json.dumps(found).encode(), "found.json"
        case ["scenes", scene, "window"]:
            bounds = _bounds(query.get("bounds", [""])[0])
            return (live.window(scene, bounds) if bounds else None), "window.webp"
        case ["scenes", scene, z, x, y] if z.isdecimal() and x.isdecimal() and y.isdecimal():
            return live.tile(scene, int(z), int(x), int(y)), "tile.webp"
    return None, ""


def _bounds(text: str) -> tuple[float, float, float, float] | None:
    """(west, south, east, north), degrees; None if they are not those of a building."""
    try:
        west, south, east, north = (float(v) for v in text.split(","))
    except ValueError:
        return None
    placed = -180 <= west <= east <= 180 and -85 <= south <= north <= 85
    small = east - west <= LARGEST_DEG and north - south <= LARGEST_DEG
    return (west, south, east, north) if placed and small else None
