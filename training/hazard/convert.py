"""Converts fitted classifiers into one ONNX graph from hazard values to class probabilities.

skl2onnx converts the models of scikit-learn, `converters` the others. Linear models become plain
ONNX operators, so that runtimes without `ai.onnx.ml` can run them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from quakestream.errors import EngineError
from training.hazard.converters import ML_OPSET, register
from training.hazard.nested import SMALLEST, mean_probabilities, tempered

OPSET, IR_VERSION = 18, 8
PARITY = 1e-5
PLAIN = {"LinearClassifier", "Normalizer", "Scaler"}
"""Operators of `ai.onnx.ml` that plain operators can replace."""


def to_onnx(models: Sequence[Any], values: int, temperature: float) -> onnx.ModelProto:
    """A graph from `hazard` (N, M) to `logits` (N, C).

    Its output is the mean of the models' probabilities to the power of 1 / temperature, with rows
    that sum to 1.

    Args:
        models: fitted classifiers over the same classes 0..C-1.
        values: number of values M.
        temperature: temperature of the calibration.
    """
    register()
    parts = [_part(model, values, f"m{i}_") for i, model in enumerate(models)]
    nodes = [node for part in parts for node in part.node]
    initializers = [one for part in parts for one in part.initializer]
    outputs = [part.output[0].name for part in parts]
    constants = {
        "smallest": np.array(SMALLEST, np.float32),
        "power": np.array(1 / temperature, np.float32),
    }
    initializers += [numpy_helper.from_array(v, name) for name, v in constants.items()]
    nodes += [
        helper.make_node("Mean", outputs, ["mean"]),
        helper.make_node("Max", ["mean", "smallest"], ["likely"]),
        helper.make_node("Log", ["likely"], ["log"]),
        helper.make_node("Mul", ["log", "power"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "hazard",
        [helper.make_tensor_value_info("hazard", TensorProto.FLOAT, ["N", values])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["N", len(models[0].classes_)]
            )
        ],
        initializers,
    )
    domains = {node.domain for node in nodes}
    opsets = [helper.make_opsetid("", OPSET)]
    if "ai.onnx.ml" in domains:
        opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="quakestream"
    )
    onnx.checker.check_model(model)
    return model


def expected(
    models: Sequence[Any], values_NM: NDArray[np.floating], temperature: float
) -> NDArray[np.float64]:
    """The expected output of the graph, by scikit-learn."""
    return tempered(mean_probabilities(models, values_NM), temperature)


def check_parity(
    graph: bytes, models: Sequence[Any], temperature: float, values_NM: NDArray[np.float32]
) -> float:
    """Largest difference of a probability between ONNX Runtime and scikit-learn.

    The rows are also tested without each value, and without any value.

    Raises:
        EngineError: if it is 1e-5 or more.
    """
    tested_NM = np.concatenate([values_NM, *_with_gaps(values_NM)])
    got_NC = run(graph, tested_NM)
    worst = float(np.abs(got_NC - expected(models, tested_NM, temperature)).max())
    if not worst < PARITY:
        raise EngineError(
            "the exported graph differs from scikit-learn on a probability",
            expected=f"below {PARITY:g}",
            got=f"{worst:.2e}",
            remedy="use another model",
        )
    return worst


def run(graph: bytes, values_NM: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities by ONNX Runtime."""
    from onnxruntime import InferenceSession

    session = InferenceSession(graph, providers=["CPUExecutionProvider"])
    p_NC: NDArray[np.float32] = session.run(["logits"], {"hazard": values_NM})[0]
    return p_NC


def _with_gaps(values_NM: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    gaps = []
    for columns in [*([m] for m in range(values_NM.shape[1])), list(range(values_NM.shape[1]))]:
        copy_NM = values_NM.copy()
        copy_NM[:, columns] = np.nan
        gaps.append(copy_NM)
    return gaps


def _part(model: Any, values: int, prefix: str) -> onnx.GraphProto:
    """One classifier as a graph from `hazard` to its probabilities."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    converted = convert_sklearn(
        model,
        initial_types=[("hazard", FloatTensorType([None, values]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        black_op=PLAIN,
    )
    graph = converted.graph
    output = next(o for o in graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT)
    keep = [output]
    del graph.output[:]
    graph.output.extend(keep)
    _drop_unused(graph)
    renamed = compose.add_prefix(converted, prefix, rename_inputs=False)
    return renamed.graph


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Deletes nodes that no output needs: the branch that names the most probable class."""
    needed = {o.name for o in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    initializers = [one for one in graph.initializer if one.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
