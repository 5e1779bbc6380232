"""The error tree is the one that is drawn, and its errors travel between processes."""

import inspect
import pickle

import pytest

from quakestream import errors
from quakestream.errors import ConfigError, Problem, QuakestreamError

RAISED = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, QuakestreamError)
]


def drawn() -> dict[str, str]:
    """Each error of the drawing to the one it hangs under."""
    above: list[str] = []
    found: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ").split()
        if not words or not words[0].endswith("Error") or "." in words[0]:
            continue
        depth = (line.index(words[0]) - 4) // 4
        above[depth:] = [words[0]]
        found[words[0]] = above[depth - 1] if depth else "Exception"
    return found


def test_the_tree_that_is_drawn_is_the_tree() -> None:
    assert drawn() == {kind.__name__: kind.__mro__[1].__name__ for kind in RAISED}


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[QuakestreamError]) -> None:
    error = kind("no CRS", "a.tif", expected="EPSG:4326", got="nothing", remedy="add one")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.problem == Problem("no CRS", "a.tif", "EPSG:4326", "nothing", "add one")
    assert str(again) == "a.tif: no CRS: expected EPSG:4326, got nothing; add one"


def test_an_error_of_several_problems_has_a_line_for_each_and_survives_pickling() -> None:
    problems = [Problem("unknown key", "line 3, imagry"), Problem("is missing", "line 1, aoi")]
    error = pickle.loads(pickle.dumps(ConfigError.of_all(problems)))
    assert error.problems == tuple(problems)
    assert str(error).splitlines() == ["line 3, imagry: unknown key", "line 1, aoi: is missing"]


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("disk full"), "disk full"),
        (Problem("disk full", remedy="free some"), "disk full; free some"),
        (Problem("wrong unit", "vs30", got="km/s"), "vs30: wrong unit: got km/s"),
    ],
)
def test_a_problem_names_where_what_and_the_remedy(problem: Problem, line: str) -> None:
    assert str(problem) == line
