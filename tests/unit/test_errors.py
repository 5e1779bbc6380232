"""The error tree is the one that is drawn, and its errors travel between processes."""

import inspect
import pickle

import pytest

from quakestream import errors
from quakestream.errors import QuakestreamError

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
    error = pickle.loads(pickle.dumps(kind("what, where")))
    assert type(error) is kind
    assert str(error) == "what, where"
