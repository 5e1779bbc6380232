"""Bearer tokens: several, kept as hashes, scoped, with an end, and read again when changed."""

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from quakestream.errors import ConfigError

TOKEN_BYTES = 32


class Permission(StrEnum):
    """What a token may do. `admin` may do everything, also with jobs of other tokens."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request."""

    name: str
    """Name of the token, for records and limits. It is no secret."""
    scopes: frozenset[Permission]

    def may(self, scope: Permission) -> bool:
        return scope in self.scopes or Permission.ADMIN in self.scopes

    def sees(self, owner: str) -> bool:
        """True if jobs of the token `owner` are visible to this caller."""
        return owner == self.name or Permission.ADMIN in self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    digest: bytes
    caller: Caller
    expires: datetime | None


class TokenFile:
    """The tokens of a YAML file. It is read again when it changes, so tokens can be replaced.

    Raises:
        ConfigError: the file is missing or wrong. A file that becomes wrong while the service
            runs leaves the last good tokens in force.
    """

    def __init__(self, path: str) -> None:
        self._path, self._lock = Path(path), threading.Lock()
        self._changed = _mtime(self._path)
        self._entries = _read(self._path)

    def caller(self, token: str, now: datetime | None = None) -> Caller | None:
        """The caller with a token; None for a token that is unknown or has expired.

        Every entry is compared, each in constant time.
        """
        self._refresh()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found: _Entry | None = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        if found is None or (found.expires and (now or datetime.now(UTC)) >= found.expires):
            return None
        return found.caller

    def _refresh(self) -> None:
        changed = _mtime(self._path)
        if changed == self._changed:
            return
        with self._lock:
            try:
                self._entries = _read(self._path)
            except ConfigError:
                return
            self._changed = changed


def new_token(name: str, scopes: list[Permission], expires: datetime | None) -> tuple[str, str]:
    """A new token, and its entry for the file as YAML."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    entry: dict[str, Any] = {
        "name": name,
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "scopes": [str(scope) for scope in scopes],
    }
    if expires is not None:
        entry["expires"] = expires.isoformat()
    return token, yaml.safe_dump([entry], sort_keys=False)


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _read(path: Path) -> tuple[_Entry, ...]:
    where = str(path)
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("cannot read the tokens", where, "a YAML list", str(error)) from None
    if not isinstance(rows, list) or not rows:
        raise ConfigError(
            "holds no token", where, remedy="`quakestream serve --new-token NAME` makes one"
        )
    entries = tuple(_entry(row, f"{where}, entry {n}") for n, row in enumerate(rows, 1))
    names = [entry.caller.name for entry in entries]
    if len(set(names)) < len(names) and len({(e.caller.name, e.digest) for e in entries}) < len(
        entries
    ):
        raise ConfigError("a token stands twice", where)
    return entries


def _entry(row: Any, where: str) -> _Entry:
    try:
        digest = bytes.fromhex(row["sha256"])
        scopes = frozenset(Permission(scope) for scope in row["scopes"])
        expires = _time(row.get("expires"))
        name = str(row["name"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ConfigError(
            "not a token", where, "name, sha256, scopes (read, submit, admin)", str(error)
        ) from None
    if len(digest) != 32 or not name:
        raise ConfigError("not a token", where, "a name, and 64 hexadecimal digits as sha256")
    return _Entry(digest=digest, caller=Caller(name=name, scopes=scopes), expires=expires)


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return time if time.tzinfo else time.replace(tzinfo=UTC)
