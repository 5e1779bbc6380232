"""Models of classes from a store to a bundle: judged, shipped and explained alike."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score

from quakestream.bundles import load_bundle
from quakestream.domain import Quality
from quakestream.engines.base import Batch, probabilities
from quakestream.engines.onnxruntime import OnnxRuntimeEngine
from quakestream.errors import RequestError
from quakestream.reduce.tally import PROBABILITY_ONE, Tally
from quakestream.reduce.verdict import decide
from tests.helpers.training_data_case import MadeStore, make_store
from training.calibrate import (
    calibrate_classes,
    choose_class_thresholds,
    first_severe,
)
from training.checkpoints import Checkpoint
from training.config import ChipsConfig, CropSettings, Grades, Points, VectorsConfig
from training.data.splits import RowSplit
from training.evaluate import EvaluationRequest, class_model, rows_of
from training.evaluate import main as evaluate_command
from training.evaluation_set import evaluation_set
from training.explain import ExplainOptions, explain_model
from training.explain import main as explain_command
from training.export import ExportOptions, export_bundle
from training.export import main as export_command
from training.judging import (
    ScoredRows,
    apart,
    calibration_report,
    class_report,
    plain,
    severe_points,
    verdict_report,
)
from training.lessons.chips import ChipsLesson, open_chips
from training.lessons.vectors import open_vectors
from training.scales import scale_of

CLASSES = ("slight", "heavy", "destroyed")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MadeStore:
    uri = str(tmp_path_factory.mktemp("stores") / "chips.zarr")
    return make_store(uri, crop_px=40, chips=240, shard_chips=60)


@pytest.fixture(scope="module")
def config(store: MadeStore) -> ChipsConfig:
    return ChipsConfig(
        recipe="tiny",
        network="qmf_tiny",
        source=(store.uri,),
        chip_px=32,
        rows=RowSplit(split="blocks", block=200.0, buffer=20.0, folds=3),
        crops=CropSettings(pair=True),
        grades=Grades(learned_missing=True),
    )


@pytest.fixture(scope="module")
def lesson(config: ChipsConfig) -> ChipsLesson:
    return open_chips(config)


@pytest.fixture(scope="module")
def checkpoint(config: ChipsConfig, lesson: ChipsLesson) -> Checkpoint:
    torch.manual_seed(3)
    network = lesson.network()
    for parameter in network.parameters():  # untrained, but not shy: logits that differ
        if parameter.ndim > 1:
            parameter.data *= 1.6
    return Checkpoint(
        config=config,
        weights=network.state_dict(),
        step=0,
        figures={},
        inputs=lesson.inputs,
        facts=lesson.facts(),
    )


@pytest.fixture(scope="module")
def checkpoint_file(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "checkpoint.pt"
    checkpoint.save(path)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "grades-noise"
    export_bundle(checkpoint, folder, ExportOptions(data="noise", licence="Apache-2.0"))
    return folder


def test_what_is_judged_is_what_was_trained(
    checkpoint_file: Path, checkpoint: Checkpoint, lesson: ChipsLesson
) -> None:
    """Counts and hazard values through the graph, or prepared by the lesson: the same logits."""
    model, config = class_model(str(checkpoint_file))
    held = evaluation_set(config)
    expected, label_N = lesson.logits(checkpoint.network(), "test")
    np.testing.assert_allclose(held.logits(model), expected.numpy(), atol=1e-4)
    np.testing.assert_array_equal(held.labels(), label_N)
    hidden, _ = lesson.logits(checkpoint.network(), "test", masked=True)
    names = [h.name for h in model.spec.hazard]
    np.testing.assert_allclose(held.logits(model, masked=names), hidden.numpy(), atol=1e-4)
    one = held.logits(model, masked=["vs30_m_s"])
    assert np.abs(one - expected.numpy()).max() > 1e-3
    assert np.abs(one - hidden.numpy()).max() > 1e-3


def test_no_row_is_trained_on_and_judged(config: ChipsConfig) -> None:
    held = evaluation_set(config)
    train, test = set(held.rows["train"].tolist()), set(held.rows["test"].tolist())
    assert not train & test
    assert not set(held.rows["validation"].tolist()) & (train | test)
    assert (held.labels() >= 0).all()


def test_a_region_is_judged_alone(config: ChipsConfig, store: MadeStore) -> None:
    held = evaluation_set(config, regions=("west",))
    assert set(store.table["region"].to_numpy()[held.rows["test"]]) == {"west"}
    with pytest.raises(
        RequestError, match="unknown region: expected one of east, north, west, got south"
    ):
        evaluation_set(config, regions=("south",))


def test_the_bundle_answers_as_the_checkpoint(
    bundle: Path, checkpoint_file: Path, store: MadeStore
) -> None:
    shipped, config = class_model(str(bundle))
    trained, _ = class_model(str(checkpoint_file))
    held = rows_of(config, EvaluationRequest(source=store.uri))
    offset_C = np.array(shipped.spec.training["offset"])
    expected = held.logits(trained) + offset_C
    np.testing.assert_allclose(held.logits(shipped), expected, atol=1e-3)
    report = class_report(held.scored(shipped.as_probabilities(held.logits(shipped))))
    for name in ("macro_auc", "macro_f1", "accuracy", "top_label_error"):
        assert shipped.spec.metrics[name] == pytest.approx(report[name], abs=2e-3)


def test_the_engine_runs_the_bundle(bundle: Path, store: MadeStore) -> None:
    """The main job's engine on a store's chips: probabilities as they are judged here."""
    model, config = class_model(str(bundle))
    held = rows_of(config, EvaluationRequest(source=store.uri))
    arrays = held.inputs(model.spec)
    opened = load_bundle(str(bundle))
    logits_NK = OnnxRuntimeEngine(opened, threads=1).score(Batch.of(arrays, opened.spec))
    p_NC = probabilities(logits_NK.T, opened.spec).T
    np.testing.assert_allclose(p_NC, model.probabilities(arrays), atol=1e-4)


def test_the_manifest_names_no_place_of_this_machine(bundle: Path, store: MadeStore) -> None:
    for file in ("bundle.json", "mlm.json", "card.md"):
        assert store.uri not in (bundle / file).read_text()
    spec = load_bundle(str(bundle)).spec
    assert spec.training["config"]["source"] == ["chips.zarr"]
    assert spec.hazard_groups == (1, 2, 1)
    assert [h.missing for h in spec.hazard] == ["mask"] * 4
    assert spec.prior == pytest.approx((1 / 3,) * 3)


def test_hazard_values_are_scaled_by_the_training_rows(
    bundle: Path, config: ChipsConfig, store: MadeStore
) -> None:
    mmi = store.table["mmi"].to_numpy()[evaluation_set(config).rows["train"]]
    told = load_bundle(str(bundle)).spec.hazard[1]
    assert (told.name, told.unit) == ("mmi", "MMI")
    assert told.mean == pytest.approx(np.nanmean(mmi), abs=1e-5)
    assert told.std == pytest.approx(np.nanstd(mmi), abs=1e-5)


def test_evaluate_prints_figures_masked_and_compared(
    checkpoint_file: Path, store: MadeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "figures.jsonl"
    code = evaluate_command(
        [
            *(str(checkpoint_file), str(checkpoint_file)),
            *("--mask", "all", "--mask", "mmi,pga_g", "--draws", "20", "-o", str(out)),
        ]
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert out.read_text().splitlines() == [json.dumps(line) for line in lines]
    assert "standing" in lines.pop(0)
    plain_line, all_masked, two_masked = lines[:3]
    assert [line["masked"] for line in lines[:3]] == ["", "all", "mmi,pga_g"]
    gap = all_masked["less_than_plain"]["accuracy"]["value"]
    assert gap == pytest.approx(plain_line["accuracy"] - all_masked["accuracy"], abs=1e-5)
    assert two_masked["macro_auc"] != all_masked["macro_auc"]
    kinds = [line["kind"] for line in lines if "kind" in line]
    assert kinds == [f"tiny (qmf_tiny){m}" for m in ("", " without all", " without mmi,pga_g")]
    over = next(line for line in lines if line.get("kind", "").endswith("all"))
    assert over["runs"] == 2
    assert over["less"]["over_seeds"]["accuracy"]["value"] == pytest.approx(-gap, abs=1e-5)
    assert over["over_seeds"]["accuracy"]["low"] == over["over_seeds"]["accuracy"]["high"]


def test_evaluate_says_in_a_line_what_is_wrong(
    checkpoint_file: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (
            [str(checkpoint_file), "--mask", "snow"],
            "--mask: unknown hazard value: expected one of dpm, mmi",
        ),
        ([str(bundle)], "chips.zarr: no training store"),
        (["damage-synthetic"], "a segmentation bundle"),
        (["runs/nothing/checkpoint.pt"], "runs/nothing/checkpoint.pt: not a checkpoint"),
        ([str(checkpoint_file), "--regions", "mars"], "unknown region: "),
    ):
        assert evaluate_command(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1


def test_explain_writes_a_table_and_a_figure(
    bundle: Path, store: MadeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--buildings", "6", "--background", "3", "--deals", "1", "--source", store.uri]
    assert explain_command([str(bundle), "-o", str(tmp_path), *options]) == 0
    told = json.loads((tmp_path / "explanation.json").read_text())
    assert told["players"] == ["image", "dpm", "mmi + pga_g", "vs30_m_s"]
    assert told["classes"] == list(CLASSES)
    assert told["coalitions"] == 16
    shares = np.array(told["share"]).sum(axis=0)
    np.testing.assert_allclose(shares, 1.0, atol=1e-5)
    assert "| mmi + pga_g |" in (tmp_path / "explanation.md").read_text()
    assert (tmp_path / "explanation.svg").read_text().startswith("<svg")
    assert "| mmi + pga_g |" in capsys.readouterr().out


def test_a_checkpoint_is_explained_as_its_bundle(
    bundle: Path, checkpoint_file: Path, store: MadeStore
) -> None:
    """Torch or ONNX Runtime: what calibration does apart, the same order of importance."""
    depth = ExplainOptions(buildings=5, background=2, deals=1)
    a = explain_model(str(bundle), EvaluationRequest(source=store.uri), depth)
    b = explain_model(str(checkpoint_file), EvaluationRequest(), depth)
    assert a.players == b.players
    assert a.additivity < 1e-6
    assert b.additivity < 1e-6


def test_export_asks_what_a_model_was_trained_on(
    checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_command([str(checkpoint_file), "-o", str(tmp_path / "b")]) == 2
    assert "--data and --licence" in capsys.readouterr().err


def test_a_hazard_network_ships_from_points(tmp_path: Path) -> None:
    """`vectors`: the table of a survey, no image; figures agree between torch and the bundle."""
    rng = np.random.default_rng(0)
    count = 400
    label_N = rng.integers(0, 5, count)
    file = tmp_path / "points.csv"
    lines = ["lon,lat,label,pga_g,dpm"]
    for i in range(count):
        lon, lat = 36.9 + 0.2 * rng.random(), 37.5 + 0.2 * rng.random()
        lines.append(f"{lon},{lat},{label_N[i]},{0.1 * label_N[i] + rng.random()},{rng.random()}")
    file.write_text("\n".join(lines) + "\n")
    config = VectorsConfig(
        recipe="points",
        network="hazard_mlp",
        source=str(file),
        points=Points(features=("pga_g", "dpm")),
        rows=RowSplit(split="blocks", block=0.02, buffer=0.002, folds=4),
    )
    lesson = open_vectors(config)
    checkpoint = Checkpoint(
        config=config,
        weights=lesson.network().state_dict(),
        step=0,
        figures={},
        inputs=lesson.inputs,
        facts=lesson.facts(),
    )
    folder = tmp_path / "hazard-points"
    spec = export_bundle(checkpoint, folder, ExportOptions(data="made up", licence="Apache-2.0"))
    assert (spec.task, spec.epochs, spec.window_px) == ("hazard", (), 0)
    model, _ = class_model(str(folder))
    held = evaluation_set(config)
    report = class_report(held.scored(model.as_probabilities(held.logits(model))))
    assert spec.metrics["macro_auc"] == pytest.approx(report["macro_auc"], abs=1e-4)


def drawn(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits whose best temperature is 1/0.3 and whose classes have shares 0.7, 0.2, 0.1."""
    rng = np.random.default_rng(seed)
    label_N = rng.choice(3, count, p=[0.7, 0.2, 0.1])
    seen_NC = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[label_N]
    return 0.3 * (1.5 * seen_NC + np.array([0.5, -1.0, 0.5])), label_N


