"""Hosts that stopped answering: their further scenes are not asked for in the same plan."""

import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from quakestream.storage import NoAnswerError, is_remote

FAILURES = 3
"""Requests in a row, each with its own retries, that a silent host left without an answer."""
HOSTS = 8
"""Different hosts that left a request without an answer, where no host has given any: then it is
this machine's network."""
PATIENCE_S = 10.0
"""Time that a host must have been silent: a server that starts again is back by then."""


@dataclass(slots=True)
class _Silence:
    requests: int
    since: float


@dataclass(slots=True, kw_only=True)
class SilentHosts:
    """Which hosts answer. Any answer counts, also that there is no such file.

    A host is silent after several requests in a row without an answer. A slow host answers, and
    a bad file is an answer. All are silent after `HOSTS` of them, where none has answered. Threads
    may share it.
    """

    patience_s: float = PATIENCE_S
    _answered: bool = False
    """True once any host has answered."""
    _silences: dict[str, _Silence] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def check(self, place: str) -> None:
        """Refuses a place on a silent host, and any where all hosts are silent.

        Raises:
            NoAnswerError: if its host is silent, or all are.
        """
        if is_remote(place):
            self._check_network(place)
        with self._turn:
            found = self._silences.get(_host(place))
            if found is None or found.requests < FAILURES:
                return
            silent_s = time.monotonic() - found.since
        if silent_s >= self.patience_s:
            raise NoAnswerError(
                f"not asked for, because its host left {found.requests} requests without an "
                f"answer in {silent_s:.0f} s",
                place,
                remedy="run the same command again to retry",
            )

    def _check_network(self, place: str) -> None:
        with self._turn:
            hosts = len(self._silences)
            if self._answered or hosts < HOSTS:
                return
            first = min(silence.since for silence in self._silences.values())
        silent_s = time.monotonic() - first
        if silent_s >= self.patience_s:
            raise NoAnswerError(
                f"not asked for, because none of {hosts} hosts answered in {silent_s:.0f} s",
                place,
                remedy="check the network of this machine, then run the same command again",
            )

    def note(self, place: str, error: Exception | None, started: float) -> None:
        """Counts what came of a request to a place.

        Args:
            place: a file, also one of this machine, which is never silent.
            error: what went wrong; None: nothing.
            started: when it began, of `time.monotonic`.
        """
        silent = isinstance(error, NoAnswerError) and is_remote(place)
        with self._turn:
            if not silent:
                self._silences.pop(_host(place), None)
                self._answered |= is_remote(place)
                return
            found = self._silences.setdefault(_host(place), _Silence(0, started))
            found.requests += 1
            found.since = min(found.since, started)


def _host(place: str) -> str:
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.netloc}"
