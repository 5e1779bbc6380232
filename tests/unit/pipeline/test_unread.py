"""When all holes make a map, and when they make none."""

import pytest

from quakestream.domain import Issue
from quakestream.errors import NoPairError, NothingReadError, QuakestreamError
from quakestream.pipeline.result.unread import (
    check_something_is_shown,
    check_something_was_read,
    check_verdicts_stay,
)

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


@pytest.mark.parametrize(
    ("reasons", "kind", "error", "told"),
    [
        (["no_imagery"] * 447, "item", NothingReadError, "447 of 447 no_imagery: got a: no CRS"),
        (["no_pre", "no_imagery"], "scene", NothingReadError, "1 no_imagery, 1 no_pre of 2: got"),
        (["read_error"] * 2, "hazard", NothingReadError, "2 of 2 read_error"),
        (["no_pre"] * 447, "hazard", NoPairError, "imagery.pre: no building can be assessed: 447"),
        (["no_imagery", "invalid_geometry"], "hazard", NoPairError, "imagery: no building can be"),
    ],
)
def test_a_run_that_shows_no_building_is_refused_and_names_lost_images(
    reasons: list[str], kind: str, error: type[QuakestreamError], told: str
) -> None:
    with pytest.raises(error) as caught:
        check_something_is_shown(reasons, [Issue(subject="a", kind=kind, cause="no CRS")])
    assert told in str(caught.value)
    assert "nothing was published" in str(caught.value)


def test_outlines_that_are_all_invalid_are_no_fault_of_images() -> None:
    check_something_is_shown(["invalid_geometry"] * 3, [])


@pytest.mark.parametrize(
    ("reasons", "published"),
    [
        (["cloud"] * 3, {}),
        (["cloud"] * 3, {"counts": {"assessed": 0}}),
        (["cloud", None], {"counts": {"assessed": 2}}),
    ],
)
def test_a_map_without_verdicts_may_be_the_first(
    reasons: list[str | None], published: dict[str, dict[str, int]]
) -> None:
    check_verdicts_stay(reasons, published, [])


def test_a_map_with_verdicts_is_not_replaced_by_one_without() -> None:
    with pytest.raises(NothingReadError) as caught:
        check_verdicts_stay(["cloud", "nodata", "cloud"], {"counts": {"assessed": 1234}}, [])
    text = str(caught.value)
    assert text.startswith("no building could be assessed: 2 cloud, 1 nodata of 3")
    assert "the earlier map with 1,234 assessed stays as it is" in text
