"""Array names use the letters of one legend, `quakestream.domain.axes`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakestream.domain.axes import AXES

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for top in ("quakestream", "training") for p in (ROOT / top).rglob("*.py"))
SUFFIX = re.compile(r"^_?[a-z]\w*_((?:[A-Z0-9]|n(?=[A-Z]))+)$")

SCOPES = {
    "D": ("training/",),
    "E": ("quakestream/raster/burn.py", "quakestream/synthetic/"),
    "H": ("quakestream/fusion/", "quakestream/pipeline/"),
    "J": ("quakestream/synthetic/",),
    "K": (
        "quakestream/cli/",
        "quakestream/engines/",
        "quakestream/pipeline/",
        "quakestream/testing/",
        "training/",
    ),
    "S": ("quakestream/raster/cog/", "quakestream/raster/tiles/"),
    "V": ("quakestream/domain/", "quakestream/raster/"),
    "W": ("quakestream/pipeline/", "training/"),
    "O": ("quakestream/fusion/",),
    "Z": ("quakestream/fusion/", "training/"),
}
"""Where a letter with a narrow meaning may be used; other letters may be used anywhere."""

TODO: dict[str, set[str]] = {
    "training/data/store.py": {"H"},
    "training/explanation.py": {"S"},
    "training/hazard/bayes.py": {"U"},
    "training/networks/attention.py": {"E", "H"},
    "training/networks/official.py": {"H"},
    "training/shapley.py": {"S"},
}
"""Letters that a module still uses outside the legend, or where they mean something else."""


def names_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword):
            yield node.arg or ""


def axes_of(name: str) -> str:
    """The axes of an array's name, such as `NBYX`; empty for other names."""
    match = SUFFIX.match(name)
    return match.group(1) if match and not match.group(1).isdigit() else ""


def wrong_letters(axes: str, module: str) -> set[str]:
    """Letters outside the legend, and letters outside their scope."""
    letters = {axis for axis in axes if axis.isalpha()}
    foreign = {axis for axis in letters if not module.startswith(SCOPES.get(axis, ""))}
    return (letters - set(AXES)) | foreign


def test_each_letter_has_one_meaning() -> None:
    assert all(len(letter) == 1 for letter in AXES)
    assert len(set(AXES.values())) == len(AXES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_array_names_use_the_legend(path: Path) -> None:
    module = str(path.relative_to(ROOT))
    wrong = {name: wrong_letters(axes_of(name), module) for name in names_in(path)}
    wrong = {name: letters - TODO.get(module, set()) for name, letters in wrong.items()}
    assert not {name: letters for name, letters in wrong.items() if letters}


def test_every_letter_of_the_legend_is_used() -> None:
    used = {axis for path in SOURCES for name in names_in(path) for axis in axes_of(name)}
    assert set(AXES) <= used


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("pixels_NBYX", "NBYX"),
        ("owner_nYX", "nYX"),
        ("_corner_N2", "N2"),
        ("PROBABILITY_ONE", ""),
        ("sha_256", ""),
        ("area_m2", ""),
        ("mean_B", "B"),
    ],
)
def test_the_axes_of_a_name_are_its_last_part(name: str, axes: str) -> None:
    assert axes_of(name) == axes
