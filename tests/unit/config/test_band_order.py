"""`imagery.bands`: the order of red, green and blue, told in the run file."""

import pytest

from quakestream.config import parse_run
from quakestream.errors import ConfigError
from tests.unit.config.test_loading import SMALL


def with_bands(order: str, *, epoch: bool = False) -> str:
    """The small run file with bands for all scenes, or for those after the event."""
    if epoch:
        return SMALL.replace("post: {", f"post: {{bands: {order}, ", 1)
    return SMALL.replace("imagery: {", f"imagery: {{bands: {order}, ", 1)


def test_bands_change_the_digest_and_their_absence_does_not() -> None:
    assert with_bands("null") != SMALL != with_bands("null", epoch=True)
    base = parse_run(SMALL, "/d/run.yaml").digest()
    none = [with_bands("null"), with_bands("null", epoch=True)]
    assert {parse_run(text, "/d/run.yaml").digest() for text in none} == {base}
    texts = [
        with_bands(order, epoch=epoch)
        for order in ("[3, 2, 1]", "[1, 2, 3]", "[5, 3, 2]")
        for epoch in (False, True)
    ]
    digests = {parse_run(text, "/d/run.yaml").digest() for text in texts}
    assert len(digests) == len(texts)
    assert base not in digests


def test_bands_are_those_of_all_scenes_or_of_an_epoch() -> None:
    run = parse_run(with_bands("[3, 2, 1]"), "/d/run.yaml")
    assert (run.imagery.bands, run.imagery.post.bands) == ((3, 2, 1), None)
    run = parse_run(with_bands("[5, 3, 2]", epoch=True), "/d/run.yaml")
    assert (run.imagery.bands, run.imagery.post.bands) == (None, (5, 3, 2))


@pytest.mark.parametrize(
    "order",
    ["[3, 2]", "[1, 2, 3, 4]", "[1, 1, 2]", "[0, 1, 2]", "[-1, 2, 3]", "[1.0, 2, 3]",
     "[true, 2, 3]", "['3', 2, 1]", "[]", "321", "bgr", "{red: 3}"],
)  # fmt: skip
@pytest.mark.parametrize("epoch", [False, True])
def test_what_is_no_order_is_refused_by_name(order: str, epoch: bool) -> None:
    with pytest.raises(ConfigError, match=r"imagery\.(post\.)?bands") as caught:
        parse_run(with_bands(order, epoch=epoch), "/d/run.yaml")
    assert "run.yaml, line " in str(caught.value)
