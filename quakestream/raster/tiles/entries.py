"""What a tile store says of each scene: one Zarr v3 group a scene, its attributes written last.

zarr.json                     root group
SCENE/zarr.json               attributes: the entry; a scene without it is not in the store
SCENE/32637-0.5m/counts       stored: (band, y, x) uint8, sharded, on the run's grid
SCENE/32637-0.5m/valid        stored: (y, x) uint8, 1 where the sensor saw the ground
SCENE/refs.json               virtual: kerchunk references into the scene's own blocks
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from quakestream.domain import Grid, Issue, Scene, Stretch, Window
from quakestream.errors import ConfigError
from quakestream.storage import MissingObjectError, StorageOptions, Store, open_store

STORE_VERSION = 2
"""Raised whenever what is written or how it is read changes: older entries are then refused."""
ROOT_KEY = "zarr.json"
REFERENCES = "refs.json"
LOOKUPS = 8
"""Entries asked for at the same time."""

Kind = Literal["virtual", "stored"]
Axes = Literal["YXS", "SYX"]
Validity = Literal["black", "nodata", "alpha", "mask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTiles:
    """One scene's pixels on one grid."""

    grid: Grid
    window: Window
    """What the arrays hold, in pixels of the grid: its row and column are the offset."""
    exact: bool
    """True if any window reads as the scene itself would through GDAL, to the last bit."""

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
    bands: tuple[int, ...]
    """Indices (from 0) of red, green, blue."""
    validity: Validity
    """What tells the ground from nothing: `black` where nothing is declared, as GDAL's reader."""
    nodata: int | None = None
    alpha: int | None = None
    """Index (from 0) of the alpha band."""

    def attributes(self) -> dict[str, Any]:
        return {
            "axes": self.axes,
            "bands": list(self.bands),
            "validity": self.validity,
            "nodata": self.nodata,
            "alpha": self.alpha,
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "bands": tuple(content["bands"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class TileEntry:
    """What the store holds of one scene."""

    scene_id: str
    href: str
    etag: str
    """Version of the scene the tiles were made from."""
    crs_wkt: str
    transform: tuple[float, ...]
    """Of the scene's own pixels, six coefficients."""
    gsd_m: float
    kind: Kind
    grids: tuple[GridTiles, ...]
    layout: BlockLayout | None = None
    """Virtual scenes only."""
    version: int = STORE_VERSION
    stretch: Stretch | None = None
    """How 16-bit counts were brought to 8 before they were written."""

    @property
    def group(self) -> str:
        return group_name(self.scene_id)

    @classmethod
    def describing(cls, scene: Scene, kind: Kind, grids: Iterable[GridTiles]) -> Self:
        """The entry of a scene whose header was read."""
        assert scene.transform is not None
        return cls(
            scene_id=scene.id,
            href=scene.href,
            etag=scene.etag,
            crs_wkt=scene.crs_wkt,
            transform=tuple(scene.transform)[:6],
            gsd_m=float(scene.gsd_m or 0),
            kind=kind,
            grids=tuple(grids),
            stretch=scene.stretch,
        )

    def on(self, grid: Grid) -> GridTiles | None:
        """The tiles on a grid, None where there are none."""
        return next((g for g in self.grids if g.grid == grid), None)

    def refusal(self, scene: Scene) -> str | None:
        """Why the tiles must not stand for this scene; None where they may."""
        if self.version != STORE_VERSION:
            return f"its tiles have version {self.version}, this program reads {STORE_VERSION}"
        if self.etag != scene.etag:
            return f"its tiles were made from version {self.etag!r}, the scene is {scene.etag!r}"
        if self.stretch != scene.stretch:
            return "its tiles were brought to 8 bits by another stretch than the scene is now"
        return None

    def attributes(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "scene": self.scene_id,
            "href": self.href,
            "etag": self.etag,
            "crs": self.crs_wkt,
            "transform": list(self.transform),
            "gsd_m": self.gsd_m,
            "kind": self.kind,
            "grid": [g.attributes() for g in self.grids],
            "layout": None if self.layout is None else self.layout.attributes(),
            "stretch": None if self.stretch is None else self.stretch.attributes(),
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        layout, stretch = content.get("layout"), content.get("stretch")
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
            version=int(content["version"]),
            stretch=None if stretch is None else Stretch.of(stretch),
        )


def group_name(scene_id: str) -> str:
    """Name of a scene's group: the id where it can be a key, else made so and told apart."""
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
    """Puts a scene into the store: the last thing written of it."""
    store.put(f"{entry.group}/{ROOT_KEY}", _group(entry.attributes()))


def drop_entry(store: Store, scene_id: str) -> None:
    """Takes a scene out of the store: the first thing done before it is written anew."""
    store.delete(f"{group_name(scene_id)}/{ROOT_KEY}")


def read_entry(store: Store, scene_id: str) -> TileEntry | None:
    """What the store holds of a scene, None where nothing finished.

    Raises:
        StorageError: if the store does not answer: not the same as holding nothing.
    """
    try:
        content = json.loads(store.get(f"{group_name(scene_id)}/{ROOT_KEY}"))
        entry = TileEntry.of(content["attributes"])
    except (MissingObjectError, ValueError, KeyError, TypeError):
        return None
    return entry if entry.scene_id == scene_id else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSurvey:
    """What a run may read from its tile store, found out before the first pixel."""

    entries: Mapping[str, TileEntry] = field(default_factory=dict)
    """By scene id; only those that may be used."""
    issues: tuple[Issue, ...] = ()
    notes: tuple[str, ...] = ()

    def token(self, scene: Scene, grid: Grid) -> str:
        """What distinguishes pixels from the store from the scene's own: empty if nothing."""
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
            f"imagery.store: no tile store at {uri}; make it with "
            f"`quakestream tile RUN.yaml --store {uri}`, or leave the key out"
        )
    pairs = list(dict.fromkeys((s.id, g) for s, g in scenes))
    unique = {scene.id: scene for scene, _ in scenes}
    with ThreadPoolExecutor(LOOKUPS) as pool:
        found = dict(zip(unique, pool.map(lambda i: read_entry(store, i), unique), strict=True))
    refusals = {i: e.refusal(unique[i]) for i, e in found.items() if e is not None}
    entries = {i: e for i, e in found.items() if e is not None and refusals[i] is None}
    missing = [i for i, g in pairs if refusals.get(i) is None and _lacks(entries.get(i), g)]
    issues = [
        Issue(subject=i, kind="scene", cause=f"{why}; the scene itself is read ({uri})")
        for i, why in refusals.items()
        if why is not None
    ]
    note = f"{len(missing)} scene(s) are read themselves: {uri} lacks {', '.join(missing)}"
    return TileSurvey(entries=entries, issues=tuple(issues), notes=(note,) if missing else ())


def _lacks(entry: TileEntry | None, grid: Grid) -> bool:
    return entry is None or entry.on(grid) is None


def _group(attributes: Mapping[str, Any]) -> bytes:
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(content, indent=1, allow_nan=False).encode()
