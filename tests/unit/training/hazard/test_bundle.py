"""Bundles of task hazard: the graph is what was fitted, and says what it was fitted on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from shapely.geometry import box
from sklearn.metrics import roc_auc_score

from quakestream.bundles import load_bundle, shipped_names
from quakestream.engines import Batch, open_engine
from quakestream.errors import EngineError
from training.hazard.bayes import LayerBayes
from training.hazard.cli import main
from training.hazard.convert import check_parity, expected, run, to_onnx
from training.hazard.families import FAMILIES, boosting, logistic, masked_copies
from training.hazard.nested import SMALLEST
from training.hazard.points import read_points

SHIPPED = "hazard-kahramanmaras-2023"
IMAGE = box(36.9220, 37.5761, 36.9328, 37.5812)
Values = NDArray[np.float32]


def data_of(classes: int, count: int = 900) -> tuple[Values, NDArray[np.int64]]:
    """Three values, the last in steps: many rows lie on a threshold of a tree."""
    rng = np.random.default_rng(classes)
    label_N = rng.integers(0, classes, count)
    values_NM = rng.normal(size=(count, 3)) + label_N[:, None] * np.array([1.0, 0.2, 0.0])
    values_NM[:, 2] = np.round(values_NM[:, 2], 1)
    return values_NM.astype(np.float32), label_N


BUILT: dict[str, Callable[[], Any]] = {
    "plain logistic": lambda: logistic(1, 0.1),
    "cubic logistic": lambda: logistic(3, 0.1),
    "bayes": lambda: LayerBayes(0.2),
    "boosting": lambda: boosting(6, 25),
    "extra_trees": lambda: FAMILIES["extra_trees"].build(leaf=10, tried=0.6, trees=15),
    "forest": lambda: FAMILIES["forest"].build(leaf=5, tried=0.6, trees=15),
}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", BUILT)
def test_the_graph_gives_what_scikit_learn_gives(name: str, classes: int) -> None:
    values_NM, label_N = data_of(classes)
    model = BUILT[name]().fit(*masked_copies(values_NM, label_N))
    graph = to_onnx([model], 3, 1.3).SerializeToString()
    assert check_parity(graph, [model], 1.3, values_NM) < 1e-5
    empty_NM = np.full((1, 3), np.nan, np.float32)
    p_C = run(graph, empty_NM)[0]
    np.testing.assert_allclose(p_C, expected([model], empty_NM, 1.3)[0], atol=1e-5)
    assert p_C.sum() == pytest.approx(1.0, abs=1e-6)


def test_the_mean_of_models_is_the_mean_of_their_probabilities() -> None:
    values_NM, label_N = data_of(5)
    models = [build().fit(*masked_copies(values_NM, label_N)) for build in BUILT.values()]
    graph = to_onnx(models, 3, 1.0).SerializeToString()
    by_hand_NC = np.mean([m.predict_proba(values_NM) for m in models], axis=0)
    assert by_hand_NC.min() > SMALLEST
    np.testing.assert_allclose(run(graph, values_NM), by_hand_NC, atol=1e-5)


def test_smooth_models_need_no_operators_but_onnx_own() -> None:
    values_NM, label_N = data_of(3)
    models = [logistic(2, 0.1), LayerBayes()]
    made = to_onnx([m.fit(values_NM, label_N) for m in models], 3, 1.0)
    assert {node.domain for node in made.graph.node} == {""}
    assert [o.domain for o in made.opset_import] == [""]
    assert [i.name for i in made.graph.input] == ["hazard"]
    assert [o.name for o in made.graph.output] == ["logits"]


def test_trees_hold_plain_numbers_and_keep_to_float32() -> None:
    values_NM, label_N = data_of(5)
    made = to_onnx([boosting(6, 5).fit(values_NM, label_N)], 3, 1.0)
    onnx.checker.check_model(made)
    again = onnx.load_from_string(made.SerializeToString())
    tree = next(n for n in again.graph.node if n.op_type == "TreeEnsembleRegressor")
    assert {a.name for a in tree.attribute} >= {"nodes_missing_value_tracks_true", "base_values"}


def test_a_graph_of_another_model_is_found_out() -> None:
    values_NM, label_N = data_of(2)
    first, second = (logistic(1, c).fit(values_NM, label_N) for c in (1e-3, 1.0))
    graph = to_onnx([first], 3, 1.0).SerializeToString()
    with pytest.raises(EngineError, match="differs from scikit-learn"):
        check_parity(graph, [second], 1.0, values_NM)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle fitted by the command on a file with gaps."""
    folder = tmp_path_factory.mktemp("hazard")
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 2, 1200)
    rows = [
        f"{lon},{lat},{('intact', 'destroyed')[label]},{label + noise},{'' if gap else mmi}"
        for lon, lat, label, noise, gap, mmi in zip(
            rng.uniform(36.9, 37.02, 1200),
            rng.uniform(37.5, 37.62, 1200),
            label_N,
            rng.normal(size=1200),
            rng.random(1200) < 0.3,
            rng.uniform(6, 9, 1200),
            strict=True,
        )
    ]
    (folder / "points.csv").write_text("\n".join(["lon,lat,label,dpm,mmi", *rows]))
    out = folder / "hazard-here"
    arguments = ["fit", "--points", str(folder / "points.csv"), "--features", "dpm,mmi"]
    arguments += ["--classes", "intact,destroyed", "--exclude-near", "POINT (36.95 37.55)"]
    assert main([*arguments, "-o", str(out)]) == 0
    return out


