"""Quantises graphs to eight bits, in a form that every runtime reads alike."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from quakestream.errors import EngineError, MissingExtraError
from training.graphs import Arrays

HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators that eight bits make faster."""
_SHIFT = 128


def quantised(graph: bytes, samples: Sequence[Arrays], *, spared: Iterable[str] = ()) -> bytes:
    """Adds scales for activations (one each) and weights (one a channel), as QDQ pairs.

    Nodes before the first heavy operator stay in float32. They turn counts into z-scores, and
    rounding a scene's mean to eight bits would change its brightness. So do nodes after the last
    ones: they may average small probabilities, which eight bits would round to 0.

    Args:
        graph: an ONNX graph in float32.
        samples: inputs of one window or crop each, which give the ranges of activations.
        spared: nodes that stay in float32.

    Raises:
        MissingExtraError: if NNCF is not installed.
        EngineError: if nothing was quantised.
    """
    nncf = _library()
    model = onnx.load_model_from_string(graph)
    names = {*normalisation(model), *closing(model), *spared}
    attention = any(node.op_type == "Softmax" for node in model.graph.node)
    last = _last_layer(model)
    quantised_model = nncf.quantize(
        model,
        nncf.Dataset(list(samples)),
        subset_size=len(samples),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
        ignored_scope=nncf.IgnoredScope(names=sorted(names), validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Corrected layer by layer, logits end 0.12 off float32; corrected once, they match.
            disable_bias_correction=last is not None
        ),
    )
    if not any(node.op_type == "QuantizeLinear" for node in quantised_model.graph.node):
        raise EngineError("nothing was quantised: the graph has no operator that gains from it")
    _unsigned(quantised_model)
    _without_traces(quantised_model)
    if last is not None:
        _recentre(quantised_model, last, graph, samples)
    onnx.checker.check_model(quantised_model)
    return bytes(quantised_model.SerializeToString())


def normalisation(model: onnx.ModelProto) -> Iterator[str]:
    """Nodes between the graph's inputs and the first heavy operators."""
    reached = {value.name for value in model.graph.input}
    for node in model.graph.node:  # Nodes are ordered: producers come before consumers.
        if node.op_type not in HEAVY and reached & set(node.input):
            reached |= set(node.output)
            yield node.name


def closing(model: onnx.ModelProto) -> Iterator[str]:
    """Nodes that no heavy operator follows, heavy ones apart."""
    needed: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in HEAVY or needed & set(node.output):
            needed |= set(node.input)
        if node.op_type not in HEAVY and not needed & set(node.output):
            yield node.name


def heavy(graph: bytes) -> dict[str, str]:
    """Names and operators of the heavy nodes, first to last."""
    model = onnx.load_model_from_string(graph)
    return {node.name: node.op_type for node in model.graph.node if node.op_type in HEAVY}


def _last_layer(model: onnx.ModelProto) -> str | None:
    """The bias of the layer that outputs the logits; None if another node follows it."""
    node = [n for n in model.graph.node if n.op_type in HEAVY][-1]
    direct = node.output[0] == model.graph.output[0].name and len(node.input) > 2
    return str(node.input[2]) if direct else None


def _recentre(model: onnx.ModelProto, bias: str, graph: bytes, samples: Sequence[Arrays]) -> None:
    """Shifts logits so that their mean over the samples equals that of float32.

    Rounding shifts all logits a little. A ranking of buildings does not notice it, a threshold
    does.
    """
    before, after = _session(graph), _session(bytes(model.SerializeToString()))
    moved_K = np.mean(
        [
            (before.run(["logits"], s)[0] - after.run(["logits"], s)[0]).mean(axis=(0, 2, 3))
            for s in map(dict, samples)
        ],
        axis=0,
    )
    constant = next(c for c in model.graph.initializer if c.name == bias)
    bias_K = numpy_helper.to_array(constant)
    constant.CopyFrom(numpy_helper.from_array((bias_K + moved_K).astype(np.float32), bias))


def _session(graph: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"])


def _unsigned(model: onnx.ModelProto) -> None:
    """Turns int8 activations into uint8: the same values, with zero points 128 higher.

    OpenVINO 2026.4 computes a convolution over a concatenation of int8 activations wrongly, and
    over uint8 activations correctly. uint8 is also the native form of CPUs with VNNI.
    """
    constants = {constant.name: constant for constant in model.graph.initializer}
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for name in {node.input[2] for node in quantisers}:
        zero = numpy_helper.to_array(constants[name])
        if zero.dtype == np.int8:
            moved = (zero.astype(np.int16) + _SHIFT).astype(np.uint8)
            constants[name].CopyFrom(numpy_helper.from_array(moved, name))
    moved_values = {node.output[0] for node in quantisers}
    others = [v for v in model.graph.value_info if v.name not in moved_values]
    del model.graph.value_info[:]
    model.graph.value_info.extend(others)


def _without_traces(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]


def _library() -> Any:
    """Imports NNCF without the usage statistics that it sends by default."""
    if "nncf" not in sys.modules:
        # An entry of None makes the import of the telemetry fail.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import nncf
    except ImportError as error:
        raise MissingExtraError(
            f"quantising needs NNCF ({error})", remedy="pip install 'quakestream[train]'"
        ) from error
    return nncf
