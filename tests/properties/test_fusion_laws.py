"""Laws of fusion: missing evidence changes nothing, order does not matter, odds are monotonic."""

from itertools import pairwise, permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quakestream.domain import ScaleClass
from quakestream.fusion import HAZARD_FLOOR, ROUNDING_FLOOR, Evidence, ScaleMap, combine

UNIT = st.floats(0.0, 1.0, allow_subnormal=False)
TOLERANCE = 1e-9


@st.composite
def shares(draw: st.DrawFn, rows: int, classes: int) -> np.ndarray:
    """Rows that sum to 1, exact zeros and ones among them."""
    weights = draw(hnp.arrays(np.float64, (rows, classes), elements=UNIT))
    weights[weights.sum(axis=1) == 0, draw(st.integers(0, classes - 1))] = 1.0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@st.composite
def cases(draw: st.DrawFn, parts: int) -> tuple[np.ndarray, list[Evidence]]:
    """A prior and pieces of evidence over the same buildings, some of it missing."""
    rows, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    prior_C = draw(shares(1, classes))[0]
    found = []
    for _ in range(parts):
        p_NC = draw(shares(rows, classes))
        p_NC[draw(hnp.arrays(np.bool_, rows))] = np.nan
        floor = draw(st.sampled_from([HAZARD_FLOOR, ROUNDING_FLOOR]))
        found.append(Evidence(p_NC=p_NC, prior_C=draw(shares(1, classes))[0], floor=floor))
    return prior_C, found


@given(case=cases(parts=3))
def test_answers_are_probabilities_even_of_certain_evidence(
    case: tuple[np.ndarray, list[Evidence]],
) -> None:
    prior_C, parts = case
    p_NC = combine(prior_C, parts)
    known_N = np.any([part.known_N for part in parts], axis=0)
    assert np.isnan(p_NC[~known_N]).all()
    assert np.isfinite(p_NC[known_N]).all()
    assert (p_NC[known_N] > 0).all()
    assert np.allclose(p_NC[known_N].sum(axis=1), 1.0, atol=TOLERANCE)


@given(case=cases(parts=3))
def test_the_order_of_evidence_does_not_matter(case: tuple[np.ndarray, list[Evidence]]) -> None:
    prior_C, parts = case
    first = combine(prior_C, parts)
    for order in permutations(parts):
        assert np.allclose(combine(prior_C, order), first, atol=TOLERANCE, equal_nan=True)


@given(case=cases(parts=1), data=st.data())
def test_hazard_values_without_information_change_nothing(
    case: tuple[np.ndarray, list[Evidence]], data: st.DataObject
) -> None:
    """Values are missing, or give the class shares that the hazard model was fitted on."""
    _, (part,) = case
    image = Evidence(p_NC=part.p_NC, prior_C=part.prior_C)
    rows, classes = image.p_NC.shape
    share_C = data.draw(shares(1, classes))[0]
    silent_NC = np.tile(share_C, (rows, 1))
    silent_NC[data.draw(hnp.arrays(np.bool_, rows))] = np.nan
    silent = Evidence(p_NC=silent_NC, prior_C=share_C, floor=HAZARD_FLOOR)
    fused_NC = combine(image.prior_C, [image, silent])
    seen_N = image.known_N
    assert np.allclose(
        fused_NC[seen_N].astype(np.float32),
        image.p_NC[seen_N].astype(np.float32),
        rtol=1e-6,
        atol=classes * ROUNDING_FLOOR,
    )


@given(case=cases(parts=2), worse=st.integers(1, 4), factor=st.floats(1.0, 1e6))
def test_more_odds_of_damage_never_give_less_damage(
    case: tuple[np.ndarray, list[Evidence]], worse: int, factor: float
) -> None:
    prior_C, (image, hazard) = case
    worse = min(worse, len(prior_C) - 1)
    raised_NC = hazard.p_NC.copy()
    raised_NC[:, worse:] *= factor
    raised_NC /= raised_NC.sum(axis=1, keepdims=True)
    raised = Evidence(p_NC=raised_NC, prior_C=hazard.prior_C, floor=hazard.floor)
    before = combine(prior_C, [image, hazard])[:, worse:].sum(axis=1)
    after = combine(prior_C, [image, raised])[:, worse:].sum(axis=1)
    known_N = image.known_N | hazard.known_N
    assert (after[known_N] >= before[known_N] - TOLERANCE).all()


@st.composite
def scales(draw: st.DrawFn) -> tuple[ScaleClass, ...]:
    """Classes mildest first over grades 0 to 5; neighbours may share grades, some may lack."""
    count = draw(st.integers(2, 6))
    lows = sorted(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)))
    return tuple(
        ScaleClass(
            index=i,
            label=f"c{i}",
            xbd="no",
            ems98=tuple(range(low, draw(st.integers(low, 5)) + 1)),
            copernicus="No visible damage",
        )
        for i, low in enumerate(lows)
    )


@given(source=scales(), target=scales(), data=st.data())
def test_no_probability_is_lost_between_scales_and_no_class_left_without_a_share(
    source: tuple[ScaleClass, ...], target: tuple[ScaleClass, ...], data: st.DataObject
) -> None:
    mapped = ScaleMap.between(source, target)
    p_NH = data.draw(shares(3, len(source)))
    p_NC = mapped(p_NH)
    assert p_NC.shape == (3, len(target))
    assert np.allclose(p_NC.sum(axis=1), 1.0)
    assert (p_NC >= 0).all()
    assert (mapped.share_HC.sum(axis=0) > 0).all()


@given(cuts=st.sets(st.integers(1, 5), min_size=1))
def test_a_scale_that_splits_the_grades_maps_to_itself(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), 6]
    classes = tuple(
        ScaleClass(
            index=i, label=f"c{i}", xbd="no", ems98=tuple(range(a, b)), copernicus="Destroyed"
        )
        for i, (a, b) in enumerate(pairwise(edges))
    )
    assert np.array_equal(ScaleMap.between(classes, classes).share_HC, np.eye(len(classes)))
