"""Every graph we ship or export is one that TensorRT takes, by its published operator list."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quakestream.bundles import load_bundle, shipped_names
from quakestream.engines.onnx_half import prepared
from quakestream.engines.onnx_support import SUPPORTED, problems
from tests.helpers.graph_bundles import graph_of
from training.networks import network_names
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.onnx_graph import export_onnx, run_onnx

OF_EACH_FAMILY = ("fc_siam_conc_small", "qmf_tiny", "hazard_resnorm")
PRECISIONS = ("fp32", "fp16", "bf16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", shipped_names())
def test_tensorrt_takes_every_shipped_graph(name: str, precision: str) -> None:
    graph = prepared(load_bundle(name).graph, precision)
    assert problems(graph) == ()
    onnx.shape_inference.infer_shapes(
        onnx.load_from_string(graph), strict_mode=True, check_type=True
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in OF_EACH_FAMILY else pytest.mark.slow)
        for n in network_names()
        # see test_landslide_export, which takes small ones; decoders of features are no bundles
        if n not in LANDSLIDE_NETWORKS and not n.startswith("transfer_")
    ],
)
def test_tensorrt_takes_the_graph_of_every_network(name: str, tmp_path: Path) -> None:
    graph = graph_of(name)
    export_onnx(graph, tmp_path / "model.onnx")
    exported = (tmp_path / "model.onnx").read_bytes()
    assert problems(exported) == ()
    for precision in PRECISIONS:
        typed = prepared(exported, precision)
        assert problems(typed) == ()
        model = onnx.load_from_string(typed)
        onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True)
    half = ort.InferenceSession(prepared(exported, "fp16"), providers=["CPUExecutionProvider"])
    arrays = graph.example(count=3)
    expected = run_onnx(tmp_path / "model.onnx", arrays)
    found = half.run(["logits"], arrays)[0]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.01 * max(1.0, float(np.abs(expected).max()))


QUANTISED = [n for n in shipped_names() if load_bundle(n).file("model.int8.onnx")]


@pytest.mark.parametrize("name", QUANTISED)
def test_tensorrt_takes_every_quantised_graph(name: str) -> None:
    """As it ships it is for CPUs: unsigned bytes about a point of their own. It is re-centred,
    and stays about as near to the reference as it was."""
    bundle = load_bundle(name)
    shipped = bundle.file("model.int8.onnx")
    assert shipped is not None
    assert any("UINT8" in problem for problem in problems(shipped))
    graph = prepared(shipped, "int8")
    assert problems(graph) == ()
    inputs = {k: v for k, v in bundle.golden.items() if k != "logits"}
    reference = _p(bundle.golden["logits"])
    shifts = []
    for model in (shipped, graph):
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        shifts.append(float(np.abs(_p(session.run(["logits"], inputs)[0]) - reference).mean()))
    assert shifts[1] < max(3 * shifts[0], 0.01)


def _p(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits))


def test_a_shared_encoder_is_in_the_graph_once_per_epoch() -> None:
    """Level 1 of the encoder convolves each date once: two nodes with one weight, no more."""
    model = onnx.load_from_string(load_bundle("damage-turkiye-2023").graph)
    first = [n for n in model.graph.node if n.op_type == "Conv"]
    weights = [n.input[1] for n in first]
    shared = {w for w in weights if weights.count(w) > 1}
    assert len(shared) == 3
    assert all(weights.count(w) == 2 for w in shared)


def small(operator: str, *inputs: tuple[str, int, list[int]], gives: int, opset: int = 18) -> bytes:
    """A graph of one operator."""
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node(operator, [name for name, _, _ in inputs], ["logits"])],
        "small",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info("logits", gives, None)],
    )
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


FLOAT, UINT8, DOUBLE, INT64 = 1, 2, 11, 7


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (small("Det", ("x", FLOAT, [2, 2]), gives=FLOAT), "operator Det is not supported"),
        (small("Sigmoid", ("x", DOUBLE, [2]), gives=DOUBLE), "Sigmoid on DOUBLE"),
        (small("Shape", ("x", UINT8, [2, 2]), gives=INT64), "Shape on UINT8"),
        (small("Relu", ("x", FLOAT, [2]), gives=FLOAT, opset=26), "opset 26 instead of 9 to 25"),
        (
            small("Unsqueeze", ("x", FLOAT, [2]), ("axes", INT64, [1]), gives=FLOAT),
            "Unsqueeze whose input 1 is not constant",
        ),
    ],
    ids=["operator", "double", "bytes", "opset", "axes"],
)
def test_what_tensorrt_does_not_take_is_said(graph: bytes, said: str) -> None:
    assert any(said in problem for problem in problems(graph))


def test_bytes_are_only_cast() -> None:
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["y"], to=UINT8),
            helper.make_node("Cast", ["y"], ["logits"], to=FLOAT),
        ],
        "bytes",
        [helper.make_tensor_value_info("x", FLOAT, [2])],
        [helper.make_tensor_value_info("logits", FLOAT, [2])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    assert any("y is of UINT8 inside the graph" in p for p in problems(model))


def test_the_list_knows_what_it_is_a_list_of() -> None:
    """Names are ONNX's own, so that a slip of the pen does not look like missing support."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert set(SUPPORTED) <= known
    assert len(SUPPORTED) > 130
