"""A landslide bundle with a graph: an index of bare soil, for tests of the whole way.

It knows colour alone, and no shape. It is no model to be used.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec
from quakestream.testing.bundles import IR_VERSION, OPSET
from tests.helpers.sliding import LABELS

WEIGHTS = (2.0, 0.0, -1.0)
"""Of red, green and blue, each in standard deviations from the mean of its scene."""
SIDE_PX = 7
FROM, GAIN = 1.15, 4.0


def write_soil_bundle(
    folder: Path, *, window_px: int = 256, halo_px: int = 8, prior: tuple[float, ...] = ()
) -> Path:
    """Mean over 7 × 7 pixels of red less blue and more red, with a deviation beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = BundleSpec(
        name="bare-soil",
        version="1",
        task="landslide",
        epochs=("post",),
        bands=("red", "green", "blue"),
        gsd_m=0.5,
        window_px=window_px,
        halo_px=halo_px,
        dtype="uint8",
        normalisation="per_scene",
        classes=LABELS,
        deviation=True,
        prior=prior,
    )
    model = soil_graph(window_px)
    (folder / "model.onnx").write_bytes(model)
    rng = np.random.default_rng(0)
    golden = {
        "post": rng.integers(0, 256, (2, 3, window_px, window_px)).astype(np.uint8),
        "post_mean_NB": np.full((2, 3), 110, np.float32),
        "post_std_NB": np.full((2, 3), 45, np.float32),
    }
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_from_string(model))
    golden["logits"] = evaluator.run(None, golden)[0].astype(np.float32)
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    (folder / "card.md").write_text("# bare-soil\n\n**Use.** Not for use: it knows colour alone.\n")
    write_manifest(folder, spec)
    return folder


def soil_graph(window_px: int) -> bytes:
    pad = SIDE_PX // 2
    weight = np.zeros((1, 3, SIDE_PX, SIDE_PX), np.float32)
    weight[0] = np.array(WEIGHTS, np.float32)[:, None, None] * GAIN / SIDE_PX**2
    constants = {
        "axes": np.array([2, 3], np.int64),
        "weight": weight,
        "bias": np.array([-FROM * GAIN], np.float32),
        "half": np.array(0.5, np.float32),
        "one": np.array(1.0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["post"], ["counts"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["post_mean_NB", "axes"], ["mean"]),
        helper.make_node("Unsqueeze", ["post_std_NB", "axes"], ["std"]),
        helper.make_node("Sub", ["counts", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "weight", "bias"], ["index"], pads=[pad] * 4),
        helper.make_node("Sigmoid", ["index"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Mul", ["p", "q"], ["pq"]),
        helper.make_node("Mul", ["pq", "half"], ["deviation"]),
        helper.make_node("Concat", ["index", "deviation"], ["logits"], axis=1),
    ]
    image = ["N", 3, window_px, window_px]
    inputs = [
        helper.make_tensor_value_info("post", TensorProto.UINT8, image),
        helper.make_tensor_value_info("post_mean_NB", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("post_std_NB", TensorProto.FLOAT, ["N", 3]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2, window_px, window_px])
    ]
    graph = helper.make_graph(
        nodes,
        "bare-soil",
        inputs,
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
