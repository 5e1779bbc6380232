"""Rows that stand beside every model: what needs no training, and what gives the answer away."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from quakestream.bundles import load_bundle
from quakestream.errors import RequestError
from tests.helpers.rubble import rubble_town, town
from training.cards import card_of
from training.config import PairsConfig
from training.data.islahiye import PostCrop
from training.data.pairs import in_squares
from training.lessons.pairs import held_out_logits
from training.metrics import stratified_auc
from training.models import bundle_model
from training.networks import build_network
from training.post_only import severe_scores, size_aware_figures, standing_scores_of
from training.regions import compare
from training.settings import new_config
from training.standing import standing_scores, standing_table


def test_squares_have_one_size_and_keep_their_middles() -> None:
    pair = town(buildings=[(8, 8, 10, True), (30, 40, 20, False)])
    squares = in_squares(pair, 29.0)
    for before, after in zip(pair.buildings, squares.buildings, strict=True):
        assert after.geometry.area == pytest.approx(29.0**2)
        assert after.geometry.centroid.distance(before.geometry.centroid) < 1e-6


def test_the_same_buildings_are_judged_inside_their_squares() -> None:
    """A square that reaches over the edge of the held-out ground does not drop its building."""
    pairs = [rubble_town("a", 1)]
    network = build_network("fc_siam_diff_small")
    config = new_config(
        PairsConfig, recipe="t", network="fc_siam_diff_small", held_regions=("a",), window_px=128
    )
    plain = held_out_logits(config, pairs, network)
    windows = replace(config.windows, judge_square_m=29.0)
    squares = held_out_logits(replace(config, windows=windows), pairs, network)
    assert [s.building.id for s in squares] == [s.building.id for s in plain]
    assert {len(s.logit_P) for s in squares if s.building.id == "9"} == {58 * 58}
    assert {len(s.logit_P) for s in plain} == {16 * 16}


def test_what_gives_the_answer_away_shows_in_the_standing_rows() -> None:
    """Destroyed buildings are larger, and the image before the event is the same everywhere."""
    places = [
        (8 + 40 * (i // 6), 8 + 40 * (i % 6), 24 if i % 2 else 12, i % 2 == 1) for i in range(36)
    ]
    pairs = [town(buildings=places, side=256, name=name) for name in "ab"]
    for pair in pairs:
        for row, col, side, destroyed in places:
            if destroyed:
                pair.post.pixels_BYX[:, row : row + side, col : col + side] += 60
    pairs = [
        replace(p, buildings=tuple(replace(b, id=p.name + b.id) for b in p.buildings))
        for p in pairs
    ]
    answers = standing_table(pairs)
    state = {b.id: (b.destroyed, p.region) for p in pairs for b in p.buildings}
    answers["destroyed"] = [state[i][0] for i in answers["building_id"]]
    answers["region"] = [state[i][1] for i in answers["building_id"]]
    auc = {
        name: roc_auc_score(answers["destroyed"], score_N)
        for name, score_N in standing_scores(answers).items()
    }
    assert auc["area alone"] == 1.0
    assert auc["before alone"] == pytest.approx(0.5)
    assert auc["difference in 29 m squares"] > 0.9
    table = answers.assign(p=0.5, p_square=0.5, difference=0.0, x_m=0.0, y_m=0.0, epsg=32637)
    rows = compare({"mine": table}, draws=20)
    assert {"before alone", "area alone", "mine", "mine in 29 m squares"} <= rows.keys()
    one = answers[answers["region"] == "a"]
    assert "before alone" not in standing_scores(one)


def test_among_buildings_of_one_size_the_size_says_nothing() -> None:
    rng = np.random.default_rng(0)
    size_N = rng.uniform(1, 6, 4000)
    destroyed_N = rng.random(4000) < size_N / 10
    damage_N = destroyed_N + rng.normal(size=4000)
    assert roc_auc_score(destroyed_N, size_N) > 0.6
    assert stratified_auc(size_N, destroyed_N, size_N) == pytest.approx(0.5, abs=0.06)
    plain = roc_auc_score(destroyed_N, damage_N)
    assert stratified_auc(damage_N, destroyed_N, size_N) == pytest.approx(plain, abs=0.03)
    assert stratified_auc(damage_N, destroyed_N, np.ones(4000)) == pytest.approx(plain)
    assert np.isnan(stratified_auc(damage_N, np.zeros(4000, bool), size_N))


def test_crops_after_the_event_are_judged_by_models_that_need_no_other() -> None:
    rng = np.random.default_rng(1)
    crops = [
        PostCrop(
            id=str(i),
            destroyed=i % 2 == 1,
            block=i % 4,
            pixels_BYX=rng.integers(0, 255, (3, 60 + i, 70), dtype=np.uint8),
            inside_YX=np.ones((60 + i, 70), bool),
        )
        for i in range(24)
    ]
    score_N = severe_scores(bundle_model(load_bundle("grades-synthetic")), crops)
    assert score_N.shape == (24,)
    assert np.ptp(score_N) > 0
    assert ((score_N >= 0) & (score_N <= 1)).all()
    figures = size_aware_figures(standing_scores_of(crops)["footprint area alone"], crops, draws=20)
    assert (figures["destroyed"], figures["others"]) == (12, 12)
    with pytest.raises(RequestError, match="got task segmentation, epochs pre, post"):
        severe_scores(bundle_model(load_bundle("damage-synthetic")), crops)


def test_the_card_of_invented_grades_says_what_they_are_not() -> None:
    spec = load_bundle("grades-synthetic").spec
    card = card_of(spec)
    assert card.split("\n\n")[2].startswith("**Never a real event.**")
    assert "| heavy | 472 | 261 | 0.22 | 0.39 | 0.771 |" in card  # 102 of 472, and of 261 declared
    assert "0.63 (0.57 to 0.67)" in card
    assert "| Copernicus |" not in card
