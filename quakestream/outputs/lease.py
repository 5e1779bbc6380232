"""The lease of an output: one run writes there at a time, and others can see that it lives.

A lease is a small object with the next free number. Stores that can put an object only where there
is none decide between two runs that want the same number; the highest number holds. Its run writes
a sign of life every few seconds and says at the end how it ended. Who lost the lease, as after a
machine that slept, writes no product any more.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from quakestream.errors import InUseError, StorageError
from quakestream.outputs.layout import LEASE
from quakestream.storage import Store

SIGN_S = 5.0
"""Seconds between two signs of life."""
SILENT_AFTER = timedelta(seconds=60)
"""A run that gave no sign of life for this long has stopped."""
ATTEMPTS = 20
"""Runs that take the lease first, one after the other, before this one gives up."""

Ended = Literal["", "finished", "interrupted", "failed"]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What the holder of an output says of itself."""

    token: str
    host: str
    pid: int
    machine: str
    """Tells machines and containers apart, also those of one name; it changes at each boot."""
    process: str
    """When the process was started, so that another one with its number is not taken for it."""
    since: datetime
    sign: datetime
    """Last sign of life."""
    ended: Ended = ""
    """How the run ended; empty while it goes on."""

    def dead(self, now: datetime) -> bool:
        """True if its run writes no more: it said so, is silent, or its process is gone."""
        here = self.machine == _machine()
        gone = here and _process(self.pid) != self.process
        return bool(self.ended) or gone or now - self.sign > SILENT_AFTER

    @property
    def alive_here(self) -> bool:
        """True if its process runs on this machine."""
        return self.machine == _machine() and _process(self.pid) == self.process

    def __str__(self) -> str:
        """`process 4711 on node-3, since 14:03 UTC`."""
        return f"process {self.pid} on {self.host}, since {clock(self.since)}"

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), default=datetime.isoformat).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "LeaseRecord | None":
        """The record; None where it cannot be read."""
        try:
            content: dict[str, Any] = json.loads(data)
            values = {f.name: content[f.name] for f in fields(cls)}
            times = {name: datetime.fromisoformat(values[name]) for name in ("since", "sign")}
            record = cls(**{**values, **times})
            record.dead(datetime.now(UTC))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return record


def clock(time: datetime) -> str:
    """`14:03 UTC`, with the day if it is not today."""
    day = "" if time.date() == datetime.now(UTC).date() else f"{time.date().isoformat()} "
    return f"{day}{time.astimezone(UTC):%H:%M} UTC"


def newest_lease(store: Store) -> tuple[int, LeaseRecord | None]:
    """Number and record of the lease that holds; 0 where there is none, None if it is damaged."""
    numbers = _numbers(store)
    if not numbers:
        return 0, None
    with suppress(StorageError):  # deleted meanwhile
        return numbers[-1], LeaseRecord.from_json(store.get(_key(numbers[-1])))
    return numbers[-1], None


class Lease:
    """The lease that this run holds."""

    def __init__(self, store: Store, number: int, record: LeaseRecord) -> None:
        self._store, self._number, self._record = store, number, record
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True, name="lease")
        self._thread.start()

    @property
    def uri(self) -> str:
        """URI of the object, which is there for as long as the run holds the output."""
        return self._store.uri_of(_key(self._number))

    def check(self) -> None:
        """Raises InUseError if another run has taken the output over."""
        number, record = newest_lease(self._store)
        if record is not None and record.token != self._record.token and number >= self._number:
            raise InUseError(
                "another run has taken over",
                self._store.uri,
                got=str(record),
                remedy="what this run committed is kept; `quakestream status` shows the other one",
            )

    def end(self, ended: Ended) -> None:
        """Says how the run ended. A store that cannot be written is no error here."""
        self._ended.set()
        self._thread.join(1.0)
        with suppress(StorageError):
            self.check()
            self._write(ended)

    def _live(self) -> None:
        while not self._ended.wait(SIGN_S):
            with suppress(StorageError):  # lost or not writable: the run finds out itself
                self.check()
                if not self._ended.is_set():
                    self._write("")

    def _write(self, ended: Ended) -> None:
        record = replace(self._record, sign=_now(), ended=ended)
        self._store.put(_key(self._number), record.to_json())


@contextmanager
def held_lease(store: Store, tell: Tell) -> Iterator[Lease]:
    """Holds the output for the time of the block.

    A run elsewhere that gave a sign of life within a minute is watched until it gives another one
    or the minute is over.

    Args:
        tell: is given one line if the output is taken over, or another run is watched.

    Raises:
        InUseError: if another run writes there.
        StorageError: if the output cannot be written.
    """
    lease = _take(store, tell)
    try:
        yield lease
    except (KeyboardInterrupt, SystemExit):
        lease.end("interrupted")
        raise
    except BaseException:
        lease.end("failed")
        raise
    lease.end("finished")


def _take(store: Store, tell: Tell) -> Lease:
    mine = _own_record()
    for _ in range(ATTEMPTS):
        number, held = newest_lease(store)
        if held is not None and not held.dead(_now()):
            _wait(store, number, held, tell)
            continue
        created = store.create(_key(number + 1), mine.to_json())
        now_there, record = newest_lease(store)
        if now_there == number + 1 and record is not None and record.token == mine.token:
            if held is not None and not held.ended:
                tell(f"{store.uri}: taken over from {held}, which has stopped")
            for old in _numbers(store):
                if old <= number:
                    store.delete(_key(old))
            return Lease(store, number + 1, mine)
        if created and record is not None and now_there == number + 1:
            _wait(store, now_there, record, tell)
    raise _in_use(store, newest_lease(store)[1])


def _wait(store: Store, number: int, held: LeaseRecord, tell: Tell) -> None:
    """Returns once a run has stopped.

    Raises:
        InUseError: if it lives.
    """
    if held.alive_here:
        raise _in_use(store, held)
    left_s = (held.sign + SILENT_AFTER - _now()).total_seconds()
    tell(f"{store.uri}: in use by {held}; waiting up to {left_s:.0f} s for a sign of life")
    pause = threading.Event()
    while not held.dead(_now()):
        pause.wait(min(SIGN_S / 2, 1.0))
        there, record = newest_lease(store)
        if there != number or record is None or record.ended:
            return
        if record.sign != held.sign:
            raise _in_use(store, record)


def _in_use(store: Store, held: LeaseRecord | None) -> InUseError:
    return InUseError(
        "another run writes there",
        store.uri,
        got=str(held) if held else "several runs that want to begin",
        remedy="wait for it or end it, or give another --out; a run that was killed is taken over "
        f"after {SILENT_AFTER.total_seconds():.0f} s, on its own machine at once",
    )


def _own_record() -> LeaseRecord:
    now = _now()
    return LeaseRecord(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        process=_process(os.getpid()),
        since=now,
        sign=now,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _machine() -> str:
    """This boot of this machine, or of this container, whose process numbers are its own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _process(pid: int) -> str:
    """When a process was started, as the system counts; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _alive(pid)
    state, *others = stat.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else others[18]


def _alive(pid: int) -> str:
    """For systems without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass  # it belongs to somebody else
    return "alive"


def _numbers(store: Store) -> list[int]:
    names = (key.removeprefix(LEASE).removesuffix(".json") for key in store.list(LEASE))
    return sorted(int(name) for name in names if name.isdigit())


def _key(number: int) -> str:
    return f"{LEASE}{number:08}.json"
