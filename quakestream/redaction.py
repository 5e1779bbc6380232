"""Text without secrets: URIs as they may be shown or stored.

Signed URLs carry their right in the query (a SAS, `?token=`, `X-Amz-Signature`), others before the
host. Every place where a URI is shown or written goes through `redacted`.
"""

import os
import re
from typing import Any

HIDDEN = "***"
LEAST_CHARS = 8
"""Shorter values of variables are words of everyday text."""

CREDENTIAL = re.compile(
    r"(^|_)(key|keys|apikey|secret|secrets|token|password|passwd|pass|pwd|credential|credentials"
    r"|sas|sig|signature|username|connection_string|auth|authorization|bearer|cookie|private)($|_)",
    re.IGNORECASE,
)
"""Names of settings and variables that hold a secret, with `_` between words."""

_USER = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<user>[^\s/?#\"'<>]+)@")
_WEB = ("http", "https", "ftp", "ftps")
_END = r"[;:,.)\]}]*(?:[\s\"'<>#\\]|$)"
"""What ends a URI in a sentence."""
_QUERY = re.compile(
    rf"(?P<uri>[A-Za-z][\w+.-]*://[^\s?#\"'<>]*\?)(?P<query>[^\s#\"'<>\\]+?)(?={_END})"
)
_PAIR = re.compile(rf"(?P<name>[?&;#][\w.~%$+\[\]-]+=)(?P<value>[^&\s#\"'<>\\]+?)(?=&|{_END})")


def redacted(text: str) -> str:
    """The text with `***` for values in queries and for names and passwords before a host.

    Other parts of a URI stay, so that it still tells which object is meant.
    """
    if "://" in text:
        text = _QUERY.sub(_without_query, _USER.sub(_without_user, text))
    return _PAIR.sub(rf"\g<name>{HIDDEN}", text) if "=" in text else text


def redacted_tree(value: Any) -> Any:
    """Lists and mappings of plain values with every text redacted."""
    if isinstance(value, dict):
        return {redacted(str(k)): redacted_tree(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_tree(v) for v in value]
    return redacted(value) if isinstance(value, str) else value


FOLDERS = ("PWD", "OLDPWD")
"""Variables of shells that hold a folder, though `MYSQL_PWD` holds a password."""


def without_credentials(text: str) -> str:
    """Redacted text that also holds no value of a variable of this process that is a secret."""
    for name, value in os.environ.items():
        if name not in FOLDERS and len(value) >= LEAST_CHARS and names_secret(name):
            text = text.replace(value, HIDDEN)
    return redacted(text)


def names_secret(name: str) -> bool:
    """True for names such as `X-Api-Key`, `accountKey` and `AWS_SECRET_ACCESS_KEY`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name)
    return CREDENTIAL.search(words) is not None


def _without_user(match: re.Match[str]) -> str:
    scheme, user = match["scheme"], match["user"]
    if scheme.lower() in _WEB or ":" in user:  # az://container@account names no user
        return f"{scheme}://{HIDDEN}@"
    return match[0]


def _without_query(match: re.Match[str]) -> str:
    return match["uri"] + "&".join(map(_without_value, match["query"].split("&")))


def _without_value(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN if part else ""
