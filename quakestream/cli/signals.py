"""Ctrl-C and SIGTERM: said at once, over soon, and with a count of what is committed.

Python runs its handlers in the main thread, which may wait for a library for minutes. A thread
therefore watches the signals too: it speaks at once, and ends a process that does not unwind.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from quakestream.events import Event, GroupCommitted, PlanReady

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
PROMPT_S = 0.3
"""Time after which a process that has not ended yet says that it is about to."""
GRACE_S = 6.0
"""Time to give the lease back and to end workers before the process ends anyway. Nothing that is
committed can be lost by that."""
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@dataclass(slots=True)
class CommittedGroups:
    """An observer that counts the commit groups of this process's run."""

    total: int = 0
    done: int = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, PlanReady):
            self.total, self.done = event.groups, event.groups_done
        elif isinstance(event, GroupCommitted):
            self.done += 1

    def __str__(self) -> str:
        """`: at least 12 of 30 groups are committed`, or nothing before the plan is made.

        Workers commit, and this process hears of it a little later.
        """
        if not self.total:
            return ""
        return f": at least {self.done:,} of {self.total:,} groups are committed"


COMMITTED = CommittedGroups()
"""The run of this process; a process has one."""


@dataclass(slots=True)
class Farewell:
    """What this process says when it is interrupted, behind the word for that."""

    stopping: str = "stopping; groups that are under way are dropped or committed whole"
    """Said where the end takes a while."""
    remedy: str = "run the same command again to go on"
    grace_s: float = GRACE_S
    """Time to unwind before the process ends anyway."""


FAREWELL = Farewell()


def serves(what: str, more: str = "", grace_s: float = GRACE_S) -> None:
    """Says that this process is a server: no command has to be run again when it ends.

    Args:
        what: what is served.
        more: what a user should know of its end, after the sentence.
        grace_s: time that it may take to stop.
    """
    FAREWELL.stopping, FAREWELL.grace_s = "stopping", grace_s
    FAREWELL.remedy = f"{what} is served no longer{more}"


def last_line(code: int) -> str:
    """How an interrupted command ends, and how to go on."""
    word = "interrupted" if code == EXIT_INTERRUPTED else "terminated"
    return f"error: {word}{COMMITTED}; {FAREWELL.remedy}\n"


def watch_signals() -> None:
    """Makes SIGINT and SIGTERM unwind this process. Called again, it takes the signals back.

    Ray sets a handler of its own when it is joined. A signal that the shell ignores, as for jobs
    in the background, stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _unwind)
    signal.signal(signal.SIGTERM, _unwind)
    if not _watching:
        received, sent = os.pipe()
        os.set_blocking(sent, False)
        _watching.append(sent)
        signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(received,), daemon=True, name="signals").start()


def leave(code: int) -> None:
    """Ends an interrupted process without waiting for threads that still read or score."""
    if _ending.acquire(blocking=False):
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        _say(last_line(code))
    os._exit(code)


_watching: list[int] = []
_ending = threading.Lock()
"""Held by who says the last line."""


def _unwind(signum: int, frame: object) -> None:
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(EXIT_TERMINATED)


def _watch(received: int) -> None:
    code = 0
    while True:
        for signum in os.read(received, 64):
            if signum not in _WORDS:
                continue
            if code:  # a second time: the user does not want to wait
                leave(code)
            code = 128 + signum
            line = f"{_WORDS[signal.Signals(signum)]}: {FAREWELL.stopping}\n"
            _later(PROMPT_S, _say, line)
            _later(FAREWELL.grace_s, leave, code)


def _later(seconds: float, function: Callable[..., None], *args: object) -> None:
    timer = threading.Timer(seconds, function, args)
    timer.daemon = True
    timer.start()


def _say(line: str) -> None:
    """Writes past Python's streams, which another thread may hold."""
    try:
        os.write(2, line.encode())
    except OSError:  # nobody listens any more
        return
