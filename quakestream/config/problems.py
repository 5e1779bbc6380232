"""Problems of a run file: line and key, what is expected, what to do."""

import difflib
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from quakestream.errors import Problem, QuakestreamError
from quakestream.redaction import redacted

Loc = tuple[int | str, ...]

_SHOWN_CHARS = 60
_KIND = re.compile(r"(function-\w+|list|dict)\[.*\]$")
"""What pydantic adds to the place of a key that may be of several kinds."""

_EXPECTED = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "a mapping of keys (key: value)",
    "model_type": "a mapping of keys (key: value)",
    "datetime_type": "a time such as 2023-02-06T01:17:34Z",
    "literal_error": "{expected}",
    "less_than_equal": "at most {le:g}",
    "greater_than_equal": "at least {ge:g}",
}
"""What each of pydantic's complaints expects; the fields come from the complaint's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunText:
    """A parsed run file, and where its keys are."""

    source: str
    """Path or URI of the file."""
    content: Any
    lines: Mapping[Loc, int]
    """Line number of each key."""

    def where(self, loc: Loc) -> str:
        """`run.yaml, line 6, imagery.post.max_cloud`."""
        line = self.line(loc)
        parts = (self.source, f"line {line}" if line else "", ".".join(str(part) for part in loc))
        return ", ".join(part for part in parts if part)

    def line(self, loc: Loc) -> int:
        """Line of a key, or of the nearest key above it; 0 where there is none."""
        return next(
            (self.lines[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in self.lines), 0
        )


def describe(error: ValidationError, text: RunText, root: type[BaseModel]) -> list[Problem]:
    """The complaints of pydantic as problems, in the order of the file.

    Args:
        error: the complaints of pydantic.
        text: the file they are about.
        root: the model of the whole file.
    """
    located: list[tuple[int, Problem]] = []
    alike: list[tuple[int, Problem]] = []
    for complaint in error.errors(include_url=False, include_input=False):
        context = complaint.get("ctx", {})
        cause = context.get("error")
        loc = tuple(part for part in complaint["loc"] if not _KIND.match(str(part)))
        if isinstance(cause, QuakestreamError):
            loc = (*loc, *cause.where.split(".")) if cause.where else loc
            problem = cause.problem
        else:
            problem = _problem(complaint["type"], context, loc, text.content, root)
        line = text.line(loc)
        if (line, replace(problem, where="")) not in alike:  # of each kind that the key may have
            alike.append((line, replace(problem, where="")))
            located.append((line, replace(problem, where=text.where(loc))))
    return [problem for _, problem in sorted(located, key=lambda pair: pair[0])]


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` where a name is close, and all known names."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known here: {', '.join(names)}"


def _problem(
    kind: str, context: Mapping[str, Any], loc: Loc, content: Any, root: type[BaseModel]
) -> Problem:
    if kind == "extra_forbidden":
        section = _section_at(root, loc[:-1])
        known = section.model_fields if section else ()
        return Problem("unknown key", remedy=nearest(str(loc[-1]), known))
    if kind == "missing":
        section = _section_at(root, loc[:-1])
        field = section.model_fields.get(str(loc[-1])) if section else None
        meaning = field.description if field else None
        return Problem("is required and missing", remedy=f"add it: {meaning}" if meaning else "")
    expected = _EXPECTED.get(kind, kind.replace("_", " ")).format(**context)
    value = _value_at(content, loc)
    got = _shown(value)
    if loc[:1] == ("storage",) and isinstance(value, str):  # it may stand where a secret belongs
        got = "text"
    return Problem("wrong value", expected=expected, got=got, remedy=_remedy(kind, value))


def _remedy(kind: str, value: Any) -> str:
    if kind == "string_type" and value is not None and not isinstance(value, list | dict):
        return "put it in quotes"
    if kind in ("float_type", "int_type") and isinstance(value, str):
        return "write the number without quotes"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = redacted(repr(value))
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _value_at(content: Any, loc: Loc) -> Any:
    for part in loc:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            break
    return content


def _section_at(root: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    section: type[BaseModel] | None = root
    for part in loc:
        if section is None or str(part) not in section.model_fields:
            return None
        section = _section_of(section.model_fields[str(part)].annotation)
    return section


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
