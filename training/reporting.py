"""Where a run reports its records, and saves the state that it can resume from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from training.checkpoints import read_plain, write_plain
from training.run_log import Log, Record

State = Callable[[], Mapping[str, Any]]
"""Makes the state. It is a function because copying the state takes time."""
STATE = "state.pt"


class Reporter(Protocol):
    """Takes the records of a run, and its state."""

    def latest_state(self) -> dict[str, Any] | None:
        """The last state that was saved; None at the start of a run."""
        ...

    def report(self, records: Sequence[Record], state: State | None) -> None:
        """Takes records, and a state to resume from if there is one.

        All workers call this at the same steps; only the leader's records and state are used.
        """
        ...


class LogReporter:
    """Writes records to a log and saves no state: an interrupted run starts from the beginning."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def latest_state(self) -> dict[str, Any] | None:
        return None

    def report(self, records: Sequence[Record], state: State | None) -> None:
        for record in records:
            self._log(record)


class FolderReporter(LogReporter):
    """Writes records to a log and saves the last state in a folder."""

    def __init__(self, folder: Path, log: Log) -> None:
        super().__init__(log)
        self._path = folder / STATE

    def latest_state(self) -> dict[str, Any] | None:
        return read_plain(self._path) if self._path.exists() else None

    def delete_state(self) -> None:
        """Deletes the state of a run that has finished."""
        self._path.unlink(missing_ok=True)
        if self._path.parent.is_dir() and not any(self._path.parent.iterdir()):
            self._path.parent.rmdir()

    def report(self, records: Sequence[Record], state: State | None) -> None:
        # Records come first: a resumed run removes records that are later than its state.
        super().report(records, state)
        if state is not None:
            write_plain(self._path, state())


_: tuple[type[Reporter], ...] = (LogReporter, FolderReporter)
