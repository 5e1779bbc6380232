"""Holds the locked packages of the images against a file of known advisories, without a network.

    python deploy/audit.py all.zip deploy/docker/requirements.*.txt [--accept ID ...]

The advisories are records of OSV (https://ossf.github.io/osv-schema): `all.zip` of its PyPI export,
a folder of its JSON files, or one file with a record, a list of records, or an answer of its API
(`{"vulns": [...]}`). Exit code: 0 no locked package is named, 1 some are, 2 a file cannot be read.
"""

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.M)
Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An advisory that holds for a locked package."""

    package: str
    version: str
    advisory: str
    names: frozenset[str]
    """The advisory's own name and its other names, such as that of a CVE."""
    fixed: str
    summary: str

    def __str__(self) -> str:
        remedy = f"fixed in {self.fixed}" if self.fixed else "no fixed version is named"
        known = ", ".join([self.advisory, *sorted(self.names - {self.advisory})])
        return f"{self.package} {self.version}: {known}: {self.summary} ({remedy})"


def locked(text: str) -> dict[str, str]:
    """Versions by name of package, out of a lock with hashes."""
    return {str(canonicalize_name(name)): version for name, version in PIN.findall(text)}


def records(path: Path) -> Iterator[Record]:
    """The advisories of a zip, of a folder or of one JSON file."""
    if path.is_dir():
        for one in sorted(path.rglob("*.json")):
            yield from _records_in(json.loads(one.read_text()))
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".json")):
                yield from _records_in(json.loads(archive.read(name)))
    else:
        yield from _records_in(json.loads(path.read_text()))


def _records_in(content: Any) -> list[Record]:
    if isinstance(content, dict):
        content = content.get("vulns", [content])
    if not isinstance(content, list) or any("id" not in r or "modified" not in r for r in content):
        raise ValueError("no records of OSV: each has `id` and `modified`")
    return content


def findings(advisories: Iterable[Record], pins: dict[str, str]) -> Iterator[Finding]:
    """Advisories that hold for a locked version. Those that were withdrawn do not."""
    for record in advisories:
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected", []):
            package = affected.get("package", {})
            name = str(canonicalize_name(package.get("name", "")))
            if package.get("ecosystem") != "PyPI" or name not in pins:
                continue
            if _holds(affected, pins[name]):
                yield Finding(
                    package=name,
                    version=pins[name],
                    advisory=record["id"],
                    names=frozenset([record["id"], *record.get("aliases", [])]),
                    fixed=_fix(affected, pins[name]),
                    summary=_summary(record),
                )


def _holds(affected: Record, version: str) -> bool:
    """Whether a version is listed, or lies in a range that this can compare it with, or cannot."""
    if version in affected.get("versions", []):
        return True
    try:
        return any(_inside(r["events"], Version(version)) for r in _ranges(affected))
    except InvalidVersion:
        return True  # someone must look at it


def _ranges(affected: Record) -> list[Record]:
    """Ranges of versions; those of commits say nothing about a package."""
    return [r for r in affected.get("ranges", []) if r.get("type") in ("ECOSYSTEM", "SEMVER")]


def _inside(events: list[dict[str, str]], version: Version) -> bool:
    """Whether the last event at or before a version leaves it affected."""
    inside = False
    order = {"introduced": 0, "fixed": 1, "last_affected": 2}
    steps = [(Version(v), order[k], k) for e in events for k, v in e.items() if k in order]
    for at, _, kind in sorted(steps):
        if at < version or (at == version and kind != "last_affected"):
            inside = kind == "introduced"
    return inside


def _fix(affected: Record, version: str) -> str:
    """The first version after this one that is fixed; empty if none is named."""
    named = [e["fixed"] for r in _ranges(affected) for e in r["events"] if "fixed" in e]
    fixes = [Version(f) for f in named if re.match(r"[\d.]+$", f)]
    return str(min((f for f in fixes if f > Version(version)), default=""))


def _summary(record: Record) -> str:
    lines = str(record.get("summary") or record.get("details") or "no summary").strip().splitlines()
    return lines[0][:120]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("advisories", type=Path, help="zip, folder or JSON file of OSV records")
    parser.add_argument("locks", type=Path, nargs="+", help="requirements with hashes")
    parser.add_argument("--accept", action="append", default=[], metavar="ID", help="not counted")
    given = parser.parse_args(arguments)
    path, total = given.advisories, 0
    try:
        known = list(records(path))
        for path in given.locks:
            pins = locked(path.read_text())
            if not pins:
                raise ValueError("no `name==version` in it")
            found = [f for f in findings(known, pins) if not f.names & set(given.accept)]
            print(f"{path}: {len(pins)} packages, {len(known)} advisories, {len(found)} hold")
            for finding in found:
                print(f"  {finding}")
            total += len(found)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        print(f"error: {path}: cannot be read ({error})", file=sys.stderr)
        return 2
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
