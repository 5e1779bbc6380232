"""Acquisition times of images as people keep them: a table, often saved by a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace

from quakestream.catalog.times import AcquisitionTime, acquired_from_text
from quakestream.errors import CatalogItemError, ConfigError, Problem
from quakestream.storage import MissingObjectError, StorageOptions, read_bytes

FILE, TIME = "file", "datetime"
TIME_FORMS = (
    "2023-02-07T08:38:42Z, 2023-02-07 08:38 (no zone), 2023-02-07, or 07.02.2023 08:38 (day first)"
)
"""Forms of a time, as a message names them."""
PROBLEMS_SHOWN = 5
_SEPARATORS = (",", ";", "\t")
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LOCAL = re.compile(
    r"(?P<first>\d{1,4})(?P<mark>[-/.:])(?P<second>\d{1,2})(?P=mark)(?P<third>\d{1,4})"
    r"(?:[T, ]\s*(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<s>\d\d(?:\.\d{1,6})?))?"
    r" ?(?P<half>[AP]M)? ?(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?)?",
    re.IGNORECASE,
)


def read_times(uri: str, options: StorageOptions | None = None) -> dict[str, AcquisitionTime]:
    """Acquisition times by file, from a table with the columns `file` and `datetime`.

    Columns are told apart by commas, semicolons or tabs. Text is UTF-8, or the UTF-16 that
    spreadsheets write. Empty rows and other columns are passed over.

    Raises:
        ConfigError: if the file is missing or no such table, a file has two times, or a time
            cannot be read. It names every such row, up to a few.
    """
    where = f"--times {uri}"
    times: dict[str, AcquisitionTime] = {}
    problems: list[Problem] = []
    for line, name, text in _rows(_text(uri, options, where), where):
        place = f"{where}, line {line}" + (f", {name}" if name else "")
        try:
            if not name:
                raise CatalogItemError("row names no file", expected=FILE, got="nothing")
            acquired = _acquired(text)
            if times.setdefault(name, acquired) != acquired:
                raise CatalogItemError("file has another time above", got=text)
        except CatalogItemError as error:
            problems.append(replace(error.problem, where=place))
    if problems:
        raise ConfigError.of_all(_first(problems, where))
    return times


def _first(problems: list[Problem], where: str) -> list[Problem]:
    more = len(problems) - PROBLEMS_SHOWN
    if more <= 0:
        return problems
    rows = "1 more row has" if more == 1 else f"{more:,} more rows have"
    return [*problems[:PROBLEMS_SHOWN], Problem(f"{rows} no time that can be read", where)]


def _text(uri: str, options: StorageOptions | None, where: str) -> str:
    """The text of the table.

    Raises:
        ConfigError: if the file is missing, or no text.
    """
    try:
        data = read_bytes(uri, options)
    except MissingObjectError as error:
        raise ConfigError.of(replace(error.problem, where=where)) from error
    got = "an Excel workbook" if data.startswith(_WORKBOOK) else "other bytes"
    try:
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = "save it as `CSV UTF-8`"
        raise ConfigError("not text", where, "CSV in UTF-8", got, remedy) from error


def _rows(text: str, where: str) -> Iterator[tuple[int, str, str]]:
    """Line number, file and time of each row.

    Raises:
        ConfigError: if a column is missing, or the text is no table.
    """
    lines = text.splitlines()
    skipped = int(bool(lines) and lines[0].lower().startswith("sep="))  # a hint for Excel
    table = "\n".join(lines[skipped:])
    header = next((line for line in lines[skipped:] if line.strip()), "")
    found = (mark for mark in _SEPARATORS if {FILE, TIME} <= set(_cells(header, mark)))
    separator = next(found, None)
    if separator is None:
        got = header.strip() or "nothing"
        remedy = f"write `{FILE},{TIME}` into its first line"
        raise ConfigError("columns are missing", where, f"{FILE},{TIME}", got, remedy)
    reader = csv.reader(io.StringIO(table), delimiter=separator, skipinitialspace=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _cells(header, separator)
                continue
            row = dict(zip(columns, cells, strict=False))
            yield reader.line_num + skipped, row.get(FILE, "").strip(), row.get(TIME, "").strip()
    except csv.Error as error:
        line = f"{where}, line {reader.line_num + skipped}"
        raise ConfigError("row cannot be read", line, got=str(error)) from error


def _cells(header: str, separator: str) -> list[str]:
    """Names of columns, in small letters."""
    cells = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
    return [cell.strip().lower() for cell in cells]


def _acquired(text: str) -> AcquisitionTime:
    """The time that a cell holds.

    Raises:
        CatalogItemError: if it holds none, or a day and month that may be exchanged.
    """
    if not text:
        raise CatalogItemError("row has no datetime", expected=TIME_FORMS, got="nothing")
    local = _LOCAL.fullmatch(text)
    day = _year_month_day(local) if local else None
    if local and day is None:
        what = "month and day of datetime may be exchanged"
        raise CatalogItemError(what, expected=TIME_FORMS, got=repr(text))
    try:
        return acquired_from_text(_iso(day, local) if local and day else text)
    except CatalogItemError:
        what = "datetime is not a time"
        raise CatalogItemError(what, expected=TIME_FORMS, got=repr(text)) from None


def _year_month_day(local: re.Match[str]) -> tuple[str, str, str] | None:
    """Parts of a date, as they are written; None where month and day may be exchanged.

    A year comes first or last. A date with dots has its day first; one with slashes or hyphens may
    have its month first.
    """
    first, second, third = local["first"], local["second"], local["third"]
    if len(first) > 2:
        return first, second, third
    if local["mark"] == "." or int(first) > 12 or int(first) == int(second):
        return third, second, first
    return (third, first, second) if int(second) > 12 else None


def _iso(day: tuple[str, str, str], local: re.Match[str]) -> str:
    """The time in ISO 8601; what is no time stays none."""
    year, month, number = day
    date = f"{year}-{month:0>2}-{number:0>2}"
    if local["hour"] is None:
        return date
    hour = int(local["hour"])
    if half := local["half"]:
        hour = hour % 12 + 12 * (half.upper() == "PM") if 1 <= hour <= 12 else 99
    zone = (local["zone"] or "").upper().replace("UTC", "Z")
    return f"{date}T{hour:02}:{local['minute']}:{local['s'] or '00'}{zone}"
