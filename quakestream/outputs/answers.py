"""Answers of spot checks: reads the files of annotators and makes one answer of several.

A file has the columns `building_id` and `answer`, and may have `annotator`, `answered_at` and
`saw_verdict`. It is CSV (as spreadsheets write it, too) or GeoJSON.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from quakestream.errors import RequestError, StorageError
from quakestream.fusion.check_counts import ANSWERS
from quakestream.redaction import redacted
from quakestream.storage import StorageOptions, read_bytes

CANNOT_TELL = "cannot_tell"
KNOWN_ANSWERS = (*ANSWERS, CANNOT_TELL)
COLUMNS = ("building_id", "answer", "annotator", "answered_at", "saw_verdict")
COLUMNS_SAID = "building_id and answer; annotator, answered_at and saw_verdict may be left out"
SHOWN = 5
"""Ids that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one annotator says of one building."""

    building_id: str
    answer: str
    """One of `KNOWN_ANSWERS`, or empty: not answered yet."""
    annotator: str
    answered_at: str = ""
    saw_verdict: bool = False
    """True if the verdict of the map was in view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two annotators agree on the buildings that both could tell."""

    annotators: tuple[str, str]
    buildings: int
    agree: float
    """Share of the same answers; NaN without a building in common."""
    kappa: float
    """Cohen's kappa: 0 by chance, 1 always; NaN where only one class is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One answer per building."""

    rows: tuple[Answer, ...]
    """All answers of the files, each once."""
    settled: Mapping[str, str]
    """The answer by building: that of most annotators who could tell. `cannot_tell` where none
    could, and where as many say one thing as another."""
    conflicts: Mapping[str, tuple[str, ...]]
    """Different answers by building, as `annotator: answer`."""
    tied: tuple[str, ...]
    """Buildings in conflict without a majority."""
    repeated: int
    """Rows that say again what the same annotator said of the same building."""
    agreement: tuple[Agreement, ...]


def read_answers(uris: Sequence[str], storage: StorageOptions) -> Answers:
    """The answers of all files.

    Raises:
        RequestError: if a file cannot be read, holds no answer or an unknown one, or if an
            annotator contradicts himself.
    """
    rows = [row for uri in uris for row in _read(uri, storage)]
    return _settled(rows)


