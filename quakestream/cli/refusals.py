"""Runtimes that did not run, in few lines: one cause, one line."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from quakestream.engines import RUNTIMES
from quakestream.errors import DeviceError, MissingExtraError, NotBuiltError, QuakestreamError

Cause = Literal["not_installed", "no_device", "not_built", "other"]


_CAUSES: dict[type[QuakestreamError], Cause] = {
    MissingExtraError: "not_installed",
    DeviceError: "no_device",
    NotBuiltError: "not_built",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a runtime did not run."""

    runtime: str
    cause: Cause
    why: str
    """The error in one line."""


def refusal(runtime: str, error: QuakestreamError) -> Refusal:
    """The refusal of a runtime, from the error of opening or scoring."""
    causes = (c for kind, c in _CAUSES.items() if isinstance(error, kind))
    cause: Cause = next(causes, "other")
    return Refusal(runtime=runtime, cause=cause, why=" ".join(str(error).split()))


def refusal_lines(refusals: Iterable[Refusal], *, said: str, named: bool) -> list[str]:
    """Lines for a console.

    Args:
        said: what was not done, such as `not timed`.
        named: whether the user named the runtimes: each then has a line with its error.
    """
    left = list(refusals)
    if named:
        return [f"{one.runtime}: {said}: {one.why}" for one in left]
    lines = [_not_installed([r.runtime for r in left if r.cause == "not_installed"])]
    lines += [_names(left, "no_device", f"{said}, since this machine lacks a device they need")]
    lines += [
        _names(left, "not_built", f"{said}, since `quakestream engine build` did not build them")
    ]
    others: dict[str, list[str]] = {}
    for one in left:
        if one.cause == "other":
            others.setdefault(one.why, []).append(one.runtime)
    lines += [f"{said}: {', '.join(names)}: {why}" for why, names in others.items()]
    return [line for line in lines if line]


def _names(refusals: list[Refusal], cause: Cause, said: str) -> str:
    names = [one.runtime for one in refusals if one.cause == cause]
    return f"{said}: {', '.join(names)} (--json says why)" if names else ""


def _not_installed(names: list[str]) -> str:
    """`not installed: torch, torch-bf16 (pip install 'quakestream[train]')`."""
    by_extra: dict[str, list[str]] = {}
    for name in names:
        runtime = RUNTIMES.get(name)
        by_extra.setdefault(runtime.extra if runtime else "", []).append(name)
    parts = []
    for extra, of_extra in by_extra.items():
        how = f" (pip install 'quakestream[{extra}]')" if extra else ""
        parts.append(", ".join(of_extra) + how)
    return f"not installed: {'; '.join(parts)}" if parts else ""
