"""A bundle out of an untrained network: it opens, and ONNX Runtime agrees with torch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from quakestream.bundles import load_bundle
from quakestream.errors import EngineError
from training.calibrate import Calibration
from training.checkpoints import Checkpoint
from training.config import TrainConfig
from training.export import bundle_spec, write_bundle
from training.networks import build_network
from training.onnx_graph import INPUTS, OPSET, BundleGraph, check_parity, golden_inputs, run_onnx

METRICS = {
    "destroyed": 20,
    "intact": 200,
    "auc": 0.9,
    "auc_95": (0.85, 0.95),
    "difference_auc": 0.6,
    "average_precision": 0.5,
    "calibration_error": 0.02,
    "prior": 0.1,
    "operating_points": {
        name: {"threshold": t, "recall": 0.8, "false_alarm_rate": 0.1, "precision": 0.5}
        for name, t in (("high_precision", 0.7), ("balanced", 0.3), ("high_recall", 0.1))
    },
}


@pytest.fixture(scope="module")
def graph() -> BundleGraph:
    torch.manual_seed(0)
    return BundleGraph(build_network("fc_siam_diff_small")).eval()


@pytest.fixture(scope="module")
def bundle_folder(graph: BundleGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "damage-test"
    config = TrainConfig(
        recipe="tiny", network="fc_siam_diff_small", window_px=128, halo_px=32, source="synthetic"
    )
    checkpoint = Checkpoint(config=config, weights={}, step=3, figures={})
    calibration = Calibration(temperature=1.5, prior=0.5)
    spec = bundle_spec(checkpoint, folder.name, calibration, METRICS)
    write_bundle(graph, spec, folder)
    return folder


def test_the_bundle_opens_and_says_what_it_is(bundle_folder: Path) -> None:
    bundle = load_bundle(str(bundle_folder))
    spec = bundle.spec
    assert (spec.name, spec.window_px, spec.core_px) == ("damage-test", 128, 64)
    assert (spec.task, spec.normalisation, spec.epochs) == (
        "segmentation",
        "per_scene",
        ("pre", "post"),
    )
    assert spec.labels == ("intact", "destroyed")
    assert spec.thresholds.balanced == 0.3
    assert spec.temperature == 1.5
    card = (bundle_folder / "card.md").read_text()
    assert "damage-test" in card
    assert "{" not in card


def test_the_golden_batch_is_what_torch_says(bundle_folder: Path, graph: BundleGraph) -> None:
    golden = dict(load_bundle(str(bundle_folder)).golden)
    logits = golden.pop("logits")
    assert tuple(golden) == INPUTS or set(golden) == set(INPUTS)
    with torch.inference_mode():
        expected = graph(**{k: torch.from_numpy(v) for k, v in golden.items()}).numpy()
    assert logits.shape == (1, 1, 128, 128)
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_the_batch_is_not_baked_in_and_windows_do_not_mix(bundle_folder: Path) -> None:
    path = bundle_folder / "model.onnx"
    inputs = golden_inputs(128, count=5, seed=9)
    together = run_onnx(path, inputs)
    for n in range(5):
        alone = run_onnx(path, {k: v[n : n + 1] for k, v in inputs.items()})
        np.testing.assert_allclose(together[n : n + 1], alone, atol=1e-4)


def test_each_input_reaches_the_place_it_is_named_for(
    bundle_folder: Path, graph: BundleGraph
) -> None:
    """Six different inputs: an exporter that mixes up their order is found out."""
    inputs = golden_inputs(128, count=2, seed=4)
    rng = np.random.default_rng(0)
    for name in INPUTS[2:]:
        inputs[name] = rng.uniform(30, 120, (2, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = graph(**{k: torch.from_numpy(v) for k, v in inputs.items()}).numpy()
    np.testing.assert_allclose(run_onnx(bundle_folder / "model.onnx", inputs), expected, atol=1e-3)


def test_the_graph_is_uint8_in_and_carries_no_traces(bundle_folder: Path) -> None:
    data = (bundle_folder / "model.onnx").read_bytes()
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model)
    kinds = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    assert tuple(kinds) == INPUTS
    assert {kinds["pre"], kinds["post"]} == {onnx.TensorProto.UINT8}
    assert [o.version for o in model.opset_import if o.domain == ""] == [OPSET]
    assert b"site-packages" not in data


def test_a_graph_that_differs_is_refused(bundle_folder: Path) -> None:
    torch.manual_seed(1)
    other = BundleGraph(build_network("fc_siam_diff_small")).eval()
    with pytest.raises(EngineError, match="differs from torch"):
        check_parity(other, bundle_folder / "model.onnx", window_px=128)
