"""Pair bundles with surroundings: the graph gives what the head was fitted on, and no more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from numpy.typing import NDArray

from quakestream.bundles import load_bundle
from quakestream.engines.onnx_half import prepared
from quakestream.engines.onnx_support import problems
from training.context.__main__ import main
from training.context.bundle import write_context
from training.context.features import ContextExamples
from training.context.graph import (
    ALONE,
    AMID_RUINS,
    CELL_PX,
    FEATURES,
    ContextHead,
    ContextWindows,
    bundle_model,
    features_model,
)
from training.context.head import TownScores, fit_context
from training.from_onnx import OnnxGraph
from training.graphs import Arrays, example_images
from training.onnx_graph import run_onnx
from training.onnx_sides import resized
from training.shares.judge import TownVerdict
from training.shares.restate import restate

WINDOWS = ContextWindows(window_px=256, halo_px=64)
CORE = slice(WINDOWS.halo_px, WINDOWS.window_px - WINDOWS.halo_px)


@pytest.fixture(scope="module")
def window() -> Arrays:
    images = example_images(("pre", "post"), WINDOWS.window_px, 1, np.random.default_rng(1))
    images["post"][:, :, :40, :40] = 0  # ground that was not seen
    return images


def _head(weight_D: NDArray[np.float64], square_scale: float = 0.0) -> ContextHead:
    return ContextHead(weight_D=weight_D, before=0.7, offset=0.25, square_scale=square_scale)


def _probability(logit: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logit.astype(np.float64))))


def test_without_weights_the_surroundings_say_the_same_everywhere(window: Arrays) -> None:
    parent = load_bundle("damage-synthetic")
    own = run_onnx(bundle_model(parent, _head(np.zeros(FEATURES)), WINDOWS), window)
    plain = run_onnx(resized(parent.graph, WINDOWS.window_px), window)
    pixel = _probability(plain[..., CORE, CORE] / parent.spec.temperature)
    around = _probability(np.array(0.25))
    intact, destroyed = AMID_RUINS * around, 1 - ALONE * (1 - around)
    expected = intact + pixel * (destroyed - intact)
    assert _probability(own[..., CORE, CORE]) == pytest.approx(expected, abs=1e-5)
    assert (own[..., : WINDOWS.halo_px - CELL_PX, :] == 0).all()


def test_the_graph_weighs_the_features_that_a_head_is_fitted_on(window: Arrays) -> None:
    weight_D = np.random.default_rng(2).normal(size=FEATURES) / FEATURES
    parent = load_bundle("damage-synthetic")
    mixed = run_onnx(bundle_model(parent, _head(weight_D, 0.5), WINDOWS), window)[0, 0]
    pixel = run_onnx(resized(parent.graph, WINDOWS.window_px), window)[0, 0]
    p_YX = _probability(pixel / parent.spec.temperature)
    weight_YX = AMID_RUINS - (AMID_RUINS - ALONE) * p_YX
    around = (_probability(mixed) - (1 - ALONE) * p_YX) / weight_YX
    around_YX = np.log(around.clip(1e-6)) - np.log((1 - around).clip(1e-6))
    session = ort.InferenceSession(
        features_model(WINDOWS.window_px, parent), providers=["CPUExecutionProvider"]
    )
    features_DYX = session.run(None, window)[0][0].astype(np.float64)
    change_DYX = features_DYX[:FEATURES] - 0.7 * features_DYX[FEATURES:-1]
    cells_YX = np.einsum("d,dyx->yx", weight_D, change_DYX) + 0.25 + 0.5 * features_DYX[-1]
    # The corner of four cells lies in the middle between them, and between four pixels.
    corners_YX = (cells_YX[:-1, :-1] + cells_YX[1:, :-1] + cells_YX[:-1, 1:] + cells_YX[1:, 1:]) / 4
    inner = slice(2, -2)  # squares further out reach past what the pixel network is given
    pixels_YX = _corners(around_YX)[inner, inner]
    assert np.ptp(pixels_YX) > 0.01
    assert pixels_YX == pytest.approx(corners_YX[inner, inner], abs=2e-2)


def test_the_square_around_a_place_has_the_odds_of_its_mean_probability(window: Arrays) -> None:
    parent = load_bundle("damage-synthetic")
    session = ort.InferenceSession(
        features_model(WINDOWS.window_px, parent), providers=["CPUExecutionProvider"]
    )
    odds_YX = session.run(None, window)[0][0, -1]
    logit_YX = run_onnx(resized(parent.graph, WINDOWS.window_px), window)[0, 0]
    p_YX = _probability(logit_YX / parent.spec.temperature)
    mean = p_YX[2 * CELL_PX : 5 * CELL_PX, 3 * CELL_PX : 6 * CELL_PX].mean()
    assert odds_YX[3, 4] == pytest.approx(np.log(mean / (1 - mean)), abs=1e-3)


def _corners(value_YX: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the four pixels around each corner of cells."""
    mean_YX = (value_YX[:-1, :-1] + value_YX[1:, :-1] + value_YX[:-1, 1:] + value_YX[1:, 1:]) / 4
    return mean_YX[CELL_PX - 1 :: CELL_PX, CELL_PX - 1 :: CELL_PX]


