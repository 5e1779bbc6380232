"""Documents name tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tests_that_extending_names_exist() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs" / "extending.md").read_text())
    assert named
    for path, name in named:
        definitions = ast.parse((ROOT / path).read_text()).body
        known = {d.name for d in definitions if isinstance(d, ast.FunctionDef | ast.ClassDef)}
        assert name in known, f"{path} has no {name}"
