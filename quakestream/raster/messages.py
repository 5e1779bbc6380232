"""Parts of messages that several readers need."""

import re
from collections.abc import Callable
from dataclasses import replace

from quakestream.errors import QuakestreamError
from quakestream.storage.filesystems import CREDENTIALS_REMEDY, NO_CREDENTIALS

_CODE = re.compile(r"<Error>.*<Code>(\w+)</Code>", re.DOTALL)
_ANSWERS = {
    "NoSuchKey": "there is no such object; the name of a folder ends in a slash",
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "permission denied; check credentials, `anon` and the rights on the place",
    "InvalidAccessKeyId": "permission denied; the store does not know the access key",
    "SignatureDoesNotMatch": "permission denied; the secret key does not fit the access key",
}
"""What the error codes of S3 mean."""


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the singular or plural: `1 block`, `1,024 bytes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def reason_of(error: BaseException) -> str:
    """What went wrong, without the name of the object that it concerns."""
    if isinstance(error, QuakestreamError):
        return str(replace(error.problem, where=""))
    return plain(str(error)) or type(error).__name__


def root_cause(error: BaseException) -> str:
    """The message of the innermost cause. rasterio's own messages often only point to it.

    GDAL hands the answers of object stores on as XML, and names its own settings where it lacks
    credentials.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    reason = reason_of(error)
    if "AWS_SECRET_ACCESS_KEY" in reason:
        return f"{NO_CREDENTIALS}; {CREDENTIALS_REMEDY}"
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
