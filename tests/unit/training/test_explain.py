"""Shapley values against their definition, and explanations of models whose reasons are known."""

from itertools import permutations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from quakestream.domain import BundleSpec, HazardInput
from quakestream.errors import RequestError, ShapeError
from training.explain_report import markdown, svg
from training.explanation import Explanation, Players, coalition_value, explain, shapley_values
from training.graphs import Arrays
from training.models import Model
from training.scales import scale_of
from training.shapley import (
    all_coalitions,
    exact_values,
    kernel_values,
    kernel_weights,
    sampled_coalitions,
)

SIDE = 4


def by_orders(value_SK: NDArray[np.float64], players: int) -> NDArray[np.float64]:
    """The definition: what a player adds on arriving, averaged over all orders."""
    gains = np.zeros((players, value_SK.shape[1]))
    orders = list(permutations(range(players)))
    for order in orders:
        present = 0
        for p in order:
            gains[p] += value_SK[present | 1 << p] - value_SK[present]
            present |= 1 << p
    return gains / len(orders)


@st.composite
def games(draw: st.DrawFn) -> tuple[int, NDArray[np.float64]]:
    players = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return players, rng.normal(size=(2**players, 3))


@given(game=games())
def test_exact_values_are_the_definition(game: tuple[int, NDArray[np.float64]]) -> None:
    players, value_SK = game
    found_PK = exact_values(value_SK, players)
    np.testing.assert_allclose(found_PK, by_orders(value_SK, players), atol=1e-12)
    np.testing.assert_allclose(found_PK.sum(axis=0), value_SK[-1] - value_SK[0], atol=1e-12)


@given(game=games())
def test_the_regression_on_all_coalitions_is_exact(game: tuple[int, NDArray[np.float64]]) -> None:
    players, value_SK = game
    present_SP = all_coalitions(players)
    inner = slice(1, -1)
    found_PK = kernel_values(
        present_SP[inner],
        value_SK[inner],
        value_SK[[0, -1]],
        kernel_weights(present_SP[inner].sum(axis=1), players),
    )
    np.testing.assert_allclose(found_PK, exact_values(value_SK, players), atol=1e-9)


def test_a_sample_of_coalitions_adds_up_and_comes_near() -> None:
    """Ten players with interactions of pairs: paired sampling has them nearly right."""
    players, rng = 10, np.random.default_rng(0)
    alone_P, pairs_PP = rng.normal(size=players), 0.3 * rng.normal(size=(players, players))

    def value(present_SP: NDArray[np.bool_]) -> NDArray[np.float64]:
        there = present_SP.astype(float)
        return (there @ alone_P + np.einsum("sp,pq,sq->s", there, pairs_PP, there))[:, None]

    exact_P = exact_values(value(all_coalitions(players)), players)[:, 0]
    present_SP, times_S = sampled_coalitions(players, 512, rng)
    assert times_S.sum() == 512
    ends = value(np.array([[False] * players, [True] * players]))
    found_P = kernel_values(present_SP, value(present_SP), ends, times_S)[:, 0]
    assert found_P.sum() == pytest.approx(float(ends[1, 0] - ends[0, 0]))
    assert np.abs(found_P - exact_P).max() < 0.05


def test_too_few_coalitions_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least 20"):
        sampled_coalitions(10, 8, np.random.default_rng(0))
    with pytest.raises(ShapeError, match="coalitions of 3 players: expected 8"):
        exact_values(np.zeros((4, 1)), 3)


def known_model(*, image: float = 0.0, hazard: tuple[float, ...] = (), flat: bool = False) -> Model:
    """p(destroyed) = σ(image · brightness + hazard · values), or without σ when `flat`."""
    groups = (2, len(hazard) - 2) if len(hazard) > 2 else ()
    spec = BundleSpec(
        name="known",
        version="1",
        task="building",
        epochs=("post",),
        bands=("red", "green", "blue"),
        gsd_m=0.5,
        window_px=SIDE,
        halo_px=0,
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
        hazard=tuple(
            HazardInput(name=f"h{i}", unit="1", mean=0.0, std=1.0) for i, _ in enumerate(hazard)
        ),
        hazard_groups=groups,
        classes=scale_of(("intact", "destroyed")),
        outputs="probabilities" if flat else "logits",
    )

    def logits(arrays: Arrays) -> NDArray[np.float32]:
        score = image * arrays["post"].astype(float).mean(axis=(1, 2, 3)) / 100
        if hazard:
            score = score + np.nan_to_num(arrays["hazard"]) @ np.array(hazard)
        score = 0.01 * score if flat else score
        return np.stack([0.5 - score, 0.5 + score], axis=1).astype(np.float32)

    return Model(spec=spec, logits=logits)


