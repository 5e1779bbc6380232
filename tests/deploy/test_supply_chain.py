"""One command each: a bill of materials, the licences. Exceptions of the security rules say why."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.helpers.deploying import DEPLOY, ROOT, checked

SOURCES = [
    p for top in ("quakestream", "training", "benchmarks") for p in (ROOT / top).rglob("*.py")
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


def test_a_licence_that_would_bind_the_image_is_found() -> None:
    """`make licences` ends with an error for such a package; yamllint is one, a tool of ours."""
    pytest.importorskip("yamllint", reason="the `dev` extra")
    (rule,) = re.findall(r'--fail-on="(.+?)"', (ROOT / "Makefile").read_text())
    options = (f"--python={sys.executable}", "--from=mixed", "--partial-match", f"--fail-on={rule}")
    assert checked("pip-licenses", *options, "--packages", "numpy").returncode == 0
    done = checked("pip-licenses", *options, "--packages", "yamllint")
    assert done.returncode == 1
    assert "yamllint" in done.stderr
