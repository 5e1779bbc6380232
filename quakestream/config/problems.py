"""What is wrong with a run file, said so that it can be put right."""

import difflib
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

Loc = tuple[int | str, ...]

_SHOWN_CHARS = 60


def describe(
    error: ValidationError, content: Any, lines: dict[Loc, int], root: type[BaseModel]
) -> list[str]:
    """One line per problem, in the order of the file: where, expected, got, what to do.

    Args:
        error: what pydantic found.
        content: the parsed file, to show what was got.
        lines: line number of each key.
        root: the model of the whole file.
    """
    problems = []
    for found in error.errors(include_url=False, include_input=False, include_context=False):
        loc = found["loc"]
        line = next((lines[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in lines), 0)
        where = ".".join(str(part) for part in loc)
        text = _say(found["type"], found["msg"], loc, content, root)
        place = ", ".join(part for part in (f"line {line}" if line else "", where) if part)
        problems.append((line, f"{place}: {text}" if place else text))
    return [text for _, text in sorted(problems, key=lambda problem: problem[0])]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` and what is known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known here: {', '.join(names)}"


def _say(kind: str, message: str, loc: Loc, content: Any, root: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        section = _section_at(root, loc[:-1])
        hint = nearest(str(loc[-1]), section.model_fields if section else ())
        return f"unknown key; {hint}"
    if kind == "missing":
        section = _section_at(root, loc[:-1])
        field = section.model_fields.get(str(loc[-1])) if section else None
        meaning = f" ({field.description})" if field and field.description else ""
        return f"is required and missing{meaning}"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    expected = message.replace("Input should be", "expected").replace("a valid ", "a ")
    if kind == "model_type":
        expected = "expected a mapping of keys (key: value)"
    return f"{expected}, got {_shown(content, loc)}{_advice(kind, _value_at(content, loc))}"


def _advice(kind: str, value: Any) -> str:
    if kind == "string_type" and value is not None and not isinstance(value, list | dict):
        return "; put it in quotes"
    if kind in ("float_type", "int_type") and isinstance(value, str):
        return "; write the number without quotes"
    return ""


def _shown(content: Any, loc: Loc) -> str:
    value = _value_at(content, loc)
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = repr(value)
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
