"""Acquisition times as catalogues and files state them: often not to the second."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_TIFF = re.compile(r"^\s*(\d{4})[:/-](\d\d)[:/-](\d\d)(?:[ T](\d\d):(\d\d):(\d\d))?\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """When a scene was taken: an instant, or a span it was taken in. Timezone-aware, UTC."""

    start: dt.datetime
    end: dt.datetime
    note: str = ""
    """What is odd about it, empty if nothing."""


def whole_day(day: dt.date, note: str = "") -> Acquired:
    """Some time of one UTC day."""
    start = dt.datetime.combine(day, dt.time.min, tzinfo=dt.UTC)
    return Acquired(start=start, end=start + dt.timedelta(days=1, microseconds=-1), note=note)


def acquired_from_properties(properties: Mapping[str, Any]) -> Acquired:
    """`datetime` of an item, or its `start_datetime` and `end_datetime` where that is null.

    Raises:
        ValueError: if neither says when.
    """
    if properties.get("datetime") is not None:
        return acquired_from_text(properties["datetime"])
    first, last = properties.get("start_datetime"), properties.get("end_datetime")
    if first is None or last is None:
        raise ValueError("datetime is null and there is no start_datetime and end_datetime")
    start, end = acquired_from_text(first), acquired_from_text(last)
    if end.end < start.start:
        raise ValueError(f"end_datetime {last!r} is before start_datetime {first!r}")
    note = start.note or end.note or "its datetime is known as a span (its middle is shown)"
    return Acquired(start=start.start, end=end.end, note=note)


def acquired_from_text(text: object) -> Acquired:
    """An RFC 3339 time, or a date. A time without zone may be up to 14 h off UTC.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(text, str):
        raise ValueError(f"datetime {text!r} is no text; expected 2023-02-07T08:38:42Z")
    clean = text.strip()
    try:
        moment = dt.datetime.fromisoformat(clean)
    except ValueError:
        raise ValueError(f"datetime {text!r} is no time; expected 2023-02-07T08:38:42Z") from None
    if len(clean) <= len("2023-02-07"):
        return whole_day(moment.date(), "its datetime is a date without time")
    if moment.tzinfo is None:
        utc = moment.replace(tzinfo=dt.UTC)
        return Acquired(
            start=utc - dt.timedelta(hours=14),
            end=utc + dt.timedelta(hours=12),
            note="its datetime has no zone",
        )
    utc = moment.astimezone(dt.UTC)
    return Acquired(start=utc, end=utc)


def acquired_from_name(name: str) -> Acquired | None:
    """The date in a file name (20230207, 2023-02-07); None where there is none.

    Raises:
        ValueError: if there are several different ones.
    """
    days = set()
    for year, _, month, day in _DAY.findall(name):
        try:
            days.add(dt.date(int(year), int(month), int(day)))
        except ValueError:
            continue
    if len(days) > 1:
        listed = ", ".join(sorted(day.isoformat() for day in days))
        raise ValueError(f"its name holds several dates ({listed})")
    return whole_day(days.pop()) if days else None


def acquired_from_tiff(tag: str) -> Acquired | None:
    """TIFFTAG_DATETIME (`2023:02:07 08:38:42`), taken as UTC; None where it is not one."""
    match = _TIFF.match(tag)
    if match is None:
        return None
    try:
        year, month, day = (int(part) for part in match.groups()[:3])
        if match.group(4) is None:
            return whole_day(dt.date(year, month, day))
        hour, minute, second = (int(part) for part in match.groups()[3:])
        utc = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    return Acquired(start=utc, end=utc)


def middle(acquired: Acquired) -> dt.datetime:
    """One instant to rank and show a scene by."""
    return acquired.start + (acquired.end - acquired.start) / 2
