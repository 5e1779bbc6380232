"""Maps of what a run has read so far, published while it goes on.

A country takes hours. Whoever waits for its map sees the first verdicts after minutes: buildings
that were not read yet say so. The map is made in a thread of its own, so that reading goes on.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from quakestream.errors import QuakestreamError, RequestError
from quakestream.outputs.layout import INTERIM
from quakestream.outputs.readback import current_run
from quakestream.pipeline.result.context import KindProducts
from quakestream.pipeline.result.rows import PENDING
from quakestream.pipeline.result.unread_units import UnreadUnits
from quakestream.storage import Store

STOP_S = 5.0
"""An interrupted run waits at most so long for the map that it was making."""
PAUSES = 10.0
"""Time between two interim maps, at least, in times that making the last one took."""


class InterimStoppedError(QuakestreamError):
    """The interim map is not needed any more: the run ended."""


@dataclass(slots=True, kw_only=True)
class InterimMaps:
    """Publishes interim maps while a run goes on; all calls come from one thread."""

    every_s: float
    """Time between two maps; 0 for none."""
    unread: UnreadUnits
    make: Callable[[UnreadUnits, Callable[[], None]], str]
    """Reduces and publishes what is read, and returns a line about it. The second argument
    raises once the map is not needed any more."""
    tell: Callable[[str], None]
    before: Callable[[], object] = lambda: None
    """Called by the run's own thread before a map is begun."""
    _due: float = field(init=False)
    _began: float = 0.0
    _thread: threading.Thread | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _line: str = ""

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.every_s

    def committed(self, keys: Iterable[str]) -> None:
        """Takes note of what was committed, and begins a map where one is due."""
        self.unread.read(keys)
        if self._thread is not None and not self._thread.is_alive():
            self._ended()
        if self.every_s and self._thread is None and time.monotonic() >= self._due:
            if not self.unread:
                return  # the final map comes at once
            self.before()
            self._began, self._line = time.monotonic(), ""
            self._thread = threading.Thread(
                target=self._work, args=(self.unread.copy(),), name="interim map", daemon=True
            )
            self._thread.start()

    def close(self, wait_s: float | None = None) -> None:
        """Stops a map that is being made, and waits for its thread.

        Args:
            wait_s: waits at most so long; None: until it ended.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(wait_s)
            self._ended()

    def _work(self, unread: UnreadUnits) -> None:
        try:
            self._line = self.make(unread, self._check)
        except InterimStoppedError:
            self._line = ""
        except QuakestreamError as error:  # the run itself meets it, too, or goes on without
            self._line = f"no interim map: {error}"
        except Exception as error:  # a traceback of a thread would stand amid the progress
            self._line = f"no interim map: unexpected {type(error).__name__}: {error}"

    def _check(self) -> None:
        if self._stopped.is_set():
            raise InterimStoppedError("the run ended")

    def _ended(self) -> None:
        took = time.monotonic() - self._began
        self._thread = None
        self._due = time.monotonic() + max(self.every_s, PAUSES * took)
        if self._line:
            self.tell(self._line)


def may_publish_interim(store: Store) -> bool:
    """False where a finished map is published already: an interim one would be a step back."""
    try:
        return INTERIM in current_run(store)
    except RequestError:
        return True


def published_snapshot(store: Store) -> str:
    """The snapshot that the map shows; empty where there is none."""
    try:
        return str(current_run(store)["snapshot"])
    except RequestError:
        return ""


def interim_record(products: KindProducts, unread: UnreadUnits) -> dict[str, int]:
    """`interim` of run.json: what the map lacks."""
    return {"buildings_pending": _waiting(products), "cells_pending": len(unread)}


def interim_line(products: KindProducts, store: Store) -> str:
    """What is said of an interim map once it is there."""
    frame = products.buildings
    rows = 0 if frame is None else len(frame)
    assessed = 0 if frame is None else int((frame["status"] == "assessed").sum())
    waiting = _waiting(products)
    return (
        f"interim map: {assessed:,} of {rows:,} buildings assessed, {waiting:,} not read yet; in "
        f"{store.uri}, and the run goes on"
    )


def _waiting(products: KindProducts) -> int:
    frame = products.buildings
    return 0 if frame is None else int((frame["reason"] == PENDING).sum())
