"""Reads, writes and changes configurations: `--set` settings, JSON, and older checkpoints."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from quakestream.errors import ConfigError
from training.config import CONFIGS, TrainConfig

Config = TypeVar("Config", bound=TrainConfig)

OTHER_KEYS = MappingProxyType(
    {
        "schedule": "schedule.shape",
        "seed": "run.seed",
        "pretext.margin": "margin",
        "pretext.width": "width",
    }
)
"""Keys of earlier versions whose place has another name now."""
_FORMERLY_FLAT = ("optimiser", "schedule", "selection", "run", "split", "windows")
"""Groups whose settings stood at the top in earlier versions."""
_LESSONS = MappingProxyType({"pretext": "pretrain"})
"""Earlier names of lessons."""
_WORDS = MappingProxyType({"true": True, "false": False})


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """The configuration after `key=value` settings.

    A key is a path such as `loss.pixel`, or its last name alone where only one setting has that
    name, such as `lr`. Lists are written `[a, b]` or `a,b`.

    Raises:
        ConfigError: on an unknown key or a value of the wrong type.
    """
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError("no value", f"--set {setting}", expected="key=value")
        path = _path_of(config, key)
        value = _parsed(_hint(type(config), path), text, f"--set {setting}")
        config = _changed(config, path.split("."), value)
    return config


def with_values(config: Config, **values: Any) -> Config:
    """The configuration after changes given by key, as in `with_values(config, lr=0.1)`.

    Raises:
        ConfigError: on an unknown key.
    """
    for key, value in values.items():
        config = _changed(config, _path_of(config, key).split("."), value)
    return config


def new_config(kind: type[Config], *, recipe: str, network: str, **values: Any) -> Config:
    """A configuration from defaults and from values by key, whichever group they are in."""
    return with_values(kind(recipe=recipe, network=network), **values)


def to_json(config: TrainConfig) -> dict[str, Any]:
    """Plain values, to be stored with the weights."""
    plain: dict[str, Any] = {"lesson": config.lesson, **asdict(config)}
    return plain


def from_json(raw: Mapping[str, Any]) -> TrainConfig:
    """The inverse of `to_json`; configurations of earlier versions are read too.

    Earlier versions had one flat configuration for all lessons. Its settings of other lessons are
    dropped, and settings that it lacks take their defaults.

    Raises:
        ConfigError: if the values are no configuration.
    """
    lesson = _LESSONS.get(str(raw.get("lesson")), raw.get("lesson"))
    if lesson not in CONFIGS or "recipe" not in raw or "network" not in raw:
        raise ConfigError(
            "not a training configuration",
            "checkpoint",
            expected=f"a recipe, a network and a lesson of {', '.join(CONFIGS)}",
            got=f"lesson {lesson}" if lesson else "no lesson",
            remedy="train the recipe again with this version",
        )
    kind = CONFIGS[lesson]
    config = kind(recipe=raw["recipe"], network=raw["network"])
    known = keys(config)
    for key, value in flat({k: v for k, v in raw.items() if k != "lesson"}).items():
        path = _stored_path(key, known)
        if path is not None:
            config = _changed(config, path.split("."), _read(_hint(kind, path), value, path))
        elif not _is_known_elsewhere(key):
            raise ConfigError(
                "unknown setting",
                f"checkpoint configuration, {key}",
                remedy="use the version that wrote it, or train the recipe again",
            )
    return config


def keys(config: object, prefix: str = "") -> tuple[str, ...]:
    """Paths of all settings, such as `optimiser.lr`."""
    paths: list[str] = []
    for name in _names(config):
        value = getattr(config, name)
        inner = is_dataclass(value)
        paths += keys(value, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return tuple(paths)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by path."""
    paths: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        paths |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return paths


def _names(config: object) -> list[str]:
    return [f.name for f in fields(config)]  # type: ignore[arg-type]  # always a dataclass


