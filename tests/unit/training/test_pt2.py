"""`model.pt2`: the same numbers as ONNX, any batch, and nothing in it that could run."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec, HazardInput
from quakestream.errors import EngineError
from quakestream.testing.bundles import CLASSES
from training.checkpoints import Checkpoint
from training.config import Points, VectorsConfig
from training.data.splits import RowSplit
from training.export import main as export_command
from training.graphs import BuildingGraph, BundleGraph, HazardGraph, SegmentationGraph
from training.lessons.vectors import open_vectors
from training.networks import NetworkInputs, build_network
from training.onnx_graph import PARITY, export_onnx
from training.pt2_graph import (
    FILE,
    add_pt2,
    check_pt2,
    export_pt2,
    exported,
    relative_difference,
)

HAZARD = tuple(HazardInput(name=n, unit="1", mean=7.0, std=2.0) for n in ("mmi", "pga_g", "dpm"))


GRAPHS = ["fc_siam_diff_small", pytest.param("qmf_tiny", marks=pytest.mark.slow), "hazard_mlp"]


def graph_of(name: str) -> BundleGraph:
    torch.manual_seed(0)
    inputs = NetworkInputs(crop_px=32, hazard_groups=(2, 1), learned_missing=True)
    if name.startswith("fc_"):
        return SegmentationGraph(build_network(name), window_px=32)
    network = build_network(name, inputs=inputs)
    if name.startswith("hazard_"):
        return HazardGraph(network, hazard=HAZARD, offset_C=(0.25, -0.25))
    return BuildingGraph(network, epochs=("post",), crop_px=32, hazard=HAZARD, offset_C=(0.1, -0.1))


@pytest.fixture(scope="module", params=GRAPHS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = graph_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    export_onnx(graph, folder / "model.onnx")
    export_pt2(graph, folder / FILE)
    (folder / "name").write_text(request.param)
    return folder


def test_it_gives_what_onnx_runtime_gives_for_any_batch(written: Path) -> None:
    graph = graph_of((written / "name").read_text())
    assert check_pt2(graph, written, counts=(1, 3, 17)) < PARITY / 10


def test_it_holds_no_pickle_and_no_place_of_a_machine(written: Path) -> None:
    """Raw bytes and JSON: what a pickle begins with is nowhere, examples are left out."""
    with zipfile.ZipFile(written / FILE) as archive:
        contents = {n: archive.read(n) for n in archive.namelist()}
    configs = [v for n, v in contents.items() if n.endswith("_config.json")]
    assert len(configs) == 2
    assert all(b'"use_pickle": true' not in c for c in configs)
    examples = [v for n, v in contents.items() if "sample_inputs" in n]
    assert examples == [b""]
    assert not [n for n, v in contents.items() if v[:2] in (b"\x80\x02", b"PK")]
    whole = b"".join(contents.values())
    assert str(Path(__file__).parents[3]).encode() not in whole
    assert b"site-packages" not in whole


def test_another_model_is_told_from_the_bundles(tmp_path: Path) -> None:
    graph = graph_of("hazard_mlp")
    folder = bundle_folder(tmp_path / "bundle", graph)
    digest = load_bundle(str(folder)).digest
    other = graph_of("hazard_mlp")
    with torch.no_grad():
        next(other.network.parameters()).mul_(3.0)
    with pytest.raises(EngineError, match=r"model\.pt2: differs from model\.onnx .* got \d"):
        add_pt2(other, folder)
    assert load_bundle(str(folder)).digest == digest
    assert add_pt2(graph, folder) < PARITY
    assert FILE in load_bundle(str(folder)).files


def test_sure_logits_may_differ_by_as_much_as_rounding_makes_of_them() -> None:
    reference = np.array([0.5, -1.0, 9.0], np.float64)
    apart = [relative_difference(reference + d, reference) for d in np.diag([1e-3, 1e-3, 9e-3])]
    assert apart == pytest.approx([1e-3, 1e-3, 1e-3])


def bundle_folder(folder: Path, graph: BundleGraph) -> Path:
    """A bundle of a hazard graph, without `model.pt2`."""
    folder.mkdir()
    export_onnx(graph, folder / "model.onnx")
    np.savez(folder / "golden.npz", allow_pickle=False, **graph.example(count=1))
    spec = BundleSpec(
        name="small-hazard",
        version="1",
        task="hazard",
        dtype="float32",
        normalisation="fixed",
        hazard=HAZARD,
        classes=CLASSES,
    )
    write_manifest(folder, spec)
    return folder


@pytest.mark.parametrize("mode", ["siam_diff", "siam_conc"])
def test_the_shared_encoder_runs_once_per_epoch(mode: str) -> None:
    """Each date once: one convolution of an encoder level per date and level, not more."""
    graph = graph_of(f"fc_{mode}_small")
    program = exported(graph)
    weight = dict(graph.named_parameters())["network.encoder.0.0.weight"]
    users = [
        len(node.users)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name == "p_network_encoder_0_0_weight"
    ]
    assert weight.shape[1] == 3
    assert users == [2]


def points_checkpoint(folder: Path) -> Path:
    """An untrained network of two hazard values, its validation rows beside it."""
    rng = np.random.default_rng(0)
    place_N2 = rng.uniform((36.9, 37.5), (37.1, 37.7), (400, 2))
    label_N = rng.integers(0, 5, 400)
    value_N2 = rng.random((400, 2)) + 0.1 * label_N[:, None]
    rows = np.column_stack([place_N2, label_N, value_N2])
    table = folder / "points.csv"
    lines = [f"{x},{y},{int(label)},{a},{b}" for x, y, label, a, b in rows]
    table.write_text("\n".join(["lon,lat,label,pga_g,dpm", *lines]) + "\n")
    config = VectorsConfig(
        recipe="points",
        network="hazard_mlp",
        source=str(table),
        points=Points(features=("pga_g", "dpm")),
        rows=RowSplit(split="blocks", block=0.02, buffer=0.002, folds=4),
    )
    lesson = open_vectors(config)
    weights = lesson.network().state_dict()
    path = folder / "checkpoint.pt"
    Checkpoint(
        config=config,
        weights=weights,
        step=0,
        figures={},
        inputs=lesson.inputs,
        facts=lesson.facts(),
    ).save(path)
    return path


def test_the_command_writes_it_if_asked_and_leaves_no_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, folder = points_checkpoint(tmp_path), tmp_path / "bundle"
    what = [str(checkpoint), "-o", str(folder), "--data", "made up", "--licence", "Apache-2.0"]
    assert export_command([*what, "--pt2"]) == 0
    with_program = load_bundle(str(folder))
    assert FILE in with_program.files
    assert export_command(what) == 0
    assert FILE not in load_bundle(str(folder)).files
    assert export_command([*what[:3], "--pt2-only"]) == 0
    assert "model.pt2 differs from model.onnx by" in capsys.readouterr().out
    added = load_bundle(str(folder))
    assert added.spec == with_program.spec
    assert FILE in added.files
