"""From the text of a run file to a validated run. Nothing else is read."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from quakestream.config.fields import folder_of, is_uri
from quakestream.config.problems import Loc, describe
from quakestream.config.profiles import PROFILES
from quakestream.config.sections import RunFile
from quakestream.errors import ConfigError, StorageError
from quakestream.storage import read_bytes


def open_run(path: str | Path) -> RunFile:
    """Reads and checks a run file, at a path or a URI.

    Relative paths in it are taken from its own folder. No other file is looked at: that
    is what planning does.

    Raises:
        ConfigError: with every problem of the file, a line each.
    """
    source = str(path)
    return parse_run(_text(source), source)


def parse_run(text: str, source: str) -> RunFile:
    """The run a YAML text asks for, as if it stood at `source`.

    Raises:
        ConfigError: with every problem of the text, a line each.
    """
    content, lines = _parsed(text, source)
    try:
        run = RunFile.model_validate(content, context={"folder": folder_of(source)})
    except ValidationError as error:
        raise ConfigError(_report(source, describe(error, content, lines, RunFile))) from None
    if "views" not in run.imagery.model_fields_set:
        views = PROFILES[run.profile].views
        imagery = run.imagery.model_copy(update={"views": views})
        run = run.model_copy(update={"imagery": imagery})
    run._source = source
    return run


def run_schema() -> dict[str, Any]:
    """JSON Schema of a run file, for editors and for programs that write one."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunFile.model_json_schema(mode="validation"),
    }


def _text(source: str) -> str:
    try:
        data = read_bytes(source) if is_uri(source) else Path(source).expanduser().read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"no run file at {source}; `quakestream init {source}` writes one"
        ) from None
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the run file {source}: {reason}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: expected YAML in UTF-8, got bytes that are not") from None


def _parsed(text: str, source: str) -> tuple[dict[str, Any], dict[Loc, int]]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Loc, int] = {}
        problems: list[str] = []
        if node is not None:
            _index(node, (), lines, problems, set())
        if problems:
            raise ConfigError(_report(source, problems))
        content = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_message(source, error)) from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{source}: not valid YAML ({error}); correct that value") from None
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        got = "an empty file" if content is None else f"a {type(content).__name__}"
        raise ConfigError(
            f"{source}: expected sections (event, aoi, imagery, footprints, ...), got {got}; "
            "`quakestream init` writes an example"
        )
    return content, lines


def _index(
    node: yaml.Node, loc: Loc, lines: dict[Loc, int], problems: list[str], seen: set[int]
) -> None:
    """Notes the line of every key, and every key that stands twice or is no text."""
    if id(node) in seen:  # an alias, or a document that contains itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[(*loc, position)] = item.start_mark.line + 1
            _index(item, (*loc, position), lines, problems, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        where = (*loc, str(key.value))
        shown = ".".join(str(part) for part in where)
        if key.tag != "tag:yaml.org,2002:str":
            problems.append(f"line {line}, {shown}: expected a name as key; put it in quotes")
        elif where in lines:
            problems.append(
                f"line {line}, {shown}: stands twice (first on line {lines[where]}); keep one"
            )
        lines[where] = line
        _index(value, where, lines, problems, seen)


def _yaml_message(source: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{source}: {where}not valid YAML: {problem}; check indentation, colons and quotes"


def _report(source: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{source}: {problems[0]}"
    return "\n  ".join([f"{source}: {len(problems)} problems", *problems])
