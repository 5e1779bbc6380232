"""Keeps a worker's scenes open, and retries reads that fail."""

import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from quakestream.domain import Grid, Scene, Window, sheets_of
from quakestream.errors import SceneError, TileReadError
from quakestream.outputs.layout import INDICES
from quakestream.pipeline.work.layers import SceneOpener
from quakestream.pipeline.work.tasks import WorkerSpec
from quakestream.raster.cog import (
    COPIED,
    HELD_BYTES,
    REFUSED,
    CogOpener,
    LayoutCache,
    noted_reasons,
)
from quakestream.raster.pasting import parts_in, paste
from quakestream.raster.source import Pixels, RasterioSource, RasterSource, ReadsAhead
from quakestream.raster.tiles import tile_source_factory
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions, Store, open_store

if TYPE_CHECKING:
    from quakestream.hazard.terrain import Dem

OpenSource = Callable[[Scene, Grid], RasterSource]
_ReadWindow = Callable[[Scene, Grid, Window], Pixels]
ATTEMPTS = 2
SLOW_S = 1.0
STALL_S = 15
"""Seconds of slow failed reads after which a worker stops reading a scene.

Only failed reads of over `SLOW_S` count. A server that stalls would otherwise hold the run for
hours.
"""
FROM_OVERVIEWS = 2.0
"""Scene pixels per grid pixel from which overviews are read."""
OPEN_SCENES = 24
"""A cell may touch the corners of four tiles in each epoch, and two zones."""
READERS_SHARE_MB = HELD_BYTES / 1e6
"""Most memory that the readers of one process share, beside the cells that they read."""
NAMED = 5
"""Scenes that one note names."""


