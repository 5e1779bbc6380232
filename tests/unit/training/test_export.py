"""Bundles out of untrained networks: they open, and ONNX Runtime agrees with torch."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pystac
import pytest
import torch

from quakestream.bundles import load_bundle, shipped_names
from quakestream.domain import BundleSpec, HazardInput
from quakestream.errors import ConfigError, EngineError, RequestError
from quakestream.synthetic.shaking import GRADES
from tests.helpers.mlm_case import MLM_RULES
from training.calibrate import PixelCalibration
from training.checkpoints import Checkpoint
from training.config import PairsConfig
from training.data.labels import SCALES
from training.data.vectors import FIELD_CLASSES
from training.export import write_bundle
from training.graphs import BuildingGraph, BundleGraph, HazardGraph, SegmentationGraph
from training.lessons.pairs import halo_of
from training.manifests import architecture, bundle_spec
from training.networks import NetworkInputs, build_network, network_names
from training.onnx_graph import OPSET, check_parity, export_onnx, run_onnx, wide_numbers
from training.scales import scale_of
from training.settings import new_config

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
CLASS_METRICS = {
    **{k: METRICS[k] for k in ("operating_points",)},
    "split": "block fold 0 of 5",
    "items": 220,
    "support": [180, 30, 10],
    "auc": [0.8, 0.75, None],
    "macro_auc": 0.775,
    "macro_auc_95": (0.7, 0.83),
    "macro_f1": 0.5,
    "accuracy": 0.8,
    "distance": [0.8, 0.15, 0.05],
    "top_label_error_at_prior": 0.03,
    "first_severe": 1,
    "verdict": {"macro_f1": 0.48, "accuracy": 0.77},
}
HAZARD = (
    HazardInput(name="mmi", unit="1", mean=7.5, std=0.8),
    HazardInput(name="pga_g", unit="g", mean=0.3, std=0.1),
    HazardInput(name="vs30_m_s", unit="m/s", mean=400.0, std=120.0),
)
HAZARD_GROUPS = (2, 1)
CROP_PX = 64


@pytest.fixture(scope="module")
def graph() -> BundleGraph:
    torch.manual_seed(0)
    return SegmentationGraph(build_network("fc_siam_diff_small"), window_px=128).eval()


@pytest.fixture(scope="module")
def bundle_folder(graph: BundleGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "damage-test"
    config = new_config(
        PairsConfig,
        recipe="tiny",
        network="fc_siam_diff_small",
        window_px=128,
        halo_px=32,
        source="synthetic",
    )
    checkpoint = Checkpoint(config=config, weights={}, step=3, figures={})
    calibration = PixelCalibration(temperature=1.5, prior=0.5)
    spec = bundle_spec(checkpoint, folder.name, calibration, METRICS)
    write_bundle(graph, spec, folder)
    return folder


def test_a_medium_network_ships_with_the_margin_that_it_needs() -> None:
    config = new_config(PairsConfig, recipe="m", network="fc_siam_diff_medium", source="synthetic")
    network = build_network(config.network)
    checkpoint = Checkpoint(config=config, weights=network.state_dict(), step=1, figures={})
    spec = bundle_spec(checkpoint, "m", PixelCalibration(temperature=1.0, prior=0.5), METRICS)
    assert spec.halo_px == halo_of(config, network) == 96


@pytest.fixture(scope="module")
def building_graph() -> BundleGraph:
    """The hardest of them: two epochs, hazard values, a learned token where they are missing."""
    torch.manual_seed(0)
    inputs = NetworkInputs(
        crop_px=CROP_PX, bands=6, classes=3, hazard_groups=HAZARD_GROUPS, learned_missing=True
    )
    return BuildingGraph(
        build_network("qmf_tiny", inputs=inputs),
        epochs=("pre", "post"),
        crop_px=CROP_PX,
        hazard=HAZARD,
        offset_C=(0.2, -0.3, 0.1),
    ).eval()


@pytest.fixture(scope="module")
def building_folder(building_graph: BundleGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "grades-test"
    write_bundle(building_graph, building_spec(folder.name), folder, counts=(1, 3, 32))
    return folder


def building_spec(name: str) -> BundleSpec:
    return BundleSpec(
        name=name,
        version="1",
        task="building",
        epochs=("pre", "post"),
        bands=("red", "green", "blue"),
        gsd_m=0.5,
        window_px=CROP_PX,
        halo_px=0,
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
        hazard=HAZARD,
        hazard_groups=HAZARD_GROUPS,
        classes=scale_of(("slight", "heavy", "destroyed")),
        prior=(0.5, 0.3, 0.2),
        temperature=0.8,
        metrics=CLASS_METRICS,
        training={
            "data": "none",
            "licence": "Apache-2.0",
            "config": {"network": "qmf_tiny", "source": "nowhere", "grades": {"gamma": 4.0}},
        },
    )


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


@pytest.mark.parametrize("task", ["segmentation", "building"])
def test_the_golden_batch_is_what_torch_says(task: str, request: pytest.FixtureRequest) -> None:
    names = {"segmentation": ("bundle_folder", "graph")}.get(
        task, ("building_folder", "building_graph")
    )
    folder, graph = (request.getfixturevalue(name) for name in names)
    golden = dict(load_bundle(str(folder)).golden)
    logits = golden.pop("logits")
    assert set(golden) == set(graph.names)
    assert logits.shape == ((1, 1, 128, 128) if task == "segmentation" else (1, 3))
    np.testing.assert_allclose(logits, graph.run(golden), atol=1e-3)


def test_the_batch_is_not_baked_in_and_windows_do_not_mix(
    bundle_folder: Path, graph: BundleGraph
) -> None:
    path = bundle_folder / "model.onnx"
    inputs = graph.example(count=5, seed=9)
    together = run_onnx(path, inputs)
    for n in range(5):
        alone = run_onnx(path, {k: v[n : n + 1] for k, v in inputs.items()})
        np.testing.assert_allclose(together[n : n + 1], alone, atol=1e-4)


@pytest.mark.parametrize("task", ["segmentation", "building"])
def test_each_input_reaches_the_place_it_is_named_for(
    task: str, request: pytest.FixtureRequest
) -> None:
    """All inputs different: an exporter that mixes up their order is found out."""
    names = {"segmentation": ("bundle_folder", "graph")}.get(
        task, ("building_folder", "building_graph")
    )
    folder, graph = (request.getfixturevalue(name) for name in names)
    inputs = graph.example(count=2, seed=4)
    rng = np.random.default_rng(0)
    for name in inputs:
        if name.endswith("_NB"):
            inputs[name] = rng.uniform(30, 120, (2, 3)).astype(np.float32)
    np.testing.assert_allclose(
        run_onnx(folder / "model.onnx", inputs), graph.run(inputs), atol=1e-3
    )


@pytest.mark.parametrize("fixture", ["bundle_folder", "building_folder"])
def test_the_graph_is_uint8_in_and_carries_no_traces(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(fixture)
    data = (folder / "model.onnx").read_bytes()
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model)
    kinds = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    assert {kinds["pre"], kinds["post"]} == {onnx.TensorProto.UINT8}
    assert {v for k, v in kinds.items() if k not in ("pre", "post")} == {onnx.TensorProto.FLOAT}
    assert [o.version for o in model.opset_import if o.domain == ""] == [OPSET]
    assert not list(wide_numbers(model))
    assert b"site-packages" not in data
    assert str(Path.cwd()).encode() not in data


def test_a_graph_that_differs_is_refused(bundle_folder: Path) -> None:
    torch.manual_seed(1)
    other = SegmentationGraph(build_network("fc_siam_diff_small"), window_px=128).eval()
    with pytest.raises(EngineError, match="differs from torch"):
        check_parity(other, bundle_folder / "model.onnx")


def test_a_building_bundle_opens_and_says_what_it_takes(building_folder: Path) -> None:
    bundle = load_bundle(str(building_folder))
    spec = bundle.spec
    assert (spec.task, spec.window_px, spec.halo_px) == ("building", CROP_PX, 0)
    assert spec.hazard == HAZARD
    assert spec.hazard_groups == HAZARD_GROUPS
    assert spec.prior == (0.5, 0.3, 0.2)
    assert set(bundle.golden) == {
        *("pre", "post", "pre_mean_NB", "pre_std_NB", "post_mean_NB", "post_std_NB"),
        *("hazard", "logits"),
    }
    card = (building_folder / "card.md").read_text()
    assert "| destroyed | Destroyed | 4, 5 | 10 | – |" in card
    assert "mmi (1), pga_g (g), vs30_m_s (m/s)" in card
    assert "{" not in card


def test_a_missing_hazard_value_counts_as_the_mean(
    building_folder: Path, building_graph: BundleGraph
) -> None:
    """z-scores and what is made of NaN are inside the graph, in float32, row by row."""
    path = building_folder / "model.onnx"
    inputs = building_graph.example(count=4, seed=2)
    inputs["hazard"] = np.array(
        [[np.nan, 0.4, 300.0], [7.5, 0.4, 300.0], [np.nan, np.nan, 300.0], [7.0, 0.2, np.nan]],
        np.float32,
    )
    for name in inputs:
        if name != "hazard":
            inputs[name] = np.repeat(inputs[name][:1], 4, axis=0)
    logits = run_onnx(path, inputs)
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    assert np.isfinite(logits).all()
    assert np.abs(logits[2] - logits[1]).max() > 1e-3  # a group without any value: its own token
    mean = {**inputs, "hazard": inputs["hazard"].copy()}
    mean["hazard"][2, :2] = (7.5, 0.3)
    np.testing.assert_allclose(run_onnx(path, mean)[2], logits[2], atol=1e-5)


def test_the_offset_moves_logits_and_nothing_else(building_graph: BundleGraph) -> None:
    assert isinstance(building_graph, BuildingGraph)
    plain = BuildingGraph(
        building_graph.network, epochs=("pre", "post"), crop_px=CROP_PX, hazard=HAZARD
    ).eval()
    inputs = building_graph.example(count=3)
    moved = building_graph.run(inputs) - plain.run(inputs)
    np.testing.assert_allclose(moved, np.tile([0.2, -0.3, 0.1], (3, 1)), atol=1e-5)


def test_a_hazard_graph_takes_values_alone(tmp_path: Path) -> None:
    inputs = NetworkInputs(classes=5, hazard_groups=HAZARD_GROUPS)
    graph = HazardGraph(build_network("hazard_mlp", inputs=inputs), hazard=HAZARD).eval()
    folder = tmp_path / "hazard-test"
    spec = replace(
        building_spec(folder.name),
        task="hazard",
        epochs=(),
        bands=(),
        window_px=0,
        classes=scale_of(("none", "slight", "heavy", "to_be_demolished", "collapsed")),
        prior=(),
        metrics={**CLASS_METRICS, "support": [9] * 5, "auc": [0.5] * 5},
        training={"data": "none", "licence": "-", "config": {"network": "hazard_mlp"}},
    )
    write_bundle(graph, spec, folder, counts=(1, 3, 32))
    bundle = load_bundle(str(folder))
    assert set(bundle.golden) == {"hazard", "logits"}
    record = json.loads(bundle.files["mlm.json"])
    MLM_RULES.validate(record)
    assert [i["name"] for i in record["properties"]["mlm:input"]] == ["hazard"]


def test_a_hazard_value_without_spread_is_refused() -> None:
    flat = replace(HAZARD[0], std=0.0)
    network = build_network("hazard_mlp", inputs=NetworkInputs(hazard_groups=(1,)))
    with pytest.raises(ConfigError, match="hazard mmi: no spread to divide by"):
        HazardGraph(network, hazard=(flat,))


@pytest.mark.parametrize("fixture", ["bundle_folder", "building_folder"])
def test_the_record_is_what_the_extension_asks_for(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(fixture)
    record = json.loads((folder / "mlm.json").read_text())
    MLM_RULES.validate(record)
    item = pystac.Item.from_dict(record)
    model = onnx.load(folder / "model.onnx")
    inputs = {i["name"]: i for i in item.properties["mlm:input"]}
    assert list(inputs) == [i.name for i in model.graph.input]
    for value in model.graph.input:
        dims = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
        assert inputs[value.name]["input"]["shape"] == dims
        numpy_type = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        assert inputs[value.name]["input"]["data_type"] == numpy_type.name
    dims = [d.dim_value or -1 for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert item.properties["mlm:output"][0]["result"]["shape"] == dims
    size = (folder / "model.onnx").stat().st_size
    assert item.assets["model"].extra_fields["file:size"] == size


def test_the_record_belongs_to_the_bundle(building_folder: Path, tmp_path: Path) -> None:
    """It is hashed like every file, and changing it is found out."""
    assert "mlm.json" in json.loads((building_folder / "bundle.json").read_text())["sha256"]
    for file in building_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "mlm.json").write_text("{}")
    with pytest.raises(RequestError, match=r"mlm\.json differs from the manifest: expected sha256"):
        load_bundle(str(tmp_path))


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_bundle_has_its_record(name: str) -> None:
    bundle = load_bundle(name)
    record = json.loads(bundle.files["mlm.json"])
    MLM_RULES.validate(record)
    assert record["properties"]["mlm:name"] == bundle.spec.name
    classes = record["properties"]["mlm:output"][0]["classification:classes"]
    assert [c["name"] for c in classes] == list(bundle.spec.labels)
    digest = record["assets"]["model"]["file:checksum"].removeprefix("1220")
    assert digest == hashlib.sha256(bundle.graph).hexdigest()


def test_a_manifest_names_no_place_of_this_machine() -> None:
    config = PairsConfig(
        recipe="x", network="fc_siam_diff_small", init="/home/me/runs/first-1/checkpoint.pt"
    )
    checkpoint = Checkpoint(config=config, weights={}, step=3, figures={})
    spec = bundle_spec(checkpoint, "x", PixelCalibration(temperature=1.0, prior=0.5), METRICS)
    assert spec.training["config"]["init"] == "first-1/checkpoint.pt"
    assert "/home" not in json.dumps(spec.training)


@pytest.mark.parametrize("broken", ["mlm:name", "mlm:output", "mlm:tasks"])
def test_the_rules_find_what_is_missing(broken: str, building_folder: Path) -> None:
    record = json.loads((building_folder / "mlm.json").read_text())
    del record["properties"][broken]
    assert not MLM_RULES.is_valid(record)


def test_every_network_has_a_name_for_people() -> None:
    names = [architecture(n) for n in network_names()]
    assert len(set(names)) == len(names)
    assert architecture("fc_siam_conc_large") == "FC-Siam-Conc Large"
    assert architecture("qmf_2_resnorm") == "QuakeMetaFormer (MetaFormer-2, resnorm encoders)"


@pytest.mark.parametrize(
    "labels",
    [
        ("intact", "destroyed"),
        GRADES,
        FIELD_CLASSES,
        *(tuple(rule.label for rule in scale.classes) for scale in SCALES.values()),
    ],
)
def test_a_scale_of_a_store_holds_every_grade_once(labels: tuple[str, ...]) -> None:
    scale = scale_of(labels)
    assert [g for c in scale for g in c.ems98] == list(range(6))
    assert scale[-1].xbd == "destroyed"
    with pytest.raises(RequestError, match="no damage scale"):
        scale_of(labels[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ef", "siam_conc", "siam_diff"])
@pytest.mark.parametrize("width", ["small", "medium", "large"])
def test_every_pair_network_exports(mode: str, width: str, tmp_path: Path) -> None:
    graph = SegmentationGraph(build_network(f"fc_{mode}_{width}"), window_px=64).eval()
    export_onnx(graph, tmp_path / "model.onnx")
    assert check_parity(graph, tmp_path / "model.onnx") < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qif_tiny", "qmf_tiny_resnorm", "qmf_tiny_deepmlp", "qmf_0"])
def test_every_building_network_exports(name: str, tmp_path: Path) -> None:
    hazard = HAZARD if name.startswith("qmf") else ()
    inputs = NetworkInputs(
        crop_px=CROP_PX, classes=4, hazard_groups=HAZARD_GROUPS if hazard else ()
    )
    graph = BuildingGraph(
        build_network(name, inputs=inputs), epochs=("post",), crop_px=CROP_PX, hazard=hazard
    ).eval()
    export_onnx(graph, tmp_path / "model.onnx")
    assert check_parity(graph, tmp_path / "model.onnx", counts=(1, 3, 32)) < 1e-3
