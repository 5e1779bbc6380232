"""Loads and validates a run file. No file that it names is read."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import ValidationError

from quakestream.config.fields import folder_of, is_uri
from quakestream.config.problems import Loc, RunText, describe
from quakestream.config.profiles import PROFILES
from quakestream.config.sections import RunFile
from quakestream.errors import ConfigError, Problem, StorageError
from quakestream.storage import MissingObjectError, StorageOptions, read_bytes
from quakestream.storage.limits import RUN_FILE_BYTES, RUN_FILE_DEPTH, RUN_FILE_NODES

IN_MEMORY = "run file"
"""Where a problem of a run file lies that comes from no file."""


def open_run(
    run: str | PathLike[str] | Mapping[str, Any], storage: StorageOptions | None = None
) -> RunFile:
    """Reads and checks a run file.

    Relative paths in it are relative to its own folder, those of a mapping to the current one.
    Planning checks the files it names.

    Args:
        run: path or URI of the file, or its content.
        storage: settings that take the place of those under `storage:`; the file itself is read
            with them.

    Raises:
        ConfigError: with every problem of the file.
    """
    if isinstance(run, Mapping):
        content = _with_storage(_plain(run), storage)
        return _validated(RunText(source="", content=content, lines={}))
    source = fspath(run)
    parsed = _parsed(_text(source, storage), source)
    return _validated(replace(parsed, content=_with_storage(parsed.content, storage)))


def parse_run(text: str, source: str) -> RunFile:
    """The run described by a YAML text, with `source` as its path or URI.

    Raises:
        ConfigError: with every problem of the text.
    """
    return _validated(_parsed(text, source))


def _validated(parsed: RunText) -> RunFile:
    folder = folder_of(parsed.source or IN_MEMORY)
    try:
        run = RunFile.model_validate(parsed.content, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError.of_all(
            describe(error, replace(parsed, source=parsed.source or IN_MEMORY), RunFile)
        ) from None
    run = _with_profile(run)
    run._source, run._lines = parsed.source, parsed.lines
    return run


def _with_profile(run: RunFile) -> RunFile:
    """The run with what its profile decides where the run file does not."""
    profile = PROFILES[run.profile]
    imagery, models = run.imagery, run.models
    if "views" not in imagery.model_fields_set:
        imagery = imagery.model_copy(update={"views": profile.views})
    if "damage" not in models.model_fields_set:
        models = models.model_copy(update={"damage": profile.damage})
    return run.model_copy(update={"imagery": imagery, "models": models})


def _with_storage(content: Any, storage: StorageOptions | None) -> Any:
    """The content with settings of its stores replaced, key by key."""
    if storage is None or not isinstance(content, dict):
        return content
    before = content.get("storage")
    merged = dict(before) if isinstance(before, dict) else {}
    for protocol, settings in storage.protocols.items():
        old = merged.get(protocol)
        merged[protocol] = {**(old if isinstance(old, dict) else {}), **settings}
    return {**content, "storage": merged}


def _plain(value: Any, depth: int = 0) -> Any:
    """A value as YAML would give it: dictionaries, lists, and paths as text.

    Raises:
        ConfigError: if sections lie too deep, or hold themselves.
    """
    if depth > RUN_FILE_DEPTH:
        raise ConfigError("sections inside each other", IN_MEMORY, f"at most {RUN_FILE_DEPTH}")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, depth + 1) for inner in value]
    return str(value) if isinstance(value, PurePath) else value


def run_schema() -> dict[str, Any]:
    """JSON Schema of a run file, for editors and for programs that write one."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunFile.model_json_schema(mode="validation"),
    }


