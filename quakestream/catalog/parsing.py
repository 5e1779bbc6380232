"""Parses JSON of strangers: nothing in one item makes its document unreadable.

Python's parser stops at about a thousand nested lists and at integers of 4,300 digits, and the
whole document is lost with it. Here such a value is lost alone.
"""

import gzip
import io
import json
import re
import zlib
from typing import Any

from quakestream.errors import CatalogItemError
from quakestream.storage.bounds import too_large
from quakestream.storage.limits import DOCUMENT, JSON_DEPTH

_LONGEST_INTEGER = 300
"""Digits of the longest number that a float holds, about."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_CHUNK_BYTES = 1 << 20


def parse_json(text: str) -> Any:
    """The value of a JSON text; values nested too deep become null.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        return json.loads(_shallow(text), parse_int=_integer)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _shallow(text: str) -> str:
    """The text with null for each list and object that lies too deep."""
    kept: list[str] = []
    depth = start = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark in "[{":
            depth += 1
            if depth == JSON_DEPTH + 1:
                kept.append(text[start : token.start()] + "null")
        elif mark in "]}":
            depth -= 1
            if depth == JSON_DEPTH:
                start = token.end()
    return "".join([*kept, text[start:]] if depth <= JSON_DEPTH else kept)


def kind_of_text(data: bytes) -> str:
    """What a document is that is no JSON, as a message names it."""
    head = data[:100].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, probably of a login or an error"
    if head.startswith(b"<"):
        return "XML"
    return "other text" if b"\0" not in data[:100] else "a binary file"


def unpacked(data: bytes, uri: str) -> bytes:
    """The bytes of a document that may be packed with gzip, by its content.

    Raises:
        CatalogItemError: if the gzip is broken.
        StorageError: if it unpacks to more than a document may have.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    parts, size = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while part := file.read(_CHUNK_BYTES):
                size += len(part)
                if size > DOCUMENT.most_bytes:
                    raise too_large(uri, DOCUMENT)
                parts.append(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CatalogItemError("gzip is damaged", uri, got=str(error)) from error
    return b"".join(parts)
