"""Figures that are quoted: shares of what was seen, the card's caveat, verdicts beside scores."""

import numpy as np
import pytest

from quakestream.bundles import load_bundle
from quakestream.outputs.figures import (
    card_caveats,
    decisions,
    headline,
    share_sentence,
)
from quakestream.outputs.numerals import percent
from quakestream.outputs.summary import summary_table
from tests.helpers.outputs_case import LABELS, buildings, products


def test_shares_are_of_the_assessed_with_the_unseen_beside_them():
    said = share_sentence("destroyed", 91, 212, 451)
    assert said == "destroyed 43 % of the 212 assessed; 239 of 451 not seen"
    assert share_sentence("destroyed", 0, 0, 9) == "no building was assessed; 9 of 9 not seen"
    assert share_sentence("destroyed", 9, 9, 9) == "destroyed 100 % of the 9 assessed; all 9 seen"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (178, 447, "40 %"),
        (1, 10_000, "< 0.1 %"),
        (9_999, 10_000, "> 99.9 %"),
        (995, 1000, "99.5 %"),
        (43, 1000, "4.3 %"),
        (0, 5, "0 %"),
        (0, 0, "–"),
    ],
)
def test_percentages_keep_two_figures(part: int, whole: int, text: str):
    assert percent(part, whole) == text


def _run(damage: dict[str, int], assessed: int, total: int) -> dict:
    spec = load_bundle("damage-turkiye-2023")
    return {
        "counts": {"damage": damage, "assessed": assessed, "footprints": total},
        "damage_scale": [{"label": c.label, "xbd": c.xbd} for c in spec.spec.classes],
        "bundle": {"metrics": spec.spec.metrics, "card": spec.file("card.md").decode()},
    }


def test_the_count_carries_what_the_card_says_of_it():
    first = headline(_run({"destroyed": 178, "intact": 269}, 447, 500))
    assert (first.severe, first.names) == (178, "destroyed")
    rates, right, use = first.caveat
    assert "found 73 % of the damaged buildings and called 16 % of the undamaged" in rates
    # declared 0.398, recall 0.726, false alarms 0.161: share 0.420, of the declared 0.766 are right
    assert "about 77 of 100 such verdicts are right" in right
    assert "Not for decisions about single buildings, and not as a count of losses." in use


def test_a_count_within_the_false_alarms_is_called_that():
    first = headline(_run({"destroyed": 16, "intact": 84}, 100, 100))
    assert "the count may be false alarms only" in first.caveat[1]
    nothing = headline(_run({"intact": 100}, 100, 100))
    assert len(nothing.caveat) == 2  # no verdict of the kind: no share of right ones
    assert (
        card_caveats({"metrics": {"operating_points": {"balanced": {"recall": "x"}}}}, 1, 9) == []
    )


def test_a_verdict_and_the_score_beside_it_never_contradict():
    rng = np.random.default_rng(3)
    p_NC = rng.dirichlet([1, 1, 1], 2000)
    threshold = 0.45
    reaches_NC = p_NC[:, ::-1].cumsum(axis=1)[:, ::-1] >= threshold
    damage_N = np.where(reaches_NC[:, 2], 2, np.where(reaches_NC[:, 1], 1, 0))
    told = decisions(p_NC, damage_N, threshold)
    declared_N = told.class_N == damage_N
    assert (told.score_N[declared_N] >= threshold).all()
    assert (told.score_N[~declared_N] < threshold).all()
    assert (told.class_N[~declared_N] == damage_N[~declared_N] + 1).all()
    assert set(told.clarity_N) == {"close call", "fairly clear", "clear"}


def test_clarity_is_the_distance_in_odds():
    p_NC = np.array([[0.505, 0.495], [0.62, 0.38], [0.3, 0.7], [0.02, 0.98], [0.98, 0.02]])
    told = decisions(p_NC, np.array([1, 0, 1, 1, 0]), 0.45)
    assert told.clarity_N.tolist() == [
        "close call",
        "close call",
        "fairly clear",
        "clear",
        "clear",
    ]
    assert told.score_N == pytest.approx([0.495, 0.38, 0.7, 0.98, 0.02])


def test_the_summary_states_shares_of_all_and_of_the_assessed():
    rows = products().buildings.assign(
        damage_label=lambda f: f["damage"].map(dict(enumerate(LABELS)))
    )
    table = summary_table(rows, LABELS)
    shares = table[[f"share_of_assessed_{a}" for a in LABELS]].sum(axis=1)
    assert shares.to_numpy() == pytest.approx(1, abs=2e-4)
    unseen = buildings().iloc[[3]].assign(damage_label=None)
    empty = summary_table(unseen, LABELS)
    assert empty["share_assessed"].tolist() == [0]
    assert empty["share_of_assessed_destroyed"].isna().all()
