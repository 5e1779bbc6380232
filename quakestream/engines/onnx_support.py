"""Operators and types that TensorRT's ONNX parser supports.

Source: the support matrix of the parser's project, `docs/operators.md` of onnx-tensorrt as of
TensorRT 10.15 (opsets 9 to 24). NVIDIA's opset guide for 11.x refers to the same list and says
opsets 9 to 25. The table below holds only operators that do arithmetic on ordinary tensors. Any
other operator counts as not supported.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from quakestream.errors import MissingExtraError

OPSETS = range(9, 26)

_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
_WHOLE = frozenset({"INT32", "INT64"})
_BOOL = frozenset({"BOOL"})
_NUMBERS = _FLOATS | _WHOLE
_ANY = _NUMBERS | _BOOL

_GROUPS: tuple[tuple[frozenset[str], str], ...] = (
    (
        _FLOATS,
        "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv "
        "ConvTranspose Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool "
        "GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid HardSwish Hardmax "
        "InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LpNormalization "
        "LpPool MatMul MaxPool MeanVarianceNormalization PRelu RMSNormalization Reciprocal Resize "
        "Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu",
    ),
    (
        _NUMBERS,
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less "
        "LessOrEqual Max Mean Min Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
        "ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK",
    ),
    (
        _ANY,
        "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND "
        "Identity OneHot Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose "
        "Trilu Unsqueeze Where",
    ),
    (_BOOL, "And Not Or Xor"),
    (_FLOATS | _WHOLE | {"INT8"}, "Gelu"),
    (frozenset({"FLOAT", "FLOAT16"}), "DeformConv GridSample Mish NonMaxSuppression RoiAlign"),
    (_ANY | {"UINT8"}, "Cast CastLike"),
    (_FLOATS | {"INT8"}, "QuantizeLinear DequantizeLinear"),
)
SUPPORTED: dict[str, frozenset[str]] = {
    name: types for types, names in _GROUPS for name in names.split()
}
"""Types that inputs and outputs may have, by operator."""

_OUTPUT_TYPES = {
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _BOOL),
    **dict.fromkeys(("IsInf", "IsNaN"), _BOOL),
    **dict.fromkeys(("ArgMax", "ArgMin", "Shape", "Size"), frozenset({"INT64"})),
}
"""Types of outputs, for operators whose outputs differ from their inputs."""
_INDEX_TYPES = _WHOLE | _BOOL
"""Types of shapes, axes, indices and conditions."""
_ONE_OUTPUT = {"MaxPool", "LayerNormalization", "Dropout", "BatchNormalization"}
_CONSTANT_INPUTS = {
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax"), (1,)),
    "Pad": (3,),
    "QuantizeLinear": (2,),
    "DequantizeLinear": (2,),
}
"""Indices of inputs that must be constant, by operator."""


def import_onnx() -> Any:
    """The package onnx, with the modules that are used here.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import onnx
        import onnx.version_converter
    except ImportError as error:
        raise MissingExtraError(
            f"the package onnx is not installed ({error})",
            remedy="pip install 'quakestream[tensorrt]'",
        ) from error
    return onnx


def problems(model: bytes) -> tuple[str, ...]:
    """Why TensorRT would refuse a graph. Empty if its published list covers the graph.

    Raises:
        MissingExtraError: if the package onnx is not installed.
    """
    onnx = import_onnx()
    loaded = onnx.load_from_string(model)
    del loaded.graph.value_info[:]  # types are inferred again, as quantisers leave wrong ones
    graph = onnx.shape_inference.infer_shapes(loaded, strict_mode=True).graph
    names = onnx.TensorProto.DataType
    types = {i.name: names.Name(i.data_type) for i in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = names.Name(value.type.tensor_type.elem_type)
    counts = Counter(_opset_problems(loaded))
    for node in graph.node:
        counts.update(_node_problems(node, types, {i.name for i in graph.initializer}))
    counts.update(_byte_problems(graph, types))
    counts.update(_zero_point_problems(graph, onnx.numpy_helper.to_array))
    return tuple(f"{text} ({times} times)" if times > 1 else text for text, times in counts.items())


def _opset_problems(model: Any) -> Iterator[str]:
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            yield f"operators of domain {opset.domain}"
        elif opset.version not in OPSETS:
            yield f"opset {opset.version} instead of {OPSETS.start} to {OPSETS.stop - 1}"
    if model.functions:
        yield "local functions"


def _node_problems(node: Any, types: dict[str, str], known: set[str]) -> Iterator[str]:
    operator = node.op_type
    if operator not in SUPPORTED:
        yield f"operator {operator} is not supported"
        return
    allowed = SUPPORTED[operator]
    for place, name in enumerate(node.input):
        kind = types.get(name)
        if name and kind not in allowed | (_INDEX_TYPES if place or operator == "Where" else set()):
            yield f"{operator} on {kind}"
    for name in node.output:
        if name and types.get(name) not in _OUTPUT_TYPES.get(operator, allowed):
            yield f"{operator} giving {types.get(name)}"
    if operator in _ONE_OUTPUT and sum(1 for name in node.output if name) > 1:
        yield f"{operator} with more than one output"
    for place in _CONSTANT_INPUTS.get(operator, ()):
        if len(node.input) > place and node.input[place] and node.input[place] not in known:
            yield f"{operator} whose input {place} is not constant"


def _zero_point_problems(graph: Any, to_array: Any) -> Iterator[str]:
    constants = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = constants.get(node.input[2])
            if zero is not None and to_array(zero).any():
                yield f"{node.op_type} with a zero point other than 0"


def _byte_problems(graph: Any, types: dict[str, str]) -> Iterator[str]:
    """Bytes may be inputs and outputs that are cast at once. No operator computes with them."""
    inputs = {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    for name, kind in types.items():
        if kind == "UINT8" and name not in inputs | outputs:
            yield f"{name} is of UINT8 inside the graph"
        if kind in ("DOUBLE", "STRING", "UINT16", "UINT32", "UINT64", "INT16"):
            yield f"{name} is of {kind}"
