"""Graphs in eight bits: where scales go, and a form that every runtime reads alike."""

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
    """The graph with scales for activations (one each) and weights (one a channel), as QDQ pairs.

    What comes before the first heavy operator stays as it is: it turns counts into z-scores, and
    eight bits for a scene's mean are a brightness of their own.

    Args:
        graph: an ONNX graph in float32.
        samples: inputs of one window or crop each; activations get the ranges seen on them.
        spared: nodes that stay in float32.

    Raises:
        MissingExtraError: if NNCF is not installed.
        EngineError: if nothing was quantised.
    """
    nncf = _library()
    model = onnx.load_model_from_string(graph)
    names = {*normalisation(model), *spared}
    attention = any(node.op_type == "Softmax" for node in model.graph.node)
    last = _last_layer(model)
    made = nncf.quantize(
        model,
        nncf.Dataset(list(samples)),
        subset_size=len(samples),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
        ignored_scope=nncf.IgnoredScope(names=sorted(names), validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Layer by layer it ends 0.12 from where float32 does; once, at the end, ends at it.
            disable_bias_correction=last is not None
        ),
    )
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        raise EngineError("nothing in the graph was quantised: it has no operator worth it")
    _unsigned(made)
    _without_traces(made)
    if last is not None:
        _recentre(made, last, graph, samples)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def normalisation(model: onnx.ModelProto) -> Iterator[str]:
    """Nodes between the graph's inputs and the first heavy operators."""
    reached = {value.name for value in model.graph.input}
    for node in model.graph.node:  # in order: producers come first
        if node.op_type not in HEAVY and reached & set(node.input):
            reached |= set(node.output)
            yield node.name


def heavy(graph: bytes) -> dict[str, str]:
    """Names of the heavy nodes, first to last, and what they compute."""
    model = onnx.load_model_from_string(graph)
    return {node.name: node.op_type for node in model.graph.node if node.op_type in HEAVY}


def _last_layer(model: onnx.ModelProto) -> str | None:
    """The bias of the layer that gives the logits themselves; None if something follows it."""
    node = [n for n in model.graph.node if n.op_type in HEAVY][-1]
    direct = node.output[0] == model.graph.output[0].name and len(node.input) > 2
    return str(node.input[2]) if direct else None


def _recentre(model: onnx.ModelProto, bias: str, graph: bytes, samples: Sequence[Arrays]) -> None:
    """Moves logits so that over the samples they are on average what float32 makes of them.

    Rounding has a mean of its own, which no ranking of buildings shows and every threshold does.
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
    kept_K = numpy_helper.to_array(constant)
    constant.CopyFrom(numpy_helper.from_array((kept_K + moved_K).astype(np.float32), bias))


def _session(graph: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"])


def _unsigned(model: onnx.ModelProto) -> None:
    """Activations from int8 to uint8: the same values, every zero point 128 higher.

    OpenVINO 2026.4 computes a convolution over a concatenation of int8 activations wrongly,
    and over the same numbers as uint8 rightly; on CPUs with VNNI uint8 is the native form too.
    """
    constants = {constant.name: constant for constant in model.graph.initializer}
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for name in {node.input[2] for node in quantisers}:
        zero = numpy_helper.to_array(constants[name])
        if zero.dtype == np.int8:
            moved = (zero.astype(np.int16) + _SHIFT).astype(np.uint8)
            constants[name].CopyFrom(numpy_helper.from_array(moved, name))
    moved_values = {node.output[0] for node in quantisers}
    kept = [v for v in model.graph.value_info if v.name not in moved_values]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _without_traces(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]


def _library() -> Any:
    """NNCF without the usage statistics it sends by default."""
    if "nncf" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # cannot be imported
    try:
        import nncf
    except ImportError as error:
        raise MissingExtraError(
            f"quantising needs NNCF: pip install 'quakestream[train]' ({error})"
        ) from error
    return nncf