def test_the_command_writes_a_bundle_that_says_what_it_is(written: Path) -> None:
    spec = load_bundle(str(written)).spec
    assert (spec.name, spec.task, spec.outputs) == ("hazard-here", "hazard", "probabilities")
    assert [(h.name, h.unit) for h in spec.hazard] == [("dpm", "1"), ("mmi", "MMI")]
    assert spec.hazard[1].mean == pytest.approx(7.5, abs=0.15)
    assert sum(spec.prior) == pytest.approx(1.0, abs=1e-5)
    assert [c.label for c in spec.classes] == ["intact", "destroyed"]
    assert "within 1 km" in spec.training["excluded"]
    assert 0.6 < spec.metrics["macro_auc"] < 0.9
    assert spec.thresholds.high_recall <= spec.thresholds.balanced <= spec.thresholds.high_precision
    card = (written / "card.md").read_text()
    assert f"{spec.metrics['macro_auc']:.3f}" in card
    assert "`mmi` (MMI)" in card
    record = json.loads((written / "mlm.json").read_text())
    assert record["properties"]["mlm:architecture"] == (
        "Multinomial logistic regression and naive Bayes on normal scores"
    )


def test_the_engine_answers_a_golden_batch_with_gaps(written: Path) -> None:
    bundle = load_bundle(str(written))
    hazard_NM = bundle.golden["hazard"]
    assert np.isnan(hazard_NM[-1]).all()
    assert np.isnan(hazard_NM[:-1]).any()
    assert not np.isnan(hazard_NM[0]).any()
    got_NC = open_engine(bundle, threads=1).score(Batch(hazard_NM=hazard_NM))
    np.testing.assert_allclose(got_NC, bundle.golden["logits"], atol=1e-6)
    # without any value: about the shares it was fitted on
    np.testing.assert_allclose(got_NC[-1], bundle.spec.prior, atol=0.1)


def test_gaps_in_a_file_are_told(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(written.parent / "points.csv")
    wrong = ["fit", "--points", source, "--features", "dpm,mmi", "--classes", "intact,destroyed"]
    assert main([*wrong, "--model", "none", "-o", str(written.parent / "x")]) == 2
    assert "mmi: missing at" in capsys.readouterr().err


# What is shipped


def test_the_shipped_bundle_is_small_and_states_its_shares() -> None:
    assert SHIPPED in shipped_names()
    bundle = load_bundle(SHIPPED)
    spec = bundle.spec
    assert sum(len(data) for data in bundle.files.values()) < 1_000_000
    assert [h.name for h in spec.hazard] == ["adi", "dpm_s1", "dpm_alos2", "ndbi", "pga_g"]
    assert spec.labels == ("none", "slight", "heavy", "to_be_demolished", "collapsed")
    assert sum(spec.prior) == pytest.approx(1.0, abs=1e-5)
    assert np.argmax(spec.prior) == 0
    np.testing.assert_allclose(
        run(bundle.graph, bundle.golden["hazard"]), bundle.golden["logits"], atol=1e-5
    )


@pytest.mark.data
def test_the_shipped_bundle_saw_no_point_near_the_image(data_dir: Path) -> None:
    points = read_points("field", data_dir=data_dir)
    away = points.away_from(IMAGE, 1.0)
    spec = load_bundle(SHIPPED).spec
    assert spec.training["points"] == len(away)
    assert spec.training["per_class"] == np.bincount(away.label_N).tolist()
    assert f"{len(points) - len(away):,} points" in spec.training["excluded"]
    mean_M = away.values_NM.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose([h.mean for h in spec.hazard], mean_M, rtol=1e-4, atol=1e-6)


@pytest.mark.data
def test_the_shipped_bundle_knows_more_where_it_was_fitted_than_by_chance(data_dir: Path) -> None:
    points = read_points("field", data_dir=data_dir)
    bundle = load_bundle(SHIPPED)
    p_NC = run(bundle.graph, points.values_NM)
    auc = roc_auc_score(points.label_N, p_NC, multi_class="ovr", average="macro")
    # fitted on most of these points: above what held-out blocks give, and far from a memory
    assert 0.64 < auc < 0.75
    shaking_NM = np.where(np.arange(5) == 4, points.values_NM, np.nan)
    some_NC = run(bundle.graph, shaking_NM)
    assert np.isfinite(some_NC).all()
    assert roc_auc_score(points.label_N == 4, some_NC[:, 4]) > 0.5


def test_the_family_names_of_the_manifest_are_families() -> None:
    spec = load_bundle(SHIPPED).spec
    assert set(spec.training["recipe"].split("+")) <= set(FAMILIES)
