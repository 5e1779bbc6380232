"""Parts of messages that several readers need."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from quakestream.errors import QuakestreamError
from quakestream.storage.filesystems import CREDENTIALS_REMEDY, NO_CREDENTIALS

Failure = TypeVar("Failure", bound=QuakestreamError)
_CODE = re.compile(r"<Error>.*<Code>(\w+)</Code>", re.DOTALL)
_ANSWERS = {
    "NoSuchKey": "there is no such object; the name of a folder ends in a slash",
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "permission denied; check credentials, `anon` and the rights on the place",
    "InvalidAccessKeyId": "permission denied; the store does not know the access key",
    "SignatureDoesNotMatch": "permission denied; the secret key does not fit the access key",
}
"""What the error codes of S3 mean."""
_CREDENTIALS = {
    "AWS_SECRET_ACCESS_KEY": CREDENTIALS_REMEDY,
    "GS_SECRET_ACCESS_KEY": "set GOOGLE_APPLICATION_CREDENTIALS there and on every worker",
    "AZURE_STORAGE_": "set AZURE_STORAGE_CONNECTION_STRING there and on every worker",
}
"""What to set where GDAL's message names the settings that it lacks."""


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the singular or plural: `1 block`, `1,024 bytes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def reason_of(error: BaseException) -> str:
    """What went wrong, without the name of the object that it concerns."""
    if isinstance(error, QuakestreamError):
        return str(replace(error.problem, where=""))
    if isinstance(error, OSError) and error.strerror:  # which names no path
        return error.strerror.lower()
    return plain(str(error)) or type(error).__name__


def restated(kind: type[Failure], what: str, where: str, error: BaseException) -> Failure:
    """An error of another kind for the same failure, whose message says once what failed.

    An error of ours below has said what failed, and with which remedy: its fields are kept, and
    `what` is left out. Others add their innermost cause to `what`.

    Args:
        kind: the new error's.
        what: what failed, such as `cannot read`.
        where: what it concerns. It stands for a place that it holds; a file beside it keeps its
            own name.
        error: the failure.
    """
    ours = error
    while ours.__cause__ is not None and not isinstance(ours, QuakestreamError):
        ours = ours.__cause__
    if not isinstance(ours, QuakestreamError):
        return kind(f"{what}: {root_cause(error)}", where)
    place = ours.where if ours.where not in where else where
    return kind.of(replace(ours.problem, where=place))


def root_cause(error: BaseException) -> str:
    """The message of the innermost cause. rasterio's own messages often only point to it.

    GDAL hands the answers of object stores on as XML, and names its own settings where it lacks
    credentials.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    reason = reason_of(error)
    for names, remedy in _CREDENTIALS.items():
        if names in reason:
            return f"{NO_CREDENTIALS}; {remedy}"
    code = _CODE.search(reason)
    return _ANSWERS.get(code[1], f"the store answers {code[1]}") if code else reason


_FORMATS = {
    "zip": "deflate",
    "lzw": "LZW",
    "lzma": "LZMA",
    "packbits": "PackBits",
    "jpeg": "JPEG",
    "webp": "WebP",
    "lerc": "LERC",
}
"""Names of formats as people write them, by those of decoders."""


def damaged_block(decoder: str) -> str:
    """What is wrong with a block that a decoder refuses."""
    name = decoder.lower()
    return f"block is damaged: its {_FORMATS.get(name, name)} data cannot be decoded"


def _truncated(match: re.Match[str]) -> str:
    missing = int(match["expected"]) - int(match["got"])
    return f"block truncated: {counted(missing, 'byte')} missing"


def _damaged(match: re.Match[str]) -> str:
    return damaged_block(match["decoder"])


_DECODER = re.compile(r"\b(?P<decoder>[A-Z]\w+?)(?:Pre)?(?:Decode|Lib): ?\S")
_WORDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"TIFF\w+: ?Read error.* got (?P<got>\d+) bytes, expected (?P<expected>\d+)"),
     _truncated),
    (re.compile(r"TIFF\w+: ?Seek error"), lambda _: "block truncated: the file ends before it"),
    (_DECODER, _damaged),
    (re.compile(r"Failed to read directory at offset (?P<at>\d+)"),
     lambda match: f"file is cut: its directory at byte {int(match['at']):,} is not whole"),
    (re.compile(r"Cannot read TIFF header"), lambda _: "file is cut: its header is not whole"),
    (re.compile(r"not recognized as being in a supported file format"),
     lambda _: "not a raster of a supported format"),
)  # fmt: skip
"""Messages of GDAL and libtiff, which speak of functions and repeat paths, and what they mean."""


def tells_of_damage(error: BaseException) -> bool:
    """True if the innermost cause is a decoder's: its bytes arrived and are damaged."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _DECODER.search(str(error)) is not None


def plain(text: str) -> str:
    """A message of GDAL in plain words, where it is a known one; else unchanged."""
    for pattern, words in _WORDS:
        if match := pattern.search(text):
            return words(match)
    return text
