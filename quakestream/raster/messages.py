"""Parts of messages that several readers need."""

from dataclasses import replace

from quakestream.errors import QuakestreamError


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the singular or plural: `1 block`, `1,024 bytes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def reason_of(error: BaseException) -> str:
    """What went wrong, without the name of the object that it concerns."""
    if isinstance(error, QuakestreamError):
        return str(replace(error.problem, where=""))
    return str(error) or type(error).__name__


def root_cause(error: BaseException) -> str:
    """The message of the innermost cause. rasterio's own messages often only point to it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason_of(error)