class OpenScenes:
    """The scenes a worker read last."""

    def __init__(self, open_source: OpenSource, options: StorageOptions | None = None) -> None:
        self._open, self._options = open_source, options or StorageOptions()
        self._sources: OrderedDict[tuple[tuple[str, ...], Grid], tuple[RasterSource, ExitStack]] = (
            OrderedDict()
        )
        self._lost_s: Counter[str] = Counter()
        self._stalled: dict[str, Exception] = {}
        self._terrains: dict[str, tuple[Dem, ExitStack]] = {}

    def close(self) -> None:
        for source in list(self._terrains):
            self.forget_terrain(source)
        while self._sources:
            self._sources.popitem()[1][1].close()

    def terrain(self, source: str) -> "Dem":
        """An elevation model, opened when it is first needed.

        Raises:
            HazardError: if it cannot be used.
            StorageError: if it cannot be fetched.
        """
        from quakestream.hazard.terrain import open_dem  # few runs have one

        if source not in self._terrains:
            with ExitStack() as stack:
                opened = stack.enter_context(open_dem(source, self._options))
                self._terrains[source] = opened, stack.pop_all()
        return self._terrains[source][0]

    def forget_terrain(self, source: str) -> None:
        """Closes an elevation model, such as one that could not be read."""
        if entry := self._terrains.pop(source, None):
            entry[1].close()

    def seamless(self, scene: Scene, grid: Grid) -> bool:
        """True if any part of a window reads the same alone as within a larger window.

        Raises:
            SceneError: if the scene cannot be opened.
        """
        if not scene.tiles:
            return self._source(scene, grid).seamless
        seamless = True
        for tile in scene.tiles:
            try:
                seamless &= self._source(tile, grid).seamless
            except (SceneError, OSError):  # the windows that need the tile fail when they are read
                continue
        return seamless

    def read(self, scene: Scene, grid: Grid, window: Window) -> Pixels:
        """Reads a window. If the scene's server stalled before, it raises that error at once.

        Raises:
            SceneError: if the scene cannot be opened.
            ReadError: if it cannot be read there.
            TileReadError: if a tile that reaches into the window cannot be opened or read there.
        """
        if scene.tiles:
            return self._paste(scene, grid, window, self._read)
        return self._read(scene, grid, window)

    def _paste(self, scene: Scene, grid: Grid, window: Window, read: _ReadWindow) -> Pixels:
        """A window out of the tiles of an acquisition."""
        whole: dict[RasterSource, Pixels] = {}
        resampled: list[Pixels] = []

        def read_tile(tile: Scene, inside: Window) -> Pixels:
            try:
                opened = self._source(tile, grid)
                if _as_one(scene, opened, grid):
                    if not resampled:
                        resampled.append(self._resampled(scene, grid, window, read))
                    return resampled[0].part(window, inside)
                if not opened.seamless:
                    source = self._sheet(scene, tile, grid)
                    if source not in whole:
                        whole[source] = source.read(window)
                    return whole[source].part(window, inside)
                return read(tile, grid, inside)
            except TileReadError:
                raise
            except (SceneError, OSError) as error:
                raise TileReadError(str(error), tile.id) from error

        parts = ((extent_on(t, grid), partial(read_tile, t)) for t in scene.tiles)
        return paste(window, parts, layers=len(scene.layers))

    def _read(self, scene: Scene, grid: Grid, window: Window) -> Pixels:
        if scene.href in self._stalled:
            raise self._stalled[scene.href]
        began = time.monotonic()
        try:
            return self._source(scene, grid).read(window)
        except (SceneError, OSError) as error:
            took_s = time.monotonic() - began
            self._lost_s[scene.href] += round(took_s) if took_s > SLOW_S else 0
            if self._lost_s[scene.href] >= STALL_S:
                self._stalled[scene.href] = error
            raise

    def prefetch(self, scene: Scene, grid: Grid, *windows: Window) -> None:
        """Requests the bytes of windows and returns at once, if the scene is open."""
        for part in scene.parts:
            entry = self._sources.get((part.version, grid))
            if entry is None or part.href in self._stalled:
                continue
            source, wanted = entry[0], windows
            if scene.tiles:
                shared = (w.shared(extent_on(part, grid)) for w in windows)
                wanted = tuple(w for w in shared if w.height > 0 and w.width > 0)
            if wanted and isinstance(source, ReadsAhead):
                source.prefetch(*wanted)

    def attempt(self, scene: Scene, grid: Grid, window: Window) -> Pixels | Exception:
        """Reads a window, a second time on a new connection. Returns the last error as a value."""
        try:
            if scene.tiles:
                return self._paste(scene, grid, window, self._attempt)
            return self._attempt(scene, grid, window)
        except (SceneError, OSError) as error:
            return error

    def _attempt(self, scene: Scene, grid: Grid, window: Window) -> Pixels:
        for _ in range(1, ATTEMPTS):
            try:
                return self._read(scene, grid, window)
            except (SceneError, OSError):
                if scene.href not in self._stalled:
                    self._forget(scene, grid)
        return self._read(scene, grid, window)

    def _source(self, scene: Scene, grid: Grid) -> RasterSource:
        return self._opened(scene.version, grid, lambda: self._open(scene, grid))

    def _opened(
        self, version: tuple[str, ...], grid: Grid, opens: Callable[[], RasterSource]
    ) -> RasterSource:
        key = (version, grid)
        if key not in self._sources:
            while len(self._sources) >= OPEN_SCENES:
                self._sources.popitem(last=False)[1][1].close()
            stack = ExitStack()
            self._sources[key] = (stack.enter_context(opens()), stack)
        self._sources.move_to_end(key)
        return self._sources[key][0]

    def _resampled(self, scene: Scene, grid: Grid, window: Window, read: _ReadWindow) -> Pixels:
        """A window out of all tiles that reach into it, resampled as one raster.

        Raises:
            SceneError: if a tile cannot be opened.
            TileReadError: if one cannot be read there.
        """
        from quakestream.raster.cog.sheet import sheet_source  # where blocks are read at all

        tiles = parts_in(scene, grid, window)
        source = sheet_source(scene, grid, [(t, self._source(t, grid)) for t in tiles])
        try:
            return source.read(window)
        except (SceneError, OSError):
            for tile in tiles:  # finds the one that fails, and tries it again
                try:
                    read(tile, grid, window.shared(extent_on(tile, grid)))
                except (SceneError, OSError) as error:
                    raise TileReadError(str(error), tile.id) from error
        return source.read(window)

    def _sheet(self, scene: Scene, tile: Scene, grid: Grid) -> RasterSource:
        """A source of all tiles that share a tile's lattice.

        GDAL resamples within one raster and leaves its edge out, which would be a crack.
        """
        sheet = next(s for s in sheets_of(scene) if tile in s.parts)
        if sheet is tile:
            return self._source(tile, grid)
        version = tuple(word for part in sheet.parts for word in part.version)
        return self._opened(version, grid, lambda: RasterioSource(sheet, grid, self._options))

    def _forget(self, scene: Scene, grid: Grid) -> None:
        if entry := self._sources.pop((scene.version, grid), None):
            entry[1].close()