def answers_csv(rows: Iterable[Answer]) -> bytes:
    """Answers as a file that `read_answers` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in rows:
        seen = "true" if one.saw_verdict else "false"
        writer.writerow((one.building_id, one.answer, one.annotator, one.answered_at, seen))
    return text.getvalue().encode()


def _read(uri: str, storage: StorageOptions) -> list[Answer]:
    where = f"answers {redacted(uri)}"
    try:
        text = read_bytes(uri, storage).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError("is not UTF-8 text", where, remedy="save it as CSV UTF-8") from error
    except StorageError as error:
        what = error.what.removeprefix("cannot read: ")
        raise RequestError(f"cannot be read: {what}", where) from error
    records = _features(text, where) if text.lstrip().startswith("{") else _lines(text)
    if not records:
        raise RequestError("holds no answers", where, "rows with building_id and answer")
    columns = list(dict.fromkeys(key for _, record in records for key in record))
    if missing := [name for name in COLUMNS[:2] if name not in columns]:
        raise RequestError(
            f"lacks the column{'s' * (len(missing) - 1)} {' and '.join(missing)}",
            where,
            expected=COLUMNS_SAID,
            got=", ".join(columns),
        )
    usual = uri.rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    answers = [_answer(record, place, where, usual) for place, record in records]
    if not any(one.answer for one in answers):
        raise RequestError("holds no answers", where, got=f"{len(answers)} rows, none answered")
    return answers


def _lines(text: str) -> list[tuple[str, dict[str, str]]]:
    """Rows of a CSV, parted by commas or, as some spreadsheets do, by semicolons or tabs."""
    head = text.split("\n", 1)[0]
    mark = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=mark)
    return [
        (f"line {reader.line_num}", {str(k).strip(): v for k, v in row.items() if k is not None})
        for row in reader
    ]


def _features(text: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Properties of the features of a GeoJSON."""
    try:
        features = json.loads(text)["features"]
        return [
            (f"feature {n}", dict(one["properties"] or {})) for n, one in enumerate(features, 1)
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError("is not GeoJSON", where, got=str(error) or "other JSON") from error


def _answer(record: Mapping[str, Any], place: str, where: str, usual: str) -> Answer:
    texts = {name: _text(record.get(name)) for name in COLUMNS}
    answer = texts["answer"].lower().replace(" ", "_").replace("-", "_")
    if answer and answer not in KNOWN_ANSWERS:
        raise RequestError(
            "unknown answer", f"{where}, {place}", " | ".join(KNOWN_ANSWERS), texts["answer"]
        )
    if not texts["building_id"]:
        raise RequestError("has no building_id", f"{where}, {place}")
    return Answer(
        building_id=texts["building_id"],
        answer=answer,
        annotator=texts["annotator"] or usual,
        answered_at=texts["answered_at"],
        saw_verdict=texts["saw_verdict"].lower() in ("true", "1", "yes"),
    )


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _settled(rows: Sequence[Answer]) -> Answers:
    by_key: dict[tuple[str, str], Answer] = {}
    repeated = 0
    for one in rows:
        key = (one.building_id, one.annotator)
        earlier = by_key.get(key)
        if earlier is None or not earlier.answer:
            by_key[key] = one
        elif one.answer and one.answer != earlier.answer:
            raise RequestError(
                "one annotator gives two answers",
                f"building {one.building_id}",
                got=f"{one.annotator}: {earlier.answer} and {one.answer}",
                remedy="keep one of the two rows",
            )
        repeated += earlier is not None
    by_building: dict[str, list[Answer]] = {}
    for one in by_key.values():
        by_building.setdefault(one.building_id, []).append(one)
    settled, conflicts, tied = {}, {}, []
    for building, given in sorted(by_building.items()):
        counts = Counter(a.answer for a in given if a.answer in ANSWERS)
        first = counts.most_common(2)
        if len(first) == 2:
            conflicts[building] = tuple(
                sorted(f"{a.annotator}: {a.answer}" for a in given if a.answer)
            )
        if len(first) == 2 and first[0][1] == first[1][1]:
            tied.append(building)
            settled[building] = CANNOT_TELL
        elif first:
            settled[building] = first[0][0]
        else:
            settled[building] = CANNOT_TELL if any(a.answer for a in given) else ""
    return Answers(
        rows=tuple(by_key.values()),
        settled=settled,
        conflicts=conflicts,
        tied=tuple(tied),
        repeated=repeated,
        agreement=_agreement(list(by_key.values())),
    )


def _agreement(rows: Sequence[Answer]) -> tuple[Agreement, ...]:
    """Each pair of annotators."""
    told: dict[str, dict[str, str]] = {}
    for one in rows:
        if one.answer in ANSWERS:
            told.setdefault(one.annotator, {})[one.building_id] = one.answer
    return tuple(_pair(a, b, told[a], told[b]) for a, b in combinations(sorted(told), 2))


def _pair(
    name: str, other_name: str, told: Mapping[str, str], other: Mapping[str, str]
) -> Agreement:
    common = sorted(told.keys() & other.keys())
    number = len(common)
    agree = sum(told[b] == other[b] for b in common) / number if number else float("nan")
    one, two = Counter(told[b] for b in common), Counter(other[b] for b in common)
    chance = sum(one[a] * two[a] for a in ANSWERS) / number**2 if number else float("nan")
    kappa = (agree - chance) / (1 - chance) if number and chance < 1 else float("nan")
    return Agreement(annotators=(name, other_name), buildings=number, agree=agree, kappa=kappa)