def _text(source: str, storage: StorageOptions | None) -> str:
    try:
        data = read_bytes(source, storage) if is_uri(source) else _file(Path(source).expanduser())
    except (FileNotFoundError, MissingObjectError):
        raise ConfigError(
            "no run file", source, remedy=f"`quakestream init {source}` writes one"
        ) from None
    except StorageError as error:
        raise ConfigError.of(error.problem) from error
    except OSError as error:
        raise ConfigError(
            "cannot read the run file", source, got=error.strerror or str(error)
        ) from error
    if len(data) > RUN_FILE_BYTES:
        expected = f"YAML of at most {RUN_FILE_BYTES:,} bytes"
        raise ConfigError("not a run file", source, expected, "a larger file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("not text", source, "YAML in UTF-8", "other bytes") from None


def _file(path: Path) -> bytes:
    """The first bytes of a file: one more than a run file may have, if there are as many."""
    with path.open("rb") as file:
        return file.read(RUN_FILE_BYTES + 1)


def _parsed(text: str, source: str) -> RunText:
    loader = yaml.SafeLoader(text)
    try:
        _check_depth(text, source)
        node = loader.get_single_node()
        _check_aliases(node, source)
        keys = _Keys(source)
        if node is not None:
            keys.add(node, ())
        if keys.problems:
            raise ConfigError.of_all(keys.problems)
        content = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError.of(_yaml_problem(source, error)) from None
    except ConfigError:
        raise
    except ValueError as error:  # a date that does not exist
        raise ConfigError(
            "not valid YAML", source, got=str(error), remedy="correct that value"
        ) from None
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        got = "an empty file" if content is None else f"a {type(content).__name__}"
        raise ConfigError(
            "not a run file",
            source,
            expected="sections (event, aoi, imagery, footprints, ...)",
            got=got,
            remedy="`quakestream init` writes an example",
        )
    return RunText(source=source, content=content, lines=keys.lines)


def _check_depth(text: str, source: str) -> None:
    """Raises ConfigError where sections lie too deep for the recursion of YAML's composer."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > RUN_FILE_DEPTH:
            where = f"{source}, line {event.start_mark.line + 1}" if event.start_mark else source
            raise ConfigError("sections inside each other", where, f"at most {RUN_FILE_DEPTH}")


def _check_aliases(root: yaml.Node | None, source: str) -> None:
    """Raises ConfigError where an alias stands for its own section, or all for too many values.

    A kilobyte of aliases of aliases stands for millions of values.
    """
    total_of: dict[int, int] = {}
    open_nodes: set[int] = set()

    def total(node: yaml.Node) -> int:
        key, where = id(node), f"{source}, line {node.start_mark.line + 1}"
        if key in open_nodes:
            raise ConfigError("a section holds itself", where, remedy="remove the alias (*name)")
        if key not in total_of:
            open_nodes.add(key)
            total_of[key] = 1 + sum(map(total, _children(node)))
            open_nodes.remove(key)
        if total_of[key] > RUN_FILE_NODES:
            raise ConfigError(
                "aliases stand for too many values",
                where,
                expected=f"at most {RUN_FILE_NODES:,}",
                remedy="write the values out, or fewer of them",
            )
        return total_of[key]

    if root is not None:
        total(root)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


class _Keys:
    """The line of every key, and the keys that stand twice or are not text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Loc, int] = {}
        self.problems: list[Problem] = []
        self._visited: set[int] = set()

    def add(self, node: yaml.Node, loc: Loc) -> None:
        """Adds all keys below a node."""
        if id(node) in self._visited:  # an alias, or a document that contains itself
            return
        self._visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self.lines[(*loc, position)] = item.start_mark.line + 1
                self.add(item, (*loc, position))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._add_key(key, (*loc, str(key.value)))
                self.add(value, (*loc, str(key.value)))

    def _add_key(self, key: yaml.Node, loc: Loc) -> None:
        line = key.start_mark.line + 1
        where = f"{self.source}, line {line}, {'.'.join(str(part) for part in loc)}"
        if key.tag != "tag:yaml.org,2002:str":
            self.problems.append(Problem("key is not text", where, remedy="put it in quotes"))
        elif loc in self.lines:
            first = f"first on line {self.lines[loc]}"
            self.problems.append(Problem(f"key stands twice, {first}", where, remedy="keep one"))
        self.lines[loc] = line


def _yaml_problem(source: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    cause = getattr(error, "problem", None) or type(error).__name__
    return Problem(
        "not valid YAML",
        f"{source}{place}",
        got=cause,
        remedy="check indentation, colons and quotes",
    )
