"""Laws 2 and 5: tallies merge in any order and grouping, and any cut gives the same verdicts."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quakestream.domain import BundleSpec, Quality, ScaleClass, Thresholds
from quakestream.reduce import PROBABILITY_ONE, Tally, decide, image_probabilities, merge

CLASSES = 3


def scale(count: int) -> tuple[ScaleClass, ...]:
    return tuple(
        ScaleClass(index=i, label=f"c{i}", xbd="no", ems98=(i,), copernicus="Damaged")
        for i in range(count)
    )


SPEC = BundleSpec(
    name="t",
    version="1",
    task="segmentation",
    epochs=("pre", "post"),
    bands=("red", "green", "blue"),
    gsd_m=0.5,
    window_px=64,
    halo_px=16,
    context_m=0,
    dtype="uint8",
    normalisation="per_scene",
    classes=scale(CLASSES),
    thresholds=Thresholds(high_precision=0.8, balanced=0.5, high_recall=0.2),
)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    ids = sorted(draw(st.sets(st.integers(0, 20), max_size=8)))
    n = len(ids)
    whole = st.integers(0, 10**6)
    return Tally(
        building_N=np.array(ids, np.int64),
        pixels_NQ=draw(hnp.arrays(np.int64, (n, len(Quality)), elements=whole)),
        sum_NC=draw(hnp.arrays(np.int64, (n, CLASSES), elements=whole)),
        change_N=draw(hnp.arrays(np.int64, n, elements=whole)),
    )


def both(*parts: Tally) -> Tally:
    return merge(parts, classes=CLASSES)


@given(a=tallies(), b=tallies(), c=tallies())
def test_merge_is_associative_and_commutative(a: Tally, b: Tally, c: Tally) -> None:
    assert both(both(a, b), c).equals(both(a, both(b, c)))
    assert both(a, b).equals(both(b, a))
    assert both(a, b, c).equals(both(c, a, b))


@given(a=tallies())
def test_the_empty_tally_is_the_identity(a: Tally) -> None:
    assert both(a, Tally.empty(CLASSES)).equals(a)
    assert both(a).equals(a)


@given(
    p=hnp.arrays(np.float32, (40, CLASSES), elements=st.floats(0.125, 1, width=32)),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_cutting_a_buildings_pixels_anywhere_gives_the_same_verdict(
    p: np.ndarray, cuts: list[int]
) -> None:
    p = p / p.sum(axis=1, keepdims=True)
    whole = np.rint(p * PROBABILITY_ONE).astype(np.int64)
    edges = [0, *sorted(cuts), 40]
    parts = [
        Tally(
            building_N=np.array([3]),
            pixels_NQ=np.array([[b - a, 0, 0, 0, 0]]),
            sum_NC=whole[a:b].sum(axis=0, keepdims=True),
            change_N=np.array([0]),
        )
        for a, b in itertools.pairwise(edges)
    ]
    cut, uncut = decide(both(*parts), SPEC), decide(both(parts[0], *parts[1:]), SPEC)
    once = Tally(
        building_N=np.array([3]),
        pixels_NQ=np.array([[40, 0, 0, 0, 0]]),
        sum_NC=whole.sum(axis=0, keepdims=True),
        change_N=np.array([0]),
    )
    for verdict in (cut, uncut):
        assert np.array_equal(verdict.p_NC, decide(once, SPEC).p_NC)
        assert verdict.damage_N[0] == decide(once, SPEC).damage_N[0]


@given(
    sums=hnp.arrays(np.int64, (6, CLASSES), elements=st.integers(0, 10**6)),
    pixels=hnp.arrays(np.int64, (6, len(Quality)), elements=st.integers(0, 500)),
)
def test_a_verdict_is_a_class_or_a_reason(sums: np.ndarray, pixels: np.ndarray) -> None:
    sums[:, 0] += 1
    tally = Tally(
        building_N=np.arange(6), pixels_NQ=pixels, sum_NC=sums, change_N=np.zeros(6, np.int64)
    )
    verdicts = decide(tally, SPEC)
    assessed = np.array([r is None for r in verdicts.reason_N])
    assert np.array_equal(verdicts.damage_N >= 0, assessed)
    assert np.allclose(verdicts.p_NC[assessed].sum(axis=1), 1, atol=1e-5)
    assert np.isnan(verdicts.p_NC[~assessed]).all()
    assert (verdicts.valid_fraction_N[assessed] >= 0.5).all()


def test_the_most_severe_class_that_reaches_the_threshold_is_declared() -> None:
    sums = np.array([[50, 30, 20], [40, 40, 20], [10, 35, 55], [100, 0, 0], [45, 0, 55]])
    tally = Tally(
        building_N=np.arange(5),
        pixels_NQ=np.tile([10, 0, 0, 0, 0], (5, 1)),
        sum_NC=sums,
        change_N=np.zeros(5, np.int64),
    )
    assert decide(tally, SPEC).damage_N.tolist() == [1, 1, 2, 0, 2]


def test_one_clear_view_of_three_is_enough() -> None:
    tally = Tally(
        building_N=np.arange(2),
        pixels_NQ=np.array([[10, 0, 20, 0, 0], [10, 0, 20, 0, 0]]),
        sum_NC=np.ones((2, CLASSES), np.int64),
        change_N=np.zeros(2, np.int64),
    )
    assert decide(tally, SPEC, np.array([3, 1])).reason_N.tolist() == [None, "cloud"]


def test_unseen_buildings_say_what_hid_them() -> None:
    pixels = np.array([[4, 5, 0, 0, 0], [4, 0, 5, 0, 0], [1, 1, 0, 0, 0], [5, 0, 0, 4, 0]])
    tally = Tally(
        building_N=np.arange(4),
        pixels_NQ=pixels,
        sum_NC=np.ones((4, CLASSES), np.int64),
        change_N=np.zeros(4, np.int64),
    )
    assert decide(tally, SPEC).reason_N.tolist() == ["nodata", "cloud", "too_small", None]


@given(
    sums=hnp.arrays(np.int64, (6, CLASSES), elements=st.integers(0, 10**6)),
    pixels=hnp.arrays(np.int64, (6, len(Quality)), elements=st.integers(0, 500)),
    known=hnp.arrays(np.float64, (6, CLASSES), elements=st.floats(0.01, 1.0)),
)
def test_other_evidence_changes_verdicts_and_never_which_buildings_are_assessed(
    sums: np.ndarray, pixels: np.ndarray, known: np.ndarray
) -> None:
    tally = Tally(
        building_N=np.arange(6), pixels_NQ=pixels, sum_NC=sums, change_N=np.zeros(6, np.int64)
    )
    known = known / known.sum(axis=1, keepdims=True)
    plain, same = decide(tally, SPEC), decide(tally, SPEC, p_NC=image_probabilities(tally))
    revised = decide(tally, SPEC, p_NC=known)
    for name in ("reason_N", "damage_N", "p_NC", "confidence_N", "uncertainty_N"):
        assert np.array_equal(
            getattr(plain, name), getattr(same, name), equal_nan=name != "reason_N"
        )
    assert (plain.reason_N == revised.reason_N).all()
    assert np.array_equal(plain.valid_fraction_N, revised.valid_fraction_N)
    seen_N = plain.damage_N >= 0
    assert (revised.damage_N[~seen_N] == -1).all()
    assert np.isnan(revised.p_NC[~seen_N]).all()
    assert np.allclose(revised.p_NC[seen_N], known[seen_N], atol=1e-6)
    declared = known[np.arange(6), revised.damage_N.clip(0)]
    assert np.allclose(revised.confidence_N[seen_N], declared[seen_N], atol=1e-6)
