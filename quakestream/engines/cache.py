"""A cache of compiled engines on this machine. It returns only what it wrote itself.

A plan or a shared library is native code: whoever can change it can run anything. Each engine
therefore has a record with its sha256 and with what it was built for, and the folder must be
writable by its owner alone.
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
_REBUILD = "delete it and build it again"


def engine_folder() -> Path:
    """The folder of engines: `QUAKESTREAM_ENGINES`, or else the user's cache folder."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "quakestream" / "engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCache:
    """A folder of compiled engines. The facts that an engine depends on identify it."""

    folder: Path
    suffix: str = ".bin"

    def path(self, facts: Mapping[str, str]) -> Path:
        """The path of the engine for these facts, whether it exists or not."""
        text = json.dumps(dict(sorted(facts.items())))
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", facts.get("kind", "engine"))
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}{self.suffix}"

    def keep(self, facts: Mapping[str, str], data: bytes) -> Path:
        """Writes an engine and its record, each atomically.

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
        """The engine that was built for exactly these facts; None if there is none.

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
            expected, built_for = record["sha256"], record["facts"]
        except (ValueError, KeyError, TypeError) as error:
            raise NotBuiltError(
                f"the file is not a record of an engine ({error!r})",
                str(record_path),
                remedy=_REBUILD,
            ) from error
        got = hashlib.sha256(data).hexdigest()
        if got != expected or built_for != dict(facts):
            raise NotBuiltError(
                "the engine does not match its record",
                str(path),
                expected=f"sha256 {expected[:12]}…",
                got=f"{got[:12]}…",
                remedy=_REBUILD,
            )
        return data

    def find(self, facts: Mapping[str, str]) -> Path | None:
        """The path of what `get` returns, for loaders that need a path."""
        return None if self.get(facts) is None else self.path(facts)

    def built(self, kind: str) -> Iterator[dict[str, str]]:
        """Facts of the engines of a kind in this folder. Only `get` checks whether to trust one."""
        for path in sorted(self.folder.glob(f"{kind}-*.json")):
            try:
                facts = json.loads(path.read_bytes())["facts"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # another file, or one that is being written
            if isinstance(facts, dict) and path.with_suffix(self.suffix).is_file():
                yield facts

    def _check_private(self) -> None:
        status = self.folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_MAY_WRITE:
            raise NotBuiltError(
                "other users may write here, and engines are native code",
                str(self.folder),
                expected=f"owner {os.geteuid()}, mode 700",
                got=f"owner {status.st_uid}, mode {status.st_mode & 0o777:o}",
                remedy=f"chmod 700 it, or set {FOLDER_VARIABLE} to a folder of your own",
            )


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
