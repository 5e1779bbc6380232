"""Compiled engines kept on this machine. One is opened only if this cache wrote it.

A plan or a shared library is native code: whoever can change it runs what they like. So each lies
beside a record of its sha256 and of what it was made for, in a folder that nobody else may write.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from quakestream.errors import NotBuiltError

FOLDER_VARIABLE = "QUAKESTREAM_ENGINES"
_OTHERS_MAY_WRITE = 0o022


def engine_folder() -> Path:
    """Where engines are kept: `QUAKESTREAM_ENGINES`, else the user's cache folder."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "quakestream" / "engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCache:
    """A folder of compiled engines, each known by the facts it depends on."""

    folder: Path
    suffix: str = ".bin"

    def path(self, facts: Mapping[str, str]) -> Path:
        """Where the engine for these facts lies, if it was ever made."""
        text = json.dumps(dict(sorted(facts.items())))
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", facts.get("kind", "engine"))
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}{self.suffix}"

    def keep(self, facts: Mapping[str, str], data: bytes) -> Path:
        """Writes an engine and its record, each whole or not at all.

        Raises:
            NotBuiltError: if others may write to the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check_private()
        path = self.path(facts)
        record = {"facts": dict(facts), "sha256": hashlib.sha256(data).hexdigest()}
        _write(path, data)
        _write(path.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
        return path

    def get(self, facts: Mapping[str, str]) -> bytes | None:
        """The engine made for exactly these facts; None if there is none.

        Raises:
            NotBuiltError: if others may write to the folder, or the file is not what was written.
        """
        path = self.path(facts)
        record_path = path.with_suffix(".json")
        if not (path.is_file() and record_path.is_file()):
            return None
        self._check_private()
        data = path.read_bytes()
        try:
            record = json.loads(record_path.read_bytes())
            expected, made_for = record["sha256"], record["facts"]
        except (ValueError, KeyError, TypeError) as error:
            raise NotBuiltError(f"{record_path} is no record of an engine: {error!r}") from error
        got = hashlib.sha256(data).hexdigest()
        if got != expected or made_for != dict(facts):
            raise NotBuiltError(
                f"{path} has sha256 {got[:12]}…, what was built has {expected[:12]}…; "
                "delete it and build it again"
            )
        return data

    def find(self, facts: Mapping[str, str]) -> Path | None:
        """As `get`, for loaders that want a path."""
        return None if self.get(facts) is None else self.path(facts)

    def made(self, kind: str) -> Iterator[dict[str, str]]:
        """Facts of the engines of a kind that lie here. Whether one can be trusted, `get` says."""
        for path in sorted(self.folder.glob(f"{kind}-*.json")):
            try:
                facts = json.loads(path.read_bytes())["facts"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # of something else, or being written
            if isinstance(facts, dict) and path.with_suffix(self.suffix).is_file():
                yield facts

    def _check_private(self) -> None:
        status = self.folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_MAY_WRITE:
            raise NotBuiltError(
                f"{self.folder}: engines are native code and others may write here (owner "
                f"{status.st_uid}, mode {status.st_mode & 0o777:o}); chmod 700 it or set "
                f"{FOLDER_VARIABLE} to a folder of your own"
            )


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