def test_a_card_claims_no_figures_that_were_not_taken(tmp_path: Path) -> None:
    parent = load_bundle("damage-synthetic")
    spec = write_context(tmp_path / "wide", parent, _head(np.zeros(FEATURES)), WINDOWS)
    assert load_bundle(str(tmp_path / "wide")).spec == spec
    card = (tmp_path / "wide" / "card.md").read_text()
    assert "**Figures.** None" in card
    assert "`damage-synthetic`" in card


def test_a_card_tells_each_left_out_city_and_what_is_expected_there(tmp_path: Path) -> None:
    folder, rng = tmp_path / "wide", np.random.default_rng(4)
    destroyed_N = np.arange(80) % 4 == 0
    answers = pd.DataFrame(
        {
            "town": np.repeat(["a", "b"], 40),
            "destroyed": destroyed_N,
            "score": np.where(destroyed_N, 0.8, 0.2) + rng.uniform(0, 0.1, 80),
            "pre_post_difference": rng.random(80),
            "x_m": 200.0 * np.arange(80),
            "y_m": 0.0,
        }
    )
    parent = load_bundle("damage-synthetic")
    head = _head(np.zeros(FEATURES))
    spec = write_context(folder, parent, head, WINDOWS, answers=answers)
    assert spec.metrics["cities"]["a"]["auc"] == 1.0
    calibration = parent.spec.calibration
    assert calibration is not None
    told = TownVerdict(
        town="a",
        buildings=40,
        destroyed=10,
        declared=9,
        declared_right=8,
        expected=11.2,
        low=4.0,
        high=20.0,
        calibration_error=0.05,
    )
    restate(folder, calibration, [told])
    card = (folder / "card.md").read_text()
    assert "| b | 10 of 40 | 1.000 | 1.000 |" in card
    assert "| a | 10 of 40 | 9 (8) | 11 (4–20) | 0.050 |" in card


def test_tensorrt_and_torch_take_the_graph(window: Arrays) -> None:
    """Here, since no shipped bundle slices its images or takes means over squares."""
    weight_D = np.random.default_rng(2).normal(size=FEATURES) / FEATURES
    parent = load_bundle("damage-synthetic")
    model = bundle_model(parent, _head(weight_D, 1.0), WINDOWS)
    assert problems(prepared(model, "fp16")) == ()
    spec = replace(parent.spec, window_px=WINDOWS.window_px, halo_px=WINDOWS.halo_px)
    found = OnnxGraph(model, spec).eval().run(window)
    assert found == pytest.approx(run_onnx(model, window), abs=1e-4)


def test_what_sets_towns_apart_is_no_part_of_a_head() -> None:
    rng = np.random.default_rng(3)
    towns = [_town(rng, "a", 0.5), _town(rng, "b", 0.1)]
    pixels = [TownScores(town=t.town, logit_N=rng.normal(size=200)) for t in towns]
    moved = [towns[0], _moved(towns[1], 5.0)]
    plain, other = fit_context(towns, pixels), fit_context(moved, pixels)
    assert other.weight_D == pytest.approx(plain.weight_D, rel=1e-3)
    assert plain.weight_D[0] > 3 * np.abs(plain.weight_D[2:]).max()  # the feature that tells


def test_parts_of_a_head_spread_by_fixed_amounts_among_standing_buildings() -> None:
    town = _town(np.random.default_rng(3), "a", 0.3)
    standing_N, logit_N = ~town.destroyed_N, np.random.default_rng(4).normal(size=200)
    head = fit_context([town], [TownScores(town="a", logit_N=logit_N)])
    spread = logit_N[standing_N].std()
    around_N = town.change(head.before) @ head.weight_D
    assert around_N[standing_N].std() == pytest.approx(spread, rel=1e-5)
    assert town.square_N is not None
    square_N = head.square_scale * town.square_N
    assert square_N[standing_N].std() == pytest.approx(0.5 * spread)
    sum_N = around_N + square_N + head.offset
    assert np.median(sum_N[standing_N]) == pytest.approx(-np.median(sum_N[~standing_N]))


def _town(rng: np.random.Generator, name: str, share: float) -> ContextExamples:
    destroyed_N = rng.random(200) < share
    post_ND = rng.normal(size=(200, 40)).astype(np.float32)
    post_ND[:, 0] += 3 * destroyed_N
    pre_ND = rng.normal(size=(200, 40)).astype(np.float32)
    return ContextExamples(
        town=name,
        post_ND=post_ND,
        pre_ND=pre_ND,
        square_N=rng.normal(size=200),
        destroyed_N=destroyed_N,
    )


def _moved(town: ContextExamples, by: float) -> ContextExamples:
    return replace(town, post_ND=town.post_ND + np.float32(by))


def test_a_parent_that_knows_the_city_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["damage-turkiye-2023", "-o", "out", "--without", "adiyaman"])
    assert code == 2
    assert "was trained on adiyaman" in capsys.readouterr().err
