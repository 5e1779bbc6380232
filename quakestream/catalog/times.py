"""Acquisition times of catalogues and files, which are often not exact to the second."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quakestream.errors import CatalogItemError

_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_EXAMPLE = "2023-02-07T08:38:42Z"
_TIFF = re.compile(r"^\s*(\d{4})[:/-](\d\d)[:/-](\d\d)(?:[ T](\d\d):(\d\d):(\d\d))?\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionTime:
    """Time of acquisition of a scene: an instant, or a span that holds it. UTC, zone-aware."""

    start: dt.datetime
    end: dt.datetime
    note: str = ""
    """An oddity of the time; empty where there is none."""


def whole_day(day: dt.date, note: str = "") -> AcquisitionTime:
    """The span of one UTC day."""
    start = dt.datetime.combine(day, dt.time.min, tzinfo=dt.UTC)
    return AcquisitionTime(
        start=start, end=start + dt.timedelta(days=1, microseconds=-1), note=note
    )


def acquired_from_properties(properties: Mapping[str, Any]) -> AcquisitionTime:
    """`datetime` of an item, or its `start_datetime` and `end_datetime` where that is null.

    Raises:
        CatalogItemError: if neither holds a time.
    """
    if properties.get("datetime") is not None:
        return acquired_from_text(properties["datetime"])
    first, last = properties.get("start_datetime"), properties.get("end_datetime")
    if first is None or last is None:
        raise CatalogItemError(
            "item has no time", expected="datetime, or start_datetime and end_datetime", got="null"
        )
    start, end = acquired_from_text(first), acquired_from_text(last)
    if end.end < start.start:
        raise CatalogItemError(
            "end_datetime is before start_datetime", got=f"{last!r}, which is before {first!r}"
        )
    note = (
        start.note
        or end.note
        or "acquired between two times that the item gives; the time shown is halfway"
    )
    return AcquisitionTime(start=start.start, end=end.end, note=note)


def acquired_from_text(text: object) -> AcquisitionTime:
    """Time of an RFC 3339 text, or of a date. A time without a zone may be up to 14 h off UTC.

    Raises:
        CatalogItemError: if it is neither.
    """
    if not isinstance(text, str):
        raise CatalogItemError("datetime is not text", expected=_EXAMPLE, got=repr(text))
    clean = text.strip()
    try:
        moment = dt.datetime.fromisoformat(clean)
    except ValueError:
        raise CatalogItemError("datetime is not a time", "", _EXAMPLE, repr(text)) from None
    if len(clean) <= len("2023-02-07"):
        return whole_day(moment.date(), "datetime is a date without a time")
    if moment.tzinfo is None:
        utc = moment.replace(tzinfo=dt.UTC)
        return AcquisitionTime(
            start=utc - dt.timedelta(hours=14),
            end=utc + dt.timedelta(hours=12),
            note="datetime has no zone",
        )
    utc = moment.astimezone(dt.UTC)
    return AcquisitionTime(start=utc, end=utc)


def acquired_from_name(name: str) -> AcquisitionTime | None:
    """The date in a file name (20230207, 2023-02-07); None without a date.

    Raises:
        CatalogItemError: if the name holds several different dates.
    """
    days = set()
    for year, _, month, day in _DAY.findall(name):
        try:
            days.add(dt.date(int(year), int(month), int(day)))
        except ValueError:
            continue
    if len(days) > 1:
        listed = ", ".join(sorted(day.isoformat() for day in days))
        raise CatalogItemError("file name holds several dates", expected="one", got=listed)
    return whole_day(days.pop()) if days else None


def acquired_from_tiff(tag: str) -> AcquisitionTime | None:
    """Time of TIFFTAG_DATETIME (`2023:02:07 08:38:42`), read as UTC; None if it is invalid."""
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
    return AcquisitionTime(start=utc, end=utc)


def middle(acquired: AcquisitionTime) -> dt.datetime:
    """The middle of the span, which ranks and labels a scene."""
    return acquired.start + (acquired.end - acquired.start) / 2
