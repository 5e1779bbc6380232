"""Bundles' own ONNX graphs as torch programs: the same numbers, and refusal of what is unknown."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from quakestream.bundles import load_bundle, shipped_names
from quakestream.bundles.files import SHIPPED
from quakestream.engines.parity import check_golden
from quakestream.engines.torch import TorchEngine
from quakestream.errors import EngineError
from quakestream.testing import write_building_bundle
from quakestream.testing.bundles import expected_logits
from training.from_onnx import OnnxGraph, main
from training.onnx_graph import run_onnx

SURE = 5.0
"""Logits beyond this are those of probabilities within 0.007 of 0 or 1."""
BEYOND = {"damage-context-2023": 2e-3}
"""Allowed difference of sure logits, where it is not 1e-4.

The context graph ends in log(p) - log(1 - p) in float32, for p from 1e-4 to 1 - 1e-4. Near 1 the
step from one float32 to the next is 6e-8, which is 6e-4 of a logit of 9. ONNX Runtime differs by
1.7e-3 from itself without optimisation. In float64 the same translated operators lie 1.3e-3 from
ONNX Runtime, and 1.2e-3 from torch in float32. The probabilities agree to 1.3e-6.
"""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if "context" in n else []) for n in shipped_names()],
)
def test_every_shipped_graph_says_in_torch_what_it_says_in_onnx_runtime(name: str) -> None:
    bundle = load_bundle(name)
    graph = OnnxGraph(bundle.graph, bundle.spec).eval()
    given = {k: v for k, v in bundle.golden.items() if k in graph.names}
    reference = bundle.golden["logits"]
    apart = np.abs(graph.run(given) - reference)
    sure = np.abs(reference) > SURE
    assert apart[~sure].max(initial=0.0) < 1e-4
    assert apart[sure].max(initial=0.0) < BEYOND.get(name, 1e-4)
    if bundle.spec.task == "hazard":
        rows = graph.example(count=40)
        assert np.isnan(rows["hazard"]).any()
        assert np.abs(graph.run(rows) - run_onnx(bundle.graph, rows)).max() < 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "hazard-kahramanmaras-2023",
        pytest.param("damage-context-2023", marks=pytest.mark.slow),
    ],
)
def test_a_bundle_without_a_checkpoint_gets_a_program(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name
    shutil.copytree(SHIPPED / name, folder)
    assert main([str(folder)]) == 0
    assert "differs from model.onnx by" in capsys.readouterr().out
    bundle = load_bundle(str(folder))
    assert check_golden(TorchEngine(bundle, threads=1), bundle, "fp32") < 1e-5
    spec = load_bundle(name).spec
    assert bundle.spec == spec


def test_hand_written_graphs_are_read_too(tmp_path: Path) -> None:
    bundle = load_bundle(str(write_building_bundle(tmp_path / "b", hazard=("mmi", "dpm"))))
    graph = OnnxGraph(bundle.graph, bundle.spec)
    rows = graph.example(count=5)
    assert np.allclose(graph.run(rows), expected_logits(bundle.spec, rows), atol=1e-4)


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    bundle = load_bundle(str(write_building_bundle(tmp_path / "b")))
    model = onnx.load_from_string(bundle.graph)
    model.graph.node[0].op_type = "Det"
    with pytest.raises(EngineError, match="cannot translate Det into torch"):
        OnnxGraph(model.SerializeToString(), bundle.spec)


def test_a_folder_that_is_no_bundle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no bundle" in capsys.readouterr().err


def test_weights_are_parameters(tmp_path: Path) -> None:
    bundle = load_bundle("damage-synthetic")
    graph = OnnxGraph(bundle.graph, bundle.spec)
    numbers = sum(p.numel() for p in graph.parameters())
    assert 4 * numbers < len(bundle.graph) < 4 * numbers + 60_000
    assert all(p.dtype == torch.float32 for p in graph.parameters())
