"""Loads weights of other projects: strictly, by name, without running code of the file.

A `Layout` says how the names of a file become those of a network, which names are left out on
purpose, and which weights of the network a file may lack. Anything else is an error, and the
network is then unchanged.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.foreign_errors import first_line

Fit = Callable[[Mapping[str, Tensor], str, Tensor], Tensor]
"""Fits a weight to the network: takes the network's weights, the name and the file's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Names of weights by what was done with them."""

    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    """Loaded weights that were fitted to another grid or other bands."""
    dropped: tuple[str, ...]
    """Weights of the file that are left out on purpose, by their name in the file."""
    missing: tuple[str, ...]
    """Weights that the file lacks and may lack; they keep the values that the network has."""
    unexpected: tuple[str, ...]
    """Weights that the network lacks; always empty, because such a file is refused."""


def _unchanged(own: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the names of a file become those of a network. Patterns are shell patterns."""

    network: str
    """What the network is called in errors, with an article."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Regular expressions and what they are replaced by, applied in order to every name."""
    part: str = "*"
    """Pattern of the network's weights that the file is for; others stay as they are."""
    dropped: tuple[str, ...] = ()
    """Patterns of names, before they are renamed, that are left out on purpose."""
    may_lack: tuple[str, ...] = ()
    """Patterns of the network's weights that a file may lack."""
    fit: Fit = field(default=_unchanged)

    def name(self, name: str) -> str:
        """The network's name of a weight of the file."""
        for pattern, text in self.renamed:
            name = re.sub(pattern, text, name)
        return name

    def drops(self, name: str) -> bool:
        """True if a weight of the file is left out on purpose."""
        return _matches(name, self.dropped)


def read_weights(
    path: Path, *, wrappers: Sequence[str] = ("model", "state_dict", "state_dict_ema")
) -> dict[str, Tensor]:
    """Reads weights by name without running code.

    Args:
        path: a file of torch.
        wrappers: keys that may hold the weights, in order; without them they are at the top.

    Raises:
        RequestError: if the file holds anything but plain values and tensors, or no weights.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, ValueError, OSError) as error:
        raise RequestError(
            f"cannot be read as weights alone ({first_line(error)})",
            str(path),
            remedy=f"if you trust the file, save its {wrappers[0]!r} entry by itself",
        ) from error
    if isinstance(raw, Mapping):
        raw = next((raw[key] for key in wrappers if key in raw), raw)
    if not _are_weights(raw):
        raise RequestError(
            "no weights",
            str(path),
            expected=f"weights by name, at the top or under {' or '.join(wrappers)}",
            got=type(raw).__name__,
        )
    return dict(raw)


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], layout: Layout, source: str = "weights"
) -> ImportReport:
    """Loads weights; after an error the network is unchanged.

    Raises:
        RequestError: if a weight is missing, unknown, of another shape, or not finite.
    """
    fitted, report = fit_weights(network.state_dict(), weights, layout, source)
    network.load_state_dict(fitted, strict=False, assign=_is_meta(network))
    return report


def fit_weights(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], layout: Layout, source: str
) -> tuple[dict[str, Tensor], ImportReport]:
    """The weights under the names and in the shapes of a network, and the report.

    Args:
        own: the network's weights; their values are looked at by the layout alone.
        weights: the file's.
        layout: how they fit together.
        source: the file, for errors.

    Raises:
        RequestError: if a weight is missing, unknown, of another shape, or not finite.
    """
    dropped = tuple(name for name in weights if layout.drops(name))
    usable = {layout.name(n): value for n, value in weights.items() if n not in set(dropped)}
    fitted = {n: layout.fit(own, n, value) for n, value in usable.items() if n in own}
    report = ImportReport(
        loaded=tuple(fitted),
        resized=tuple(n for n, value in fitted.items() if value is not usable[n]),
        dropped=dropped,
        missing=tuple(n for n in own if n not in usable),
        unexpected=tuple(n for n in usable if n not in own),
    )
    problems = _problems(report, fitted, own, layout)
    if problems:
        wanted = sum(_matches(name, (layout.part,)) for name in own)
        raise RequestError(
            f"not the weights of {layout.network} ({len(fitted)} of {wanted} names found): "
            f"{'; '.join(problems)}",
            source,
            remedy="use the file of the same size",
        )
    return fitted, report


def _problems(
    report: ImportReport, fitted: Mapping[str, Tensor], own: Mapping[str, Tensor], layout: Layout
) -> list[str]:
    lost = [
        name
        for name in report.missing
        if _matches(name, (layout.part,)) and not _matches(name, layout.may_lack)
    ]
    shapes = [
        f"{name} (expected {tuple(own[name].shape)}, got {tuple(value.shape)})"
        for name, value in fitted.items()
        if value.shape != own[name].shape
    ]
    broken = [n for n, v in fitted.items() if not v.is_meta and not torch.isfinite(v).all()]
    kinds = {
        "missing": lost,
        "unexpected": report.unexpected,
        "other shape": shapes,
        "not finite": broken,
    }
    return [f"{kind} {_few(names)}" for kind, names in kinds.items() if names]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _is_meta(network: nn.Module) -> bool:
    return any(value.is_meta for value in network.state_dict().values())


def _are_weights(raw: Any) -> bool:
    return (
        isinstance(raw, Mapping)
        and bool(raw)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in raw.items())
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
