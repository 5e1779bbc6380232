"""Entries of a tile store: one Zarr v3 group per scene, whose attributes are written last.

zarr.json                     root group
SCENE/zarr.json               attributes: the entry. A scene without it is not in the store
SCENE/32637-0.5m/counts       stored: (band, y, x) uint8, sharded, on the run's grid
SCENE/32637-0.5m/valid        stored: (y, x) uint8, 1 where the sensor saw the ground
SCENE/refs.json               virtual: kerchunk references into the scene's own blocks
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from quakestream.domain import Bands, Grid, Issue, Scene, Stretch, Window
from quakestream.errors import ConfigError
from quakestream.raster.cog.layout import Colour
from quakestream.raster.messages import counted
from quakestream.raster.tiles.placement import raster_of
from quakestream.redaction import redacted
from quakestream.storage import MissingObjectError, StorageOptions, Store, open_store

STORE_VERSION = 5
"""Must be raised when the format or its meaning changes. Older entries are then refused."""
ROOT_KEY = "zarr.json"
REFERENCES = "refs.json"
LOOKUPS = 8
"""Entries that are read at the same time."""

PLAIN = Bands()
"""Red, green and blue, with nothing declared."""
Kind = Literal["virtual", "stored"]
Axes = Literal["YXS", "SYX"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTiles:
    """One scene's pixels on one grid."""

    grid: Grid
    window: Window
    """The part of the grid that the arrays hold."""
    exact: bool
    """True if every window equals what GDAL reads from the scene, to the last bit."""

    @property
    def name(self) -> str:
        return f"{self.grid.epsg}-{self.grid.gsd_m:g}m"

    def attributes(self) -> dict[str, Any]:
        window = self.window
        return {
            "name": self.name,
            "epsg": self.grid.epsg,
            "gsd_m": self.grid.gsd_m,
            "row": window.row,
            "col": window.col,
            "height": window.height,
            "width": window.width,
            "exact": self.exact,
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        sides = ("row", "col", "height", "width")
        return cls(
            grid=Grid(epsg=int(content["epsg"]), gsd_m=float(content["gsd_m"])),
            window=Window(**{side: int(content[side]) for side in sides}),
            exact=bool(content["exact"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """How a virtual scene's blocks become counts and validity."""

    axes: Axes
    """Order of the axes of the array `counts`; S are the samples."""
    colour: Colour

    def attributes(self) -> dict[str, Any]:
        return {"axes": self.axes, **asdict(self.colour)}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        colour = {name: value for name, value in content.items() if name != "axes"}
        return cls(axes=content["axes"], colour=Colour.of(colour))


@dataclass(frozen=True, slots=True, kw_only=True)
class TileEntry:
    """A scene in a tile store."""

    scene_id: str
    href: str
    etag: str
    """Version of the scene that the tiles were made from."""
    crs_wkt: str
    transform: tuple[float, ...]
    """Maps the scene's own pixels to its CRS, six coefficients."""
    gsd_m: float
    kind: Kind
    grids: tuple[GridTiles, ...]
    layout: BlockLayout | None = None
    """Layout of a virtual scene's blocks; None for a stored scene."""
    version: int = STORE_VERSION
    stretch: Stretch | None = None
    """Stretch that brought 16-bit counts to 8 bits before they were written."""
    bands: Bands = PLAIN
    """The scene's bands that the tiles hold."""

    @property
    def group(self) -> str:
        return group_name(self.scene_id)

    @classmethod
    def describing(
        cls,
        scene: Scene,
        kind: Kind,
        grids: Iterable[GridTiles],
        layout: BlockLayout | None = None,
    ) -> Self:
        """The entry of a probed scene.

        Raises:
            SceneError: if the scene was not probed.
        """
        return cls(
            scene_id=scene.id,
            href=scene.href,
            etag=scene.etag,
            crs_wkt=scene.crs_wkt,
            transform=tuple(raster_of(scene).transform)[:6],
            gsd_m=float(scene.gsd_m or 0),
            kind=kind,
            grids=tuple(grids),
            layout=layout,
            stretch=scene.stretch,
            bands=scene.bands or PLAIN,
        )

    def on(self, grid: Grid) -> GridTiles | None:
        """The tiles on a grid; None if there are none."""
        return next((g for g in self.grids if g.grid == grid), None)

    def refusal(self, scene: Scene) -> str | None:
        """Why the tiles must not be read instead of the scene; None if they may be."""
        if self.version != STORE_VERSION:
            return f"tiles have version {self.version}, this program reads version {STORE_VERSION}"
        if self.etag != scene.etag:
            return f"tiles were made from version {self.etag!r}, the scene is now {scene.etag!r}"
        if self.bands.token != (scene.bands or PLAIN).token:
            return "tiles hold other bands or another nodata than the scene's"
        if self.stretch != scene.stretch:
            return "tiles were brought to 8 bits by another stretch than the scene's"
        return None

    def attributes(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "scene": self.scene_id,
            "href": redacted(self.href),
            "etag": self.etag,
            "crs": self.crs_wkt,
            "transform": list(self.transform),
            "gsd_m": self.gsd_m,
            "kind": self.kind,
            "grid": [g.attributes() for g in self.grids],
            "layout": None if self.layout is None else self.layout.attributes(),
            "stretch": None if self.stretch is None else self.stretch.attributes(),
            "bands": self.bands.attributes(),
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        version, stretch = int(content["version"]), content.get("stretch")
        # the layout of another version is not read: its entry is refused
        layout = content["layout"] if version == STORE_VERSION else None
        return cls(
            scene_id=content["scene"],
            href=content["href"],
            etag=content["etag"],
            crs_wkt=content["crs"],
            transform=tuple(content["transform"]),
            gsd_m=float(content["gsd_m"]),
            kind=content["kind"],
            grids=tuple(GridTiles.of(g) for g in content["grid"]),
            layout=None if layout is None else BlockLayout.of(layout),
            version=version,
            stretch=None if stretch is None else Stretch.of(stretch),
            bands=Bands.of(content["bands"]) if version == STORE_VERSION else PLAIN,
        )


def group_name(scene_id: str) -> str:
    """Name of a scene's group: its id if that can be a key, else a safe and unique form of it."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", scene_id).strip(".")[:80]
    if plain == scene_id and not plain.startswith("__") and plain not in ("", ROOT_KEY):
        return plain
    return f"{plain or 'scene'}-{hashlib.sha256(scene_id.encode()).hexdigest()[:8]}"


def write_root(store: Store) -> None:
    """Marks a prefix as a tile store.

    Raises:
        StorageError: if it cannot be written.
    """
    store.put(ROOT_KEY, _group({"quakestream_tiles": STORE_VERSION}))


def is_tile_store(store: Store) -> bool:
    try:
        return "quakestream_tiles" in json.loads(store.get(ROOT_KEY)).get("attributes", {})
    except (MissingObjectError, ValueError):
        return False


def write_entry(store: Store, entry: TileEntry) -> None:
    """Puts a scene into the store. It must be written last."""
    store.put(f"{entry.group}/{ROOT_KEY}", _group(entry.attributes()))


def drop_entry(store: Store, scene_id: str) -> None:
    """Takes a scene out of the store. It must be done before the scene is written again."""
    store.delete(f"{group_name(scene_id)}/{ROOT_KEY}")


def read_entry(store: Store, scene_id: str) -> TileEntry | None:
    """The entry of a scene; None if the store holds no finished tiles of it.

    Raises:
        StorageError: if the store does not answer.
    """
    try:
        content = json.loads(store.get(f"{group_name(scene_id)}/{ROOT_KEY}"))
        entry = TileEntry.of(content["attributes"])
    except (MissingObjectError, ValueError, KeyError, TypeError):
        return None
    return entry if entry.scene_id == scene_id else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSurvey:
    """What a run may read from its tile store, known before the first pixel is read."""

    entries: Mapping[str, TileEntry] = field(default_factory=dict)
    """Entries that may be used, by scene id."""
    issues: tuple[Issue, ...] = ()
    notes: tuple[str, ...] = ()

    def token(self, scene: Scene, grid: Grid) -> str:
        """Identifies tiles whose pixels differ from the scene's own; empty if they are equal."""
        entry = self.entries.get(scene.id)
        tiles = entry.on(grid) if entry else None
        if entry is None or tiles is None or tiles.exact:
            return ""
        return f"{entry.kind}-{entry.version}"


def survey_tiles(
    uri: str | None, scenes: Iterable[tuple[Scene, Grid]], options: StorageOptions
) -> TileSurvey:
    """Looks up the scenes of a run in its tile store.

    Raises:
        ConfigError: if there is no tile store at `uri`.
        StorageError: if the store does not answer.
    """
    if uri is None:
        return TileSurvey()
    store = open_store(uri, options)
    if not is_tile_store(store):
        raise ConfigError(
            f"no tile store at {uri}",
            "imagery.store",
            remedy=f"make it with `quakestream tile RUN.yaml --store {uri}`, or remove the key",
        )
    pairs = list(dict.fromkeys((s.id, g) for s, g in scenes))
    unique = {scene.id: scene for scene, _ in scenes}
    with ThreadPoolExecutor(LOOKUPS) as pool:
        stored = dict(zip(unique, pool.map(lambda i: read_entry(store, i), unique), strict=True))
    refusals = {i: e.refusal(unique[i]) for i, e in stored.items() if e is not None}
    entries = {i: e for i, e in stored.items() if e is not None and refusals[i] is None}
    missing = [i for i, g in pairs if refusals.get(i) is None and _lacks(entries.get(i), g)]
    issues = [
        Issue(subject=i, kind="scene", cause=f"{reason}; the scene itself is read ({uri})")
        for i, reason in refusals.items()
        if reason is not None
    ]
    note = f"{counted(len(missing), 'scene')} not in {uri}, read directly: {', '.join(missing)}"
    return TileSurvey(entries=entries, issues=tuple(issues), notes=(note,) if missing else ())


def _lacks(entry: TileEntry | None, grid: Grid) -> bool:
    return entry is None or entry.on(grid) is None


def _group(attributes: Mapping[str, Any]) -> bytes:
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(content, indent=1, allow_nan=False).encode()
