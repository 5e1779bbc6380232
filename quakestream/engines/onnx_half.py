"""Rewrites ONNX graphs for TensorRT: strongly typed, in the precision they run in.

TensorRT takes precision from the graph alone, so the choices of a mixed-precision runtime are
written into the graph. Convolutions and products take half precision, with their weights.
Operators that would lose too much stay in float32. The others follow the type of their inputs.
Inputs and logits keep their types, so that the graph is called like the original.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quakestream.engines.onnx_support import import_onnx
from quakestream.errors import EngineError

Half = Literal["fp16", "bf16"]

ARITHMETIC = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
"""Operators that are narrowed. They do nearly all of the work."""
FOLLOWERS = {
    *("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Erf", "Gelu", "Clip", "Abs", "Neg", "HardSwish"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"),
    *("Add", "Sub", "Mul", "Max", "Min", "Concat", "Where", "Pad", "Resize"),
    *("Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Split", "Flatten", "Expand"),
    *("Identity", "Gather", "Tile", "DepthToSpace", "SpaceToDepth"),
}
"""Operators that run in half precision if all their inputs but weights are half already."""
_ALWAYS_FLOAT = {"Resize": (1, 2)}
"""Indices of inputs that stay in float32 where their operator is narrowed: scales."""
_FLOAT, _UINT8, _FLOAT16, _BFLOAT16 = 1, 2, 10, 16
_KINDS = {"fp16": _FLOAT16, "bf16": _BFLOAT16}
_LARGEST_HALF = 65504.0
_BFLOAT16_OPSET = 22
"""The first opset whose convolutions take bfloat16."""


def shapes_of_casts(model: Any) -> None:
    """Takes shapes of bytes from their casts, since TensorRT can only cast bytes."""
    graph = model.graph
    bytes_in = {v.name for v in graph.input if v.type.tensor_type.elem_type == _UINT8}
    casts = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Cast"}
    moved = False
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in bytes_in & casts.keys():
            node.input[0] = casts[node.input[0]]
            moved = True
    if moved:  # each node must come after the nodes that it reads
        nodes = sorted(graph.node, key=lambda n: n.op_type != "Cast" or n.input[0] not in bytes_in)
        del graph.node[:]
        graph.node.extend(nodes)


def symmetric(model: Any, numpy_helper: Any) -> None:
    """Turns activations into signed bytes around zero, the only kind that TensorRT takes.

    Quantisers for CPUs use unsigned bytes with a zero point. Their range becomes the smallest
    signed range that holds it, so no further value is clipped and at most one bit is lost. The
    golden batch shows the effect on scores.
    """
    constants = {i.name: i for i in model.graph.initializer}
    done: dict[tuple[str, str], tuple[str, str]] = {}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        key = node.input[1], node.input[2]
        if constants[key[1]].data_type != _UINT8:
            continue
        if key not in done:
            scale, zero = (
                numpy_helper.to_array(constants[name]).astype(np.float64) for name in key
            )
            wide = np.asarray(scale * np.maximum(zero, 255 - zero) / 127, np.float32)
            done[key] = f"{key[0]}_symmetric", f"{key[1]}_symmetric"
            arrays = (wide, np.zeros(zero.shape, np.int8))
            for name, array in zip(done[key], arrays, strict=True):
                model.graph.initializer.append(numpy_helper.from_array(array, name))
        node.input[1], node.input[2] = done[key]
    used = {name for node in model.graph.node for name in node.input}
    kept = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def prepared(graph: bytes, precision: str) -> bytes:
    """A bundle's graph as a strongly typed network of a precision.

    Args:
        precision: `fp32` leaves types as they are, `fp16` and `bf16` narrow them. `int8` needs a
            graph that is quantised already.

    Raises:
        EngineError: if a weight does not fit into fp16, or the graph has sub-graphs.
        MissingExtraError: if the package onnx is not installed.
    """
    onnx = import_onnx()
    model = onnx.load_from_string(graph)
    shapes_of_casts(model)
    if precision == "int8":
        symmetric(model, onnx.numpy_helper)
    if precision == "bf16" and model.opset_import[0].version < _BFLOAT16_OPSET:
        model = onnx.version_converter.convert_version(model, _BFLOAT16_OPSET)
    del model.graph.value_info[:]  # types before the change; quantisers even leave wrong ones
    if precision in _KINDS:
        _Narrowing(onnx=onnx, model=model, kind=_KINDS[precision]).narrow()
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of float32, rounded to the nearest, ties to even. For finite values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@dataclass(slots=True)
class _Narrowing:
    """A graph while its types change."""

    onnx: Any
    model: Any
    kind: int
    float_values: set[str] = field(default_factory=set)
    """Names of float32 values that nodes compute; weights are not among them."""
    halves: set[str] = field(default_factory=set)
    casts: dict[tuple[str, int], str] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)

    def narrow(self) -> None:
        inferred = self.onnx.shape_inference.infer_shapes(self.model, strict_mode=True).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            if value.type.tensor_type.elem_type == _FLOAT:
                self.float_values.add(value.name)
        self.weights = {i.name: i for i in self.graph.initializer}
        for node in list(self.graph.node):
            self._place(node)
        self._give_float()
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._drop_unused()

    @property
    def graph(self) -> Any:
        return self.model.graph

    def _place(self, node: Any) -> None:
        if any(a.type in (5, 10) for a in node.attribute):
            raise EngineError(
                "graph with sub-graphs cannot be narrowed",
                f"operator {node.op_type}",
                remedy="use fp32",
            )
        fixed = {node.input[p] for p in _ALWAYS_FLOAT.get(node.op_type, ()) if p < len(node.input)}
        floating = [
            n
            for n in node.input
            if n not in fixed and (n in self.float_values or self._is_float_weight(n))
        ]
        computed = [n for n in floating if n in self.float_values]
        follows = bool(computed) and all(n in self.halves for n in computed)
        narrow = node.op_type in ARITHMETIC or (node.op_type in FOLLOWERS and follows)
        kind = self.kind if narrow else _FLOAT
        for place, name in enumerate(node.input):
            if name in floating:
                node.input[place] = self._as(name, kind)
        if narrow:
            self.halves.update(n for n in node.output if n in self.float_values)
        self.nodes.append(node)

    def _is_float_weight(self, name: str) -> bool:
        return name in self.weights and self.weights[name].data_type == _FLOAT

    def _as(self, name: str, kind: int) -> str:
        """The value in a type: itself, a narrowed weight, or a cast that is added once."""
        is_half = name in self.halves
        if is_half == (kind == self.kind):
            return name
        if (name, kind) not in self.casts:
            self.casts[name, kind] = f"{name}_as_{'half' if kind == self.kind else 'float'}"
            if name in self.weights:
                self._narrow_weight(name, self.casts[name, kind])
            else:
                self.nodes.append(
                    self.onnx.helper.make_node("Cast", [name], [self.casts[name, kind]], to=kind)
                )
        return self.casts[name, kind]

    def _narrow_weight(self, name: str, narrow: str) -> None:
        values = self.onnx.numpy_helper.to_array(self.weights[name])
        largest = float(np.abs(values).max(initial=0.0))
        if self.kind == _FLOAT16 and not largest <= _LARGEST_HALF:
            raise EngineError(
                "weight is too large for fp16",
                f"weight {name}",
                expected=f"at most {_LARGEST_HALF:g}",
                got=f"{largest:g}",
                remedy="use bf16",
            )
        half = values.astype(np.float16) if self.kind == _FLOAT16 else bfloat16_bits(values)
        tensor = self.onnx.helper.make_tensor(
            narrow, self.kind, values.shape, half.tobytes(), raw=True
        )
        self.graph.initializer.append(tensor)

    def _give_float(self) -> None:
        """Keeps the name and the float32 of the graph's outputs."""
        for output in self.graph.output:
            if output.name in self.halves:
                narrow = f"{output.name}_in_half"
                for node in self.nodes:
                    for names in (node.input, node.output):
                        for place, name in enumerate(names):
                            if name == output.name:
                                names[place] = narrow
                self.nodes.append(
                    self.onnx.helper.make_node("Cast", [narrow], [output.name], to=_FLOAT)
                )

    def _drop_unused(self) -> None:
        used = {name for node in self.graph.node for name in node.input}
        kept = [i for i in self.graph.initializer if i.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