def buildings(count: int, hazard: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    post_N = rng.integers(0, 255, count).astype(np.uint8)
    return {
        "post": np.broadcast_to(post_N[:, None, None, None], (count, 3, SIDE, SIDE)).copy(),
        "post_mean_NB": np.zeros((count, 3), np.float32),
        "post_std_NB": np.ones((count, 3), np.float32),
        "hazard": rng.normal(size=(count, hazard)).astype(np.float32),
    }


def test_players_are_the_image_and_the_groups() -> None:
    model = known_model(hazard=(1.0, 1.0, 1.0))
    assert Players.of(model).names == ("image", "h0 + h1", "h2")
    assert Players.of(model, single=True).names == ("image", "h0", "h1", "h2")
    with pytest.raises(RequestError, match="one kind of input"):
        Players.of(known_model(image=1.0))


def test_slopes_have_the_sign_and_size_of_the_weights() -> None:
    """In a model that adds up, the slope is the weight times the deviation of the input."""
    model = known_model(image=1.0, hazard=(1.0, -0.5, 0.0), flat=True)
    items = buildings(60, 3, seed=1)
    items["hazard"][:5, 0] = np.nan
    found = explain(model, items, np.arange(60) % 2, buildings(4, 3, seed=2), single=True, deals=1)
    spread = [np.nanstd(items["hazard"][:, m]) for m in range(3)]
    destroyed = np.array(found.slope)[:, 1]
    assert np.isnan(destroyed[0])  # the image
    assert destroyed[1:3] == pytest.approx([0.01 * spread[0], -0.005 * spread[1]], rel=1e-3)
    assert destroyed[3] == pytest.approx(0.0, abs=1e-9)
    assert np.array(found.slope)[1:, 0] == pytest.approx(-destroyed[1:])
    assert "| h1 | +" in markdown(found)
    grouped = explain(model, items, np.arange(60) % 2, buildings(4, 3, seed=2), deals=1)
    assert np.isnan(grouped.slope[1]).all()


def test_values_of_a_sum_are_its_terms() -> None:
    """Where inputs add up, each is worth its term less the term's mean over the background."""
    model = known_model(image=2.0, hazard=(1.0, -2.0, 0.5), flat=True)
    items, background = buildings(6, 3, seed=1), buildings(5, 3, seed=2)
    value_NPC, _, asked = shapley_values(
        model, Players.of(model), items, background, np.random.default_rng(0)
    )

    def terms(arrays: Arrays) -> NDArray[np.float64]:
        bright = 2.0 * arrays["post"].astype(float).mean(axis=(1, 2, 3)) / 100
        h = arrays["hazard"].astype(float)
        return 0.01 * np.stack([bright, h[:, 0] - 2 * h[:, 1], 0.5 * h[:, 2]], axis=1)

    expected_NP = terms(items) - terms(background).mean(axis=0)
    assert asked == 8
    np.testing.assert_allclose(value_NPC[:, :, 1], expected_NP, atol=1e-6)
    np.testing.assert_allclose(value_NPC[:, :, 0], -expected_NP, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(
    image=st.floats(-2, 2),
    hazard=st.lists(st.floats(-2, 2), min_size=3, max_size=9),
    seed=st.integers(0, 99),
)
def test_values_add_up_to_the_answer(image: float, hazard: list[float], seed: int) -> None:
    """Exactly with few players, and as exactly with so many that coalitions are sampled."""
    model = known_model(image=image, hazard=tuple(hazard))
    items, background = buildings(3, len(hazard), seed), buildings(2, len(hazard), seed + 1)
    told = explain(model, items, np.array([0, 1, 0]), background, single=True, deals=1, seed=seed)
    assert told.method == ("exact" if len(hazard) < 8 else "kernel")
    assert told.additivity < 1e-9
    base = model.probabilities(background).mean(axis=0)
    assert told.base == pytest.approx(tuple(base))


def test_an_input_that_has_no_say_is_worth_nothing() -> None:
    model = known_model(image=1.5, hazard=(2.0, 0.0, 0.0))
    items, background = buildings(60, 3, seed=3), buildings(8, 3, seed=4)
    truth_N = (model.probabilities(items)[:, 1] > np.random.default_rng(5).random(60)).astype(int)
    told = explain(model, items, truth_N, background)
    image, shaking, site = (told.shapley[p][1] for p in range(3))
    assert site == pytest.approx(0.0, abs=1e-9)
    assert told.drop[2]["macro_auc"] == 0.0
    assert min(image, shaking) > 0.05
    assert told.drop[1]["macro_auc"] > 0.1
    assert told.drop[0]["macro_auc"] > 0.0
    assert sum(told.share[p][1] for p in range(3)) == pytest.approx(1.0)
    assert told.signed[1][1] > 0.05  # shaking speaks for destruction where it is true
    assert told.signed[1][0] > 0.05
    assert told.auc_drop[1][1] == pytest.approx(told.drop[1]["macro_auc"])


def test_a_missing_value_of_an_absent_player_comes_from_the_background() -> None:
    model = known_model(image=0.0, hazard=(1.0, 1.0, 1.0))
    items, background = buildings(2, 3, seed=6), buildings(2, 3, seed=7)
    items["hazard"][0, :2] = np.nan
    absent_P = np.array([True, False, True])
    found = coalition_value(model, Players.of(model), items, background, absent_P)
    own = items["hazard"][:, 2].astype(float)
    other = background["hazard"][:, :2].sum(axis=1).astype(float)
    expected = np.mean([expit(2 * (own + o)) for o in other], axis=0)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-5)


def told() -> Explanation:
    model = known_model(image=1.0, hazard=(1.0, 1.0, -0.5))
    items, background = buildings(40, 3, seed=8), buildings(4, 3, seed=9)
    label_N = np.random.default_rng(1).integers(0, 2, 40)
    return explain(model, items, label_N, background, deals=2)


def test_the_report_is_a_table_and_a_figure() -> None:
    explanation = told()
    text = markdown(explanation)
    rows = [line for line in text.splitlines() if line.startswith("| h0 + h1")]
    assert len(rows) == 3
    assert f"{explanation.signed[1][1]:+.4f}" in rows[1]
    assert f"{explanation.shapley[1][1]:.4f}" in rows[0]
    figure = ElementTree.fromstring(svg(explanation))
    namespace = "{http://www.w3.org/2000/svg}"
    titles = [t.text for t in figure.iter(f"{namespace}title")]
    share = f"{explanation.share[0][1]:.0%}"
    assert f"image: {share} of destroyed" in titles
    widths = [float(r.get("width", 0)) for r in figure.iter(f"{namespace}rect") if list(r)]
    assert sum(widths) == pytest.approx(2 * (760 - 150 - 90), abs=1.0)


def test_a_figure_of_many_inputs_keeps_its_colours_apart() -> None:
    model = known_model(image=1.0, hazard=tuple(np.linspace(0.1, 2.0, 11)))
    items, background = buildings(3, 11, seed=8), buildings(2, 11, seed=9)
    label_N = np.array([0, 1, 1])
    many = explain(model, items, label_N, background, single=True, deals=1)
    assert len(many.players) == 12
    figure = ElementTree.fromstring(svg(many))
    texts = [t.text for t in figure.iter("{http://www.w3.org/2000/svg}text")]
    assert "5 others" in texts
    largest = many.players[int(np.mean(many.share, axis=1).argmax())]
    assert largest in texts
    assert len([t for t in texts if t in many.players]) == 7
    assert "| h0 |" in markdown(many)
