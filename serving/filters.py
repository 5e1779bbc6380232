"""Which jobs a list shows: the parameters of OGC API – Processes, class job-list."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from quakestream.errors import RequestError
from serving.jobs import ServiceJob, State

Interval = tuple[datetime | None, datetime | None]
"""First and last time, both included; None for an open end."""
TYPES = ("process",)
"""All jobs are of this type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """What a job must be to be listed. Empty fields let every job through."""

    processes: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    created: Interval = (None, None)
    least_s: float | None = None
    most_s: float | None = None

    def keeps(self, job: ServiceJob, now: datetime) -> bool:
        """True for a job that is listed. A job that has not started has no duration."""
        if self.processes and job.process not in self.processes:
            return False
        if self.states and job.state not in self.states:
            return False
        first, last = self.created
        if (first and job.created < first) or (last and job.created > last):
            return False
        if self.least_s is None and self.most_s is None:
            return True
        if job.started is None:
            return False
        took_s = ((job.finished or now) - job.started).total_seconds()
        return (self.least_s or 0.0) <= took_s <= (took_s if self.most_s is None else self.most_s)


def job_filter(
    *,
    types: Sequence[str],
    processes: Sequence[str],
    states: Sequence[str],
    created: str,
    least_s: float | None,
    most_s: float | None,
) -> JobFilter:
    """A filter from the texts of a query; lists are repeated or separated by commas.

    Raises:
        RequestError: a type or state is unknown, or a time is none.
    """
    _known(types, TYPES, "type")
    return JobFilter(
        processes=_parts(processes),
        states=_known(states, get_args(State), "status"),
        created=interval(created),
        least_s=least_s,
        most_s=most_s,
    )


def interval(text: str) -> Interval:
    """A time, or `first/last` where `..` or nothing is an open end.

    Raises:
        RequestError: a part is no time of RFC 3339.
    """
    if not text:
        return None, None
    first, slash, last = text.partition("/")
    return (_time(first), _time(last)) if slash else (_time(text), _time(text))


def _time(text: str) -> datetime | None:
    if text in ("", ".."):
        return None
    try:
        time = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign in a query is a space
    except ValueError:
        raise RequestError(
            "not a time", "datetime", "such as 2026-03-14T00:00:00Z/..", text[:80]
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _parts(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split(",") if part)


def _known(texts: Sequence[str], known: Sequence[str], where: str) -> tuple[str, ...]:
    parts = _parts(texts)
    if unknown := sorted(set(parts) - set(known)):
        raise RequestError("no such value", where, ", ".join(known), ", ".join(unknown)[:80])
    return parts
