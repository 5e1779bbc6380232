"""Typed events of a run, and the observers that receive them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTime:
    """What one worker spent since its report before."""

    worker_s: float = 0.0
    """Time on the clock. Added up over workers and divided by the time that went by, it is the
    number of workers."""
    busy_s: float = 0.0
    """Time of it in which an engine scored."""
    wait_s: float = 0.0
    """Time of it in which no engine scored and pixels were waited for."""
    fetched_bytes: int = 0
    """Bytes that the worker's process took from files, object stores and the web. What GDAL reads
    by itself is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReady:
    """The plan is made; the size of the work is known."""

    run_id: str = ""

    cells: int
    cells_done: int
    """Cells that an earlier run committed and this run skips."""
    km2: float
    """Ground that is scored: whole windows, once for each view."""
    footprints: int
    km2_done: float = 0.0
    """Ground of it that an earlier run scored."""
    buildings: int = 0
    """Footprints that some cell judges; the others have their reason already."""
    buildings_done: int = 0
    """Those of them that an earlier run answered."""
    groups: int = 0
    """Commit groups of the whole run."""
    groups_done: int = 0
    """Commit groups that an earlier run committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneTiled:
    """One scene is in the tile store."""

    subject: str
    cached: bool
    """True where an earlier run had tiled it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCommitted:
    """A commit group is stored: a killed run does not repeat its cells."""

    name: str
    cells: int
    km2: float
    """Ground that was scored: whole windows, once for each view."""
    buildings: int
    """Footprints that are answered now: all cells and views that show them are done."""
    cells_failed: int
    """Cells of the group with a window that could not be read or scored."""
    mpx: float
    """Megapixels read, over both epochs."""
    read_s: float
    score_s: float
    spent: WorkerTime = WorkerTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputQuarantined:
    """One input cannot be used; the rest of the map is made."""

    subject: str
    kind: str
    cause: str
    attempts: int = 1
    retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPublished:
    """The products are written at their fixed names."""

    out: str
    snapshot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage begins: plan, prepare, map, reduce or publish."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputNotice:
    """Something that the user of an output should know, such as that it was taken over."""

    text: str


Event = (
    PlanReady
    | SceneTiled
    | GroupCommitted
    | InputQuarantined
    | MapPublished
    | StageStarted
    | OutputNotice
)
Observer = Callable[[Event], None]


@dataclass(slots=True)
class MapClock:
    """Time that a run spends mapping: reading, scoring and committing.

    Every rate in km²/h of a run is over this time: without the plan, the preparation of scenes and
    the writing of the map.
    """

    _before_s: float = 0.0
    _since: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self._before_s = 0.0 if event.name == "plan" else self.seconds
            self._since = time.monotonic() if event.name == "map" else None
        elif isinstance(event, MapPublished):
            self._before_s, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        since = self._since
        return self._before_s + (time.monotonic() - since if since is not None else 0.0)


@dataclass(slots=True)
class Events:
    """Passes each event to every observer, in order."""

    observers: list[Observer] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)
