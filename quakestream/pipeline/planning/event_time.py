"""Checks `event.time` against the clock and against the images that are taken as later ones."""

import datetime as dt
from collections.abc import Iterable

from quakestream.catalog import SearchResult
from quakestream.config import RunFile
from quakestream.errors import ConfigError, NoImageryError

SLACK = dt.timedelta(days=1)
"""Clocks, zones of time, and days that are known as their middle."""


def check_event(run: RunFile, now: dt.datetime) -> None:
    """Checks that the event has taken place.

    Raises:
        ConfigError: if it lies in the future, by more than a day.
    """
    if run.event.time > now + SLACK:
        raise ConfigError(
            "lies in the future",
            run.where_of("event", "time"),
            expected=f"a time before now, {now:%Y-%m-%dT%H:%MZ}",
            got=run.event.time.isoformat(),
            remedy="write the time at which the ground shook",
        )


def check_some_after(run: RunFile, found: Iterable[SearchResult]) -> dict[str, int]:
    """Days before the event of each post scene that was acquired more than a day before it.

    Raises:
        NoImageryError: if all post scenes were.
    """
    times = {scene.id: scene.datetime for result in found for scene in result.post}
    early = {
        name: (run.event.time - when).days
        for name, when in times.items()
        if run.event.time - when >= SLACK
    }
    if early and len(early) == len(times):
        last = max(times, key=lambda name: times[name])
        raise NoImageryError(
            "no image after the event",
            run.where_of("event", "time"),
            expected=f"a scene after {run.event.time.isoformat()}",
            got=f"{len(times):,} in imagery.post.datetime, the latest {last} of "
            f"{times[last]:%Y-%m-%d}, {early[last]:,} days before it",
            remedy="check event.time and imagery.post.datetime",
        )
    return early
