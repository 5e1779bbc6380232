"""When all holes make a map, and when they make none."""

import pytest

from quakestream.domain import Issue
from quakestream.errors import NothingReadError
from quakestream.pipeline.result.unread import check_something_was_read

NO_KEYS = "s3://b/a.tif: cannot read: no credentials on the machine that asks; set them"


@pytest.mark.parametrize(
    "reasons",
    [
        [],
        [None, "read_error"],
        ["read_error", "cloud"],
        ["no_pre", "no_imagery"],
        ["nodata"] * 3,
        ["no_imagery"] * 3,
    ],
)
def test_a_map_may_have_holes_or_be_one(reasons: list[str | None]) -> None:
    check_something_was_read(reasons, [])


@pytest.mark.parametrize(
    ("reasons", "counts"),
    [
        (["read_error"] * 447, "447 of 447 read_error"),
        (["read_error", "read_error", "no_pre"], "2 of 3 read_error"),
        (["read_error", "model_error"], "2 of 2 read_error, model_error"),
        (["no_imagery"] * 29, "29 of 29 no_imagery"),
    ],
)
def test_nothing_read_is_no_map_and_names_counts_and_causes(
    reasons: list[str | None], counts: str
) -> None:
    issues = [
        Issue(subject="x", kind="item", cause="item has no asset"),
        *(Issue(subject=f"s{n}", kind="scene", cause=NO_KEYS) for n in range(3)),
        *(Issue(subject=f"t{n}", kind="scene", cause=f"t{n}: cut") for n in range(4)),
    ]
    with pytest.raises(NothingReadError) as caught:
        check_something_was_read(reasons, issues)
    text = str(caught.value)
    assert text.startswith(f"no footprint could be read: {counts}: got {NO_KEYS} | t0: cut | t1")
    assert "and 2 more causes" in text
    assert "item has no asset" not in text
