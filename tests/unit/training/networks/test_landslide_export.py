"""Landslide networks as graphs, run by both CPU runtimes, with operators that TensorRT takes."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from torch import nn

from quakestream.engines.onnx_half import prepared
from quakestream.engines.onnx_support import problems
from tests.helpers.graph_bundles import L4S_BANDS
from tests.helpers.landslide_networks import small_networks
from training.graphs import LandslideGraph
from training.networks import PixelNetwork, of_bands
from training.networks.clay import LORA_PATTERNS
from training.networks.lora import LoraConfig, add_lora, lora_parameters
from training.onnx_graph import check_parity, export_onnx, run_onnx

SIDE = 32
OF_MASKING = {
    *("GatherElements", "GatherND", "NonZero", "ScatterElements", "ScatterND", "TopK"),
    *("Loop", "If", "Unique", "Compress", "RandomNormal", "RandomUniform", "Einsum"),
}
"""Operators that masking and generated weights would leave in a graph."""


ARCHITECTURES = ("clay_hybrid",)
"""Tried in every run: generated kernels, adapters, a transformer and a U-Net."""
OTHERS = (
    "prithvi",
    *("unet_tiny", "efficientnet_unetpp_small", "efficientnet_fpn_small"),
    *("clay_terrain", "galileo"),
)


def network_of(name: str) -> PixelNetwork:
    """A network with seeded weights, norms that saw noise, and trained adapters if it takes any."""
    torch.manual_seed(0)
    network = small_networks(of_bands(*L4S_BANDS, crop_px=SIDE))[name]
    if name.startswith("clay"):
        add_lora(network, LoraConfig(patterns=LORA_PATTERNS))
    with torch.no_grad():
        for parameter in lora_parameters(network):
            parameter.normal_(std=0.05)
        image = torch.randn(4, len(L4S_BANDS), SIDE, SIDE)
        for _ in range(3):
            network.train()(image)
    return network


def graph_of(network: nn.Module) -> LandslideGraph:
    """Physical values as a Sentinel bundle takes them, and logits that spread over a unit."""
    with torch.no_grad():
        spread = float(network.eval()(torch.randn(2, len(L4S_BANDS), SIDE, SIDE)).std())
    return LandslideGraph(
        network,
        window_px=SIDE,
        mean_B=[0.15] * 12 + [20.0, 800.0],
        std_B=[0.08] * 12 + [12.0, 400.0],
        platt=(1 / spread, -0.3),
    ).eval()


@pytest.fixture(
    scope="module",
    params=[*ARCHITECTURES, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)],
)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LandslideGraph, Path]:
    graph = graph_of(network_of(request.param))
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export_onnx(graph, path)
    return graph, path


def test_onnx_runtime_gives_the_logits_of_torch(exported: tuple[LandslideGraph, Path]) -> None:
    graph, path = exported
    assert check_parity(graph, path, counts=(1, 3)) < 1e-4
    logits = run_onnx(path, graph.example(count=2))
    assert logits.shape == (2, 1, SIDE, SIDE)
    assert logits.std() > 0.3


def test_openvino_gives_the_logits_of_torch(exported: tuple[LandslideGraph, Path]) -> None:
    graph, path = exported
    arrays = graph.example(count=2)
    model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model(arrays)[0]
    assert np.abs(found - graph.run(arrays)).max() < 1e-3


def test_tensorrt_takes_every_operator(exported: tuple[LandslideGraph, Path]) -> None:
    _, path = exported
    graph = path.read_bytes()
    for precision in ("fp32", "fp16", "bf16"):
        assert problems(prepared(graph, precision)) == ()
    operators = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    assert not operators & OF_MASKING
    assert {"Conv", "Resize"} <= operators


def test_kernels_are_constants_and_adapters_are_gone(exported: tuple[LandslideGraph, Path]) -> None:
    """Every convolution has its kernel as a stored weight; nothing of Clay's generator is left."""
    _, path = exported
    model = onnx.load(path).graph
    stored = {i.name for i in model.initializer}
    convolutions = [n for n in model.node if n.op_type in ("Conv", "ConvTranspose")]
    assert all(set(n.input[1:]) <= stored for n in convolutions)
    assert not [n for n in stored if "lora_" in n or "weight_generator" in n or "shrink" in n]
    assert len(convolutions) > 5


def test_every_architecture_is_exported() -> None:
    assert {*ARCHITECTURES, *OTHERS} == set(small_networks(of_bands(*L4S_BANDS, crop_px=SIDE)))