def _path_of(config: TrainConfig, key: str) -> str:
    """The path that a key means.

    Raises:
        ConfigError: if no setting, or more than one, has that key.
    """
    known = keys(config)
    key = OTHER_KEYS.get(key, key)
    matches = [path for path in known if path == key] or [
        path for path in known if path.endswith(f".{key}")
    ]
    if len(matches) == 1 or key in _names(config):
        return matches[0] if matches else key
    if matches:
        raise ConfigError("ambiguous setting", f"--set {key}", expected=" or ".join(matches))
    nearest = difflib.get_close_matches(key, [*known, *(p.split(".")[-1] for p in known)], 1, 0.0)
    raise ConfigError(
        f"no such setting for lesson {config.lesson}",
        f"--set {key}",
        remedy=f"did you mean {nearest[0]}?",
    )


def _stored_path(key: str, known: Sequence[str]) -> str | None:
    """Where a stored value belongs among the settings of a lesson; None if it is not one."""
    if key in known:
        return key
    key = OTHER_KEYS.get(key, key)
    places = (key, *(f"{group}.{key}" for group in _FORMERLY_FLAT))
    return next((path for path in places if path in known), None)


def _is_known_elsewhere(key: str) -> bool:
    """True for a setting of another lesson, which earlier versions stored for every lesson."""
    others = (keys(kind(recipe="", network="")) for kind in CONFIGS.values())
    return any(_stored_path(key, known) is not None for known in others)


def _hint(kind: type, path: str) -> Any:
    """Declared type of the setting at a path."""
    hint: Any = kind
    for name in path.split("."):
        hint = get_type_hints(hint)[name]
    return hint


def _changed(value: Any, path: Sequence[str], new: Any) -> Any:
    name, *rest = path
    return replace(value, **{name: _changed(getattr(value, name), rest, new) if rest else new})


def _parsed(hint: Any, text: str, where: str) -> Any:
    """A text of the command line as a value of the setting's type."""
    if is_dataclass(hint) and isinstance(hint, type):
        first = f"{where.partition('=')[0].removeprefix('--set ')}.{fields(hint)[0].name}"
        raise ConfigError("names a group of settings", where, expected=f"one of them, as {first}")
    if get_origin(hint) is not tuple:
        return _item(hint, text, where)
    items = tuple(_item(get_args(hint)[0], part, where) for part in _parts(text))
    if Ellipsis not in get_args(hint) and len(items) != len(get_args(hint)):
        raise ConfigError(
            "wrong number of values", where, expected=str(len(get_args(hint))), got=str(len(items))
        )
    return items


def _parts(text: str) -> list[str]:
    """Items of a list: JSON, `[a, b]` without quotes, or `a,b`."""
    bare = text.strip()
    try:
        values = json.loads(bare)
    except ValueError:
        values = None
    if isinstance(values, list):
        return [str(value) for value in values]
    inner = bare[1:-1] if bare.startswith("[") and bare.endswith("]") else bare
    return [part.strip().strip("\"'") for part in inner.split(",") if part.strip()]


def _item(hint: Any, text: str, where: str) -> Any:
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise ConfigError("unknown value", where, expected=f"one of {choices}")
        return text
    try:
        return _WORDS[text.lower()] if hint is bool else hint(text)
    except (ValueError, KeyError) as error:
        kind = {"bool": "true or false", "int": "a whole number", "float": "a number"}
        raise ConfigError(
            "wrong value", where, expected=kind.get(hint.__name__, hint.__name__), got=repr(text)
        ) from error


def _read(hint: Any, value: Any, path: str) -> Any:
    """A stored value as a value of the setting's type. JSON has no tuples."""
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        items = _parts(value) if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            return tuple(item(part) for part in items)
    elif get_origin(hint) is Literal and value in get_args(hint):
        return value
    elif isinstance(value, bool) == (hint is bool) and isinstance(value, (int, float, str)):
        if hint is float and not isinstance(value, str):
            return float(value)
        if isinstance(value, hint):
            return value
    raise ConfigError(
        "wrong value",
        f"checkpoint configuration, {path}",
        got=repr(value),
        remedy="train the recipe again with this version",
    )
