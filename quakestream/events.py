"""What a run says while it goes on: typed events, and observers that show them."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReady:
    """The plan stands; work of a known size begins."""

    cells: int
    cells_done: int
    """Cells an earlier run committed and this one will not repeat."""
    km2: float
    footprints: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One scene or pair was looked at: statistics, masks, shifts."""

    subject: str
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCommitted:
    """A commit group is safe: a run that is killed will not repeat it."""

    name: str
    cells: int
    km2: float
    buildings: int
    cells_failed: int
    """Cells of it with a window that could not be read or scored."""
    mpx: float
    """Megapixels read, both epochs."""
    read_s: float
    score_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One input is bad; the rest of the map is made."""

    subject: str
    kind: str
    cause: str
    attempts: int = 1
    retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The products are at their fixed names."""

    out: str
    snapshot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A named stage began (plan, prepare, map, reduce, publish)."""

    name: str


Event = PlanReady | Prepared | GroupCommitted | Quarantined | Published | Stage
Observer = Callable[[Event], None]


@dataclass(slots=True)
class Events:
    """Hands each event to every observer, in order."""

    observers: list[Observer] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)