def test_calibration_finds_temperature_and_prior() -> None:
    logit_NC, label_N = drawn(20_000, 0)
    shares = calibrate_classes(logit_NC, label_N, prior_C=(0.7, 0.2, 0.1))
    assert shares.temperature == pytest.approx(0.3, rel=0.1)
    p_NC = shares.probabilities(logit_NC)
    np.testing.assert_allclose(p_NC.mean(axis=0), [0.7, 0.2, 0.1], atol=0.01)
    equal = calibrate_classes(logit_NC, label_N)
    # At the other prior the same evidence: odds differ by the ratio of the priors alone.
    odds = np.log(p_NC / equal.probabilities(logit_NC))
    expected = np.log([0.7, 0.2, 0.1])
    moved = (odds - odds.mean(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(moved, expected - expected.mean(), atol=0.1)


def test_calibration_lowers_the_loss_of_new_items() -> None:
    logit_NC, label_N = drawn(3_000, 1)
    other_NC, truth_N = drawn(3_000, 2)
    shares = np.bincount(label_N) / len(label_N)
    found = calibrate_classes(logit_NC, label_N, prior_C=shares)
    alone = calibrate_classes(logit_NC, label_N, prior_C=shares, offsets=False)
    raw = np.exp(other_NC) / np.exp(other_NC).sum(axis=1, keepdims=True)
    losses = [
        log_loss(truth_N, p)
        for p in (found.probabilities(other_NC), alone.probabilities(other_NC), raw)
    ]
    assert losses[0] < losses[1] < losses[2]
    assert alone.offset_C == (0.0, 0.0, 0.0)


def test_calibration_needs_two_classes_and_takes_an_absent_one() -> None:
    logit_NC, label_N = drawn(500, 3)
    with pytest.raises(RequestError, match="two classes or more"):
        calibrate_classes(logit_NC, np.zeros(500, np.int64))
    two = calibrate_classes(logit_NC[label_N < 2], label_N[label_N < 2])
    assert two.offset_C[2] == 0.0
    assert np.isfinite(two.probabilities(logit_NC)).all()


def test_severe_is_major_or_worse() -> None:
    assert first_severe(scale_of(CLASSES)) == 1
    assert first_severe(scale_of(("none", "slight", "heavy", "to_be_demolished", "collapsed"))) == 2
    mild = tuple(replace(c, xbd="minor") for c in scale_of(("intact", "destroyed")))
    assert first_severe(mild) == 1


def test_thresholds_are_of_the_cumulative_probability() -> None:
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 3, 600)
    score = np.exp(1.2 * np.eye(3)[label_N] + rng.normal(size=(600, 3)))
    p_NC = score / score.sum(axis=1, keepdims=True)
    chosen = choose_class_thresholds(p_NC, label_N, 1)
    severe_N = label_N >= 1
    p_N = p_NC[:, 1:].sum(axis=1)
    assert (p_N[~severe_N] >= chosen.high_precision).mean() <= 0.02
    assert (p_N[severe_N] >= chosen.high_recall).mean() >= 0.95
    assert chosen.high_recall <= chosen.balanced <= chosen.high_precision
    judged = ScoredRows(row_N=np.arange(600), p_NC=p_NC, label_N=label_N, block_N=np.arange(600))
    points = severe_points(judged, scale_of(CLASSES), chosen)["operating_points"]
    assert points["high_recall"]["recall"] >= 0.95
    with pytest.raises(RequestError, match="0 severe of"):
        choose_class_thresholds(p_NC[label_N == 0], label_N[label_N == 0], 1)


def test_a_report_has_intervals_and_json_has_no_nan() -> None:
    rng = np.random.default_rng(0)
    label_N = np.array([0] * 60 + [1] * 30 + [2] * 5)
    p_NC = rng.dirichlet(np.ones(3), 95)
    judged = ScoredRows(row_N=np.arange(95), p_NC=p_NC, label_N=label_N, block_N=np.arange(95) // 4)
    told = plain(class_report(judged, draws=50))
    assert told["auc"][2] is None
    assert told["auc"][0] == pytest.approx(roc_auc_score(label_N == 0, p_NC[:, 0]), abs=1e-6)
    assert told["macro_auc_95"][0] < told["macro_auc"] < told["macro_auc_95"][1]
    json.dumps(told, allow_nan=False)
    same = apart(judged, judged, draws=20)
    assert same["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_verdicts_are_those_of_the_main_job() -> None:
    """The rule is written twice, for tallies and for tables of probabilities: it has to agree."""
    rng = np.random.default_rng(4)
    classes = scale_of(("none", "slight", "heavy", "to_be_demolished", "collapsed"))
    p_NC = rng.dirichlet(np.full(5, 0.6), 300)
    whole_NC = np.rint(p_NC * PROBABILITY_ONE).astype(np.int64)
    spec = replace(load_bundle("damage-synthetic").spec, classes=classes)
    quality_NQ = np.zeros((300, len(Quality)), np.int64)
    quality_NQ[:, Quality.VALID] = 100
    tally = Tally(
        building_N=np.arange(300),
        sum_NC=whole_NC,
        pixels_NQ=quality_NQ,
        change_N=np.zeros(300, np.int64),
    )
    expected_N = decide(tally, spec).damage_N
    label_N = rng.integers(0, 5, 300)
    judged = ScoredRows(
        row_N=np.arange(300),
        p_NC=whole_NC / whole_NC.sum(axis=1, keepdims=True),
        label_N=label_N,
        block_N=np.arange(300),
    )
    told = verdict_report(judged, spec.thresholds.balanced)
    counts = confusion_matrix(label_N, expected_N, labels=range(5))
    np.testing.assert_array_equal(told["confusion"], counts)


def test_calibration_is_judged_at_the_prior_it_was_made_for() -> None:
    logit_NC, label_N = drawn(20_000, 5)
    found = calibrate_classes(logit_NC, label_N)
    other_NC, truth_N = drawn(20_000, 6)
    judged = ScoredRows(
        row_N=np.arange(20_000),
        p_NC=found.probabilities(other_NC),
        label_N=truth_N,
        block_N=np.arange(20_000),
    )
    at_prior = calibration_report(judged, found.prior_C)
    as_it_comes = class_report(judged, draws=0)
    assert at_prior["classwise_error_at_prior"] < 0.03
    assert as_it_comes["classwise_error"] > 0.1
