"""Graphs in eight bits: what stays as it is, what is moved, and what keeps one from shipping."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quakestream.bundles import Bundle, load_bundle, shipped_names
from quakestream.engines import Batch, Engine, open_engine
from quakestream.engines.openvino import INT8_GRAPH
from quakestream.errors import BundleError, RequestError
from quakestream.testing import write_hazard_bundle
from tests.helpers.rubble import rubble_town
from training.config import PairsConfig
from training.data.slide_chips import ChipSetInfo, write_chip, write_info
from training.onnx_graph import run_onnx
from training.onnx_nodes import GraphNodes
from training.quantise import QuantisedGraph, quantise, write_quantised
from training.quantise_data import CalibrationData, EngineResult
from training.quantise_gate import calibration_data, pair_calibration_data
from training.quantise_graph import HEAVY, closing, heavy, normalisation, quantised
from training.quantise_slides import slide_calibration_data, windows
from training.settings import from_json

pytest.importorskip("nncf")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("damage-synthetic")


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> list[dict[str, np.ndarray]]:
    """The golden window, turned twice: other statistics of activations, the same town."""
    given = {name: a for name, a in bundle.golden.items() if name != "logits"}
    return [
        {
            n: np.ascontiguousarray(np.rot90(a, k, (2, 3))) if a.ndim == 4 else a
            for n, a in given.items()
        }
        for k in range(2)
    ]


@pytest.fixture(scope="module")
def graph(bundle: Bundle, samples: list[dict[str, np.ndarray]]) -> bytes:
    return quantised(bundle.graph, samples)


def verdicts(engine: Engine, bundle: Bundle) -> np.ndarray:
    """Squares of 32 px of the golden window, as if each were a building."""
    logits = engine.score(Batch.of(bundle.golden, bundle.spec))
    assert logits is not None
    return logits[0, 0].reshape(16, 32, 16, 32).mean(axis=(1, 3)).ravel() > 0


def test_every_heavy_layer_is_quantised_and_the_normalisation_is_not(graph: bytes) -> None:
    model = onnx.load_model_from_string(graph)
    made_by = {out: node for node in model.graph.node for out in node.output}
    for node in model.graph.node:
        kinds = [made_by[i].op_type for i in node.input[:2] if i in made_by]
        if node.op_type in HEAVY:
            assert "DequantizeLinear" in kinds, node.name
    for name in normalisation(onnx.load_model_from_string(graph)):
        node = next(n for n in model.graph.node if n.name == name)
        assert not any(made_by[i].op_type == "DequantizeLinear" for i in node.input if i in made_by)


def test_means_of_probabilities_after_the_last_layer_keep_their_digits() -> None:
    """In eight bits the mean of a town where one pixel in a thousand is rubble would be 0."""
    rng, nodes = np.random.default_rng(0), GraphNodes()
    kernel = nodes.constant(rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    last = nodes.constant(rng.normal(size=(1, 4, 1, 1)).astype(np.float32))
    hidden = nodes.add("Relu", nodes.add("Conv", "image", kernel, pads=[1] * 4))
    rare = nodes.add("Sub", nodes.add("Conv", hidden, last), nodes.constant(np.float32(8)))
    mean = nodes.add("AveragePool", nodes.add("Sigmoid", rare), kernel_shape=[8] * 2)
    float32 = nodes.model(
        {"image": (onnx.TensorProto.FLOAT, (3, 8, 8))},
        (nodes.add("Log", mean), "logits", (1, 1, 1)),
    )
    samples = [{"image": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]
    made = quantised(float32, samples)
    model = onnx.load_model_from_string(made)
    kinds = [node.op_type for node in model.graph.node if node.name in set(closing(model))]
    assert kinds == ["Sub", "Sigmoid", "AveragePool", "Log", "Identity"]
    expected, found = (run_onnx(graph, samples[0]) for graph in (float32, made))
    assert found == pytest.approx(expected, abs=0.1)
    assert expected < -5


def test_activations_are_unsigned_and_weights_have_a_scale_a_channel(graph: bytes) -> None:
    model = onnx.load_model_from_string(graph)
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    zeros = [constants[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert zeros
    assert {zero.dtype for zero in zeros} == {np.dtype(np.uint8)}
    weights = [
        constants[n.input[1]].size
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in constants
    ]
    assert len(weights) >= len(set(heavy(graph))) / 2
    assert max(weights) > 1


def test_the_graph_says_nearly_the_same_and_is_centred_on_it(
    bundle: Bundle, graph: bytes, samples: list[dict[str, np.ndarray]]
) -> None:
    moved = [run_onnx(graph, s) - run_onnx(bundle.graph, s) for s in samples]
    assert abs(np.mean(moved)) < 1e-4
    assert 0 < np.abs(moved).mean() < 0.1 * bundle.golden["logits"].std()


def test_openvino_reads_it_as_onnx_runtime_does(
    bundle: Bundle, graph: bytes, samples: list[dict[str, np.ndarray]]
) -> None:
    """Signed activations before a concatenation, it does not."""
    metrics = {"int8": {"model_sha256": hashlib.sha256(bundle.graph).hexdigest()}}
    made = replace(
        bundle,
        spec=replace(bundle.spec, metrics=metrics),
        files={**bundle.files, INT8_GRAPH: graph},
    )
    got = open_engine(made, runtime="openvino-int8").score(Batch.of(samples[0], bundle.spec))
    expected = run_onnx(graph, samples[0])
    assert np.abs(got - expected).mean() < 0.01 * expected.std()


def test_a_graph_as_good_as_before_ships(
    bundle: Bundle, samples: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    def judge(engine: Engine) -> EngineResult:
        return EngineResult(auc=0.9, severe_N=verdicts(engine, bundle))

    made = quantise(
        bundle, CalibrationData(samples=samples, judge=judge, about={"judged_on": "squares"})
    )
    assert made.passed
    assert made.figures["in_float32"] == []
    spec = write_quantised(bundle, made, tmp_path / "out")
    assert spec.metrics["int8"]["judged_on"] == "squares"
    assert spec.metrics["auc"] == bundle.spec.metrics["auc"]
    written = load_bundle(str(tmp_path / "out"))
    assert written.file(INT8_GRAPH) == made.graph
    assert "int8" in open_engine(written, runtime="openvino-int8").name


@pytest.mark.slow
def test_a_graph_that_ranks_worse_does_not_ship_however_many_layers_are_spared(
    bundle: Bundle, samples: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    def judge(engine: Engine) -> EngineResult:
        auc = 0.89 if "int8" in engine.name else 0.9
        return EngineResult(auc=auc, severe_N=np.zeros(100, bool))

    made = quantise(bundle, CalibrationData(samples=samples[:1], judge=judge, about={}))
    assert not made.passed
    with pytest.raises(RequestError, match="nothing was written"):
        write_quantised(bundle, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("drop", "changed", "says"),
    [
        (0.0, 0.03, r"at most 2% of verdicts .*3\.0% of verdicts changed"),
        (0.01, 0.0, r"AUC 0\.9000 down by 0\.0100, .*nothing was written"),
    ],
)
def test_a_graph_that_ranks_worse_or_judges_otherwise_does_not_ship(
    bundle: Bundle, tmp_path: Path, drop: float, changed: float, says: str
) -> None:
    figures = {"auc_fp32": 0.9, "drop": drop, "verdicts_changed": changed}
    with pytest.raises(RequestError, match=says):
        write_quantised(bundle, QuantisedGraph(graph=b"", figures=figures), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("f1_drop", "changed", "passes"),
    [(0.004, 0.04, True), (0.006, 0.0, False), (0.0, 0.06, False)],
)
def test_a_landslide_graph_is_held_to_f1_and_to_the_ground_that_it_declares(
    f1_drop: float, changed: float, passes: bool
) -> None:
    figures = {"drop": 0.0, "f1_drop": f1_drop, "verdicts_changed": changed}
    assert QuantisedGraph(graph=b"", figures=figures).passed == passes


def test_changed_ground_is_counted_among_what_either_declares() -> None:
    before, after = np.zeros((2, 1000), bool)
    before[:10], after[1:11] = True, True
    old, new = (EngineResult(auc=0.9, severe_N=s, f1=0.8) for s in (before, after))
    assert new.changed(old) == pytest.approx(2 / 11)
    assert replace(new, f1=None).changed(replace(old, f1=None)) == pytest.approx(2 / 1000)


def test_chips_fill_windows_side_by_side_in_physical_units(tmp_path: Path) -> None:
    bands = ("red", "slope")
    write_info(tmp_path, ChipSetInfo(bands=bands, physical_per_stored=(0.1, 15.0)))
    for part, count in (("train", 9), ("test", 4)):
        for number in range(count):
            mask = np.zeros((16, 16), np.uint8)
            mask[:8] = number % 2
            image = np.stack([np.full((16, 16), number), 2.0 * mask]).astype(np.float32)
            write_chip(tmp_path, part, str(number), image, mask)
    spec = replace(load_bundle("landslide-s2-synthetic").spec, bands=bands, window_px=32, halo_px=8)
    found = list(windows(spec, tmp_path, "train"))
    assert len(found) == 2  # the ninth chip is left over
    post, mask = found[1][0]["post"], found[1][1]
    assert post.dtype == np.float32
    np.testing.assert_allclose(post[0, 0, ::16, ::16], [[0.4, 0.5], [0.6, 0.7]])
    np.testing.assert_array_equal(post[0, 1], 30.0 * mask)
    assert mask[:8, 16:].all()
    assert mask.sum() == 2 * 8 * 16
    material = slide_calibration_data(spec, tmp_path, 1)
    assert material.about["landslide_pixels"] == 2 * 8 * 16
    (nine,) = windows(replace(spec, window_px=40), tmp_path, "train")
    assert nine[0]["post"].shape == (1, 2, 40, 40)  # 48 px, cut
    np.testing.assert_allclose(nine[0]["post"][0, 0, ::16, ::16].ravel(), 0.1 * np.arange(9))
    with pytest.raises(RequestError, match="at least 9 in train and in test"):
        slide_calibration_data(replace(spec, window_px=40), tmp_path, 1)


@pytest.mark.parametrize(
    "name", [n for n in shipped_names() if "int8" in load_bundle(n).spec.metrics]
)
def test_every_shipped_graph_in_eight_bits_passed_the_gate(name: str) -> None:
    shipped = load_bundle(name)
    figures = shipped.spec.metrics["int8"]
    assert shipped.file(INT8_GRAPH) is not None
    assert QuantisedGraph(graph=b"", figures=figures).passed
    assert ("f1_drop" in figures) == (shipped.spec.task == "landslide")


def test_eight_bits_of_another_graph_are_refused(bundle: Bundle) -> None:
    other = replace(bundle, files={**bundle.files, "model.onnx": bundle.graph + b"\0"})
    with pytest.raises(BundleError, match=r"was not made from this bundle's model\.onnx"):
        open_engine(other, runtime="openvino-int8")
    without = {name: data for name, data in bundle.files.items() if name != INT8_GRAPH}
    with pytest.raises(BundleError, match=r"training\.quantise"):
        open_engine(replace(bundle, files=without), runtime="openvino-int8")


def test_a_bundle_without_imagery_has_nothing_to_calibrate_on(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected a bundle of images"):
        calibration_data(load_bundle(str(write_hazard_bundle(tmp_path / "b"))))


def test_other_regions_judge_than_calibrate(bundle: Bundle) -> None:
    pairs = [rubble_town(name, seed) for seed, name in enumerate("abc")]
    config = from_json(bundle.spec.training["config"])
    assert isinstance(config, PairsConfig)
    material = pair_calibration_data(bundle.spec, config, pairs, frozenset("a"), samples=3)
    assert 1 <= len(material.samples) <= 3
    assert {a.shape for s in material.samples for n, a in s.items() if n in ("pre", "post")} == {
        (1, 3, 512, 512)
    }
    assert material.about["calibrated_on"] == ["a"]
    assert material.about["judged_on"] == ["b", "c"]
    assert material.about["destroyed"] + material.about["intact"] == 128
    answers = material.judge(open_engine(bundle))
    assert answers.auc > 0.95
    assert answers.severe_N.shape == (128,)


def test_regions_that_leave_no_judge_are_refused_and_all_are_named(bundle: Bundle) -> None:
    pairs = [rubble_town(name, seed) for seed, name in enumerate("ab")]
    config = from_json(bundle.spec.training["config"])
    assert isinstance(config, PairsConfig)
    for regions in ({"a", "b"}, set(), {"z"}):
        with pytest.raises(RequestError, match="expected some of a, b"):
            pair_calibration_data(bundle.spec, config, pairs, frozenset(regions))
