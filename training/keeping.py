"""Where a run tells how it goes, and keeps what it goes on from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from training.checkpoints import read_plain, write_plain
from training.journal import Log, Record

State = Callable[[], Mapping[str, Any]]
"""Gives the state when asked: copying it takes time."""
STATE = "state.pt"


class Keeper(Protocol):
    """Takes what a run tells, with the state it was in."""

    def latest(self) -> dict[str, Any] | None:
        """The last state kept; None at the start of a run."""
        ...

    def tell(self, records: Sequence[Record], state: State | None) -> None:
        """Takes records, and a state to go on from when there is one.

        Called at the same steps by all workers, of whom only the leader is listened to.
        """
        ...


class LogKeeper:
    """Passes records on; an interrupted run starts anew."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def latest(self) -> dict[str, Any] | None:
        return None

    def tell(self, records: Sequence[Record], state: State | None) -> None:
        for record in records:
            self._log(record)


class FolderKeeper(LogKeeper):
    """Keeps the last state in a folder too."""

    def __init__(self, folder: Path, log: Log) -> None:
        super().__init__(log)
        self._path = folder / STATE

    def latest(self) -> dict[str, Any] | None:
        return read_plain(self._path) if self._path.exists() else None

    def forget(self) -> None:
        """Removes the state: the run is over."""
        self._path.unlink(missing_ok=True)
        if self._path.parent.is_dir() and not any(self._path.parent.iterdir()):
            self._path.parent.rmdir()

    def tell(self, records: Sequence[Record], state: State | None) -> None:
        super().tell(records, state)  # first: what was told too much is taken back later
        if state is not None:
            write_plain(self._path, state())


_: tuple[type[Keeper], ...] = (LogKeeper, FolderKeeper)