def _as_one(scene: Scene, source: RasterSource, grid: Grid) -> bool:
    """True if tiles are resampled by their blocks, and as one raster.

    Not from overviews, since those of tiles do not fit together, nor across lattices.
    """
    resampled = not getattr(source, "aligned", True)
    finer = grid.gsd_m / (scene.gsd_m or grid.gsd_m)
    return resampled and scene.transform is not None and finer < FROM_OVERVIEWS


_openers: "WeakValueDictionary[tuple[str, str], CogOpener]" = WeakValueDictionary()
"""Openers by run. Each lives as long as a reader of this process uses it."""
_openers_lock = threading.Lock()


def opener(spec: WorkerSpec) -> OpenSource:
    """The opener of scenes, which all readers of a process share.

    Scenes are read from the run's tile store if it has one, else through the fast COG reader, else
    through GDAL. Tile stores hold no scenes of physical values.
    """
    scenes = _opener(spec.options, spec.ledger_uri)
    if spec.tile_store is None:
        return scenes
    return tile_source_factory(spec.tile_store, spec.options, scenes)


def _opener(options: StorageOptions, ledger_uri: str) -> CogOpener:
    key = ledger_uri, repr(options)
    with _openers_lock:
        cog_opener = _openers.get(key)
        if cog_opener is None:
            store = open_store(f"{ledger_uri}/{INDICES}", options)
            cog_opener = _openers[key] = SceneOpener(options, layouts=LayoutCache(store))
        return cog_opener


def stretch_notes(scenes: Iterable[Scene]) -> list[str]:
    """Notes on scenes with counts of 16 bits. run.json holds the stretch to 8 bits of each."""
    wide = sorted({scene.id for scene in scenes if scene.stretch is not None})
    if not wide:
        return []
    return [f"{_scenes(wide)} of 16 bits, stretched to 8 bits scene by scene (inputs.scenes)"]


def header_notes(scenes: Iterable[Scene]) -> list[str]:
    """Notes on oddities that the headers of scenes show, one per oddity."""
    by_note: dict[str, set[str]] = defaultdict(set)
    for scene in scenes:
        for note in scene.notes:
            by_note[note].add(scene.id)
    return [f"{_scenes(sorted(ids))}: {note}" for note, ids in sorted(by_note.items())]


def reading_notes(store: Store) -> list[str]:
    """Notes on scenes that were not read in the usual way, and why, for run.json.

    Args:
        store: the run's output.
    """
    indices = Store(uri=store.uri_of(INDICES), options=store.options)
    return [
        f"{_scenes(scenes)} {how}: {why}"
        for kind, how in ((COPIED, "copied whole"), (REFUSED, "read through GDAL"))
        for why, scenes in _by_reason(noted_reasons(indices, kind)).items()
    ]


def _by_reason(reasons: dict[str, str]) -> dict[str, list[str]]:
    """Ids of scenes by reason, in order of the ids."""
    scenes: dict[str, list[str]] = defaultdict(list)
    for scene, reason in sorted(reasons.items()):
        scenes[reason].append(scene)
    return scenes


def _scenes(scenes: list[str]) -> str:
    """The number of scenes and the first of their ids, such as `2 scenes (a, b)`."""
    more = f" and {len(scenes) - NAMED} more" if len(scenes) > NAMED else ""
    noun = "scene" if len(scenes) == 1 else "scenes"
    return f"{len(scenes)} {noun} ({', '.join(scenes[:NAMED])}{more})"
