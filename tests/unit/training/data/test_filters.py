"""The EPFL tile filters, on tiles made to meet each rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.errors import RequestError
from training.data.filters import TileFilter


def tile(mean: float, spread: float, seed: int = 0, side: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grey = mean + spread * rng.choice([-1.0, 1.0], (1, side, side))
    return np.repeat(grey.clip(1, 255), 3, axis=0).astype(np.uint8)


GROUND = tile(110, 60)
SNOW = tile(185, 65)
FLAT = tile(110, 40)


def test_each_rule_drops_what_it_is_for() -> None:
    black = GROUND.copy()
    black[:, :3, :30] = 0  # 5.6 %
    tiles = np.stack([GROUND, SNOW, FLAT, black])
    assert TileFilter().reasons(tiles).tolist() == [None, "snow", "flat", "black"]
    assert TileFilter(black=0.06).reasons(tiles)[3] is None
    assert TileFilter(variance=None, snow=None).reasons(tiles).tolist() == [None] * 3 + ["black"]


def test_the_side_of_the_snow_rule_can_be_turned() -> None:
    tiles = np.stack([GROUND, SNOW])
    assert TileFilter(snow_side="below").reasons(tiles).tolist() == ["snow", None]


def test_what_was_not_seen_counts_as_black_and_tells_nothing_else() -> None:
    tiles = np.stack([GROUND, GROUND])
    valid = np.ones((2, 40, 40), bool)
    valid[1, :, :3] = False
    filled = tiles.copy()
    filled[1][:, ~valid[1]] = 255  # whatever stands there
    assert TileFilter().reasons(filled, valid).tolist() == [None, "black"]
    assert TileFilter(black=None).reasons(filled, valid).tolist() == [None, None]


def test_the_variance_is_that_of_grey_from_0_to_1() -> None:
    at = float(np.var(GROUND[0] / 255.0))
    assert TileFilter(variance=at * 1.01).reasons(GROUND[None])[0] == "flat"
    assert TileFilter(variance=at * 0.99).reasons(GROUND[None])[0] is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), count=st.integers(1, 5))
def test_a_tile_is_judged_alone(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, rng.integers(2, 256), (count, 3, 9, 9)).astype(np.uint8)
    together = TileFilter().reasons(tiles).tolist()
    assert together == [TileFilter().reasons(one[None])[0] for one in tiles]


def test_filters_are_given_as_text() -> None:
    assert TileFilter.parse("epfl") == TileFilter()
    given = TileFilter.parse("black=0.1, snow=none,snow_side=below")
    assert given == TileFilter(black=0.1, snow=None, snow_side="below")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("black", "expected epfl, or NAME=VALUE"),
        ("cloud=1", "expected epfl, or NAME=VALUE"),
        ("black=much", "expected a number or none"),
        ("black=5", "black: out of range: expected 0 to 1, got 5"),
        ("variance=4", "variance: out of range: expected 0 to 0.25"),
        ("snow_side=left", "expected above or below"),
    ],
)
def test_a_filter_that_makes_no_sense_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        TileFilter.parse(text)
    assert "\n" not in str(caught.value)
