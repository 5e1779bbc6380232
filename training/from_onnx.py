"""`python -m training.from_onnx BUNDLE`: makes `model.pt2` from a bundle's own `model.onnx`.

This serves bundles whose checkpoint is lost, or that never had one (hazard models of
scikit-learn). The graph is translated operator by operator into torch and exported from there.
The result is compared with ONNX Runtime like any export.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from quakestream.bundles import load_bundle
from quakestream.domain import BundleSpec
from quakestream.engines.fixed import graph_inputs
from quakestream.engines.shapes import noise
from quakestream.errors import EngineError, QuakestreamError, RequestError
from training.graphs import Arrays, BundleGraph
from training.pt2_graph import add_pt2

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
_F = nn.functional
_KINDS = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}


class OnnxGraph(BundleGraph):
    """The ONNX graph of a bundle as a module, with weights as parameters and constants as buffers.

    Raises:
        EngineError: if the graph has an operator that cannot be translated.
    """

    def __init__(self, graph: bytes, spec: BundleSpec) -> None:
        super().__init__()
        self.spec = spec
        self.names = tuple(graph_inputs(spec))
        loaded = onnx.load_from_string(graph).graph
        unknown = sorted({n.op_type for n in loaded.node} - OPERATORS.keys())
        if unknown:
            raise EngineError(f"cannot translate {', '.join(unknown)} into torch", spec.name)
        self.output = loaded.output[0].name
        self.constants: dict[str, Any] = {"": None}
        self.places: dict[str, str] = {}
        for number, initializer in enumerate(loaded.initializer):
            self._add_initializer(number, initializer)
        self.steps = [
            (OPERATORS[n.op_type], self._inputs(n), list(n.output), _attributes(n))
            for n in loaded.node
        ]

    def forward(self, *arrays: Tensor) -> Tensor:
        values: dict[str, Any] = dict(zip(self.names, arrays, strict=True)) | self.constants
        values |= {name: getattr(self, place) for name, place in self.places.items()}
        for operator, inputs, outputs, attributes in self.steps:
            result = operator(*(values[name] for name in inputs), **attributes)
            parts = result if isinstance(result, tuple | list) and len(outputs) > 1 else (result,)
            values |= dict(zip(outputs, parts, strict=False))
        logits: Tensor = values[self.output]
        return logits

    def example(self, *, count: int, seed: int = 0) -> Arrays:
        """Noise; a fifth of the hazard values is missing, and all of the last row."""
        arrays = noise(self.spec, count).inputs(0, count)
        if "hazard" in arrays:
            absent_NM = np.random.default_rng(seed).random(arrays["hazard"].shape) < 0.2
            absent_NM[-1] |= count > 1
            arrays["hazard"] = np.where(absent_NM, np.float32(np.nan), arrays["hazard"])
        return arrays

    def _inputs(self, node: onnx.NodeProto) -> list[str]:
        """Names of a node's inputs. Bounds, fill values and scales are no tensors in torch."""
        if node.op_type not in ("Clip", "Pad", "Resize"):
            return list(node.input)
        form = "list" if node.op_type == "Resize" else "number"
        first, *others = node.input
        return [first, *(f"{n}:{form}" if f"{n}:{form}" in self.constants else n for n in others)]

    def _add_initializer(self, number: int, initializer: onnx.TensorProto) -> None:
        """Registers floats as parameters; shapes and axes become lists, known when exported."""
        name, values = initializer.name, np.array(numpy_helper.to_array(initializer))
        if values.size == 1:
            self.constants[f"{name}:number"] = values.item()
        if values.size <= _LONGEST_LIST:
            self.constants[f"{name}:list"] = values.flatten().tolist()
        if values.dtype == np.float32:
            self.places[name] = f"weight_{number}"
            weight = nn.Parameter(torch.from_numpy(values), requires_grad=False)
            self.register_parameter(f"weight_{number}", weight)
        elif values.size > _LONGEST_LIST:
            self.places[name] = f"constant_{number}"
            self.register_buffer(f"constant_{number}", torch.from_numpy(values))
        else:
            self.constants[name] = values.tolist()


_LONGEST_LIST = 64
"""Longest list of whole numbers that is a shape or axes; longer ones are indices."""


def program_of(bundle_folder: Path) -> float:
    """Adds `model.pt2` to a bundle, from its `model.onnx`.

    Returns:
        The largest difference of a logit between the two.

    Raises:
        BundleError: if the folder holds no bundle.
        EngineError: if an operator cannot be translated, or the two differ by more than
            `check_pt2` allows.
    """
    bundle = load_bundle(str(bundle_folder))
    return add_pt2(OnnxGraph(bundle.graph, bundle.spec), bundle_folder, counts=(1, 3, 32))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def _pads(pads: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    half = len(pads) // 2
    return tuple(pads[:half]), tuple(pads[half:])


def _same_sides(pads: Sequence[int]) -> tuple[int, ...]:
    before, after = _pads(pads)
    if before != after:
        raise EngineError("cannot translate pads that differ by side", got=str(list(pads)))
    return before


def _conv(x: Tensor, w: Tensor, b: Tensor | None = None, **given: Any) -> Tensor:
    convolve: Operator = {3: _F.conv1d, 4: _F.conv2d}[x.ndim]
    axes = x.ndim - 2
    before, after = _pads(given.get("pads", [0] * 2 * axes))
    if before != after:  # TensorFlow's rule for convolutions of stride 2
        x = _pad(x, [0, 0, *before, 0, 0, *after])
        before = (0,) * axes
    result: Tensor = convolve(
        x,
        w,
        b,
        stride=tuple(given.get("strides", [1] * axes)),
        padding=before,
        dilation=tuple(given.get("dilations", [1] * axes)),
        groups=given.get("group", 1),
    )
    return result


def _up(x: Tensor, w: Tensor, b: Tensor | None = None, **given: Any) -> Tensor:
    return _F.conv_transpose2d(
        x,
        w,
        b,
        stride=tuple(given.get("strides", [1, 1])),
        padding=_same_sides(given.get("pads", [0] * 4)),
        groups=given.get("group", 1),
    )


def _max_pool(x: Tensor, **given: Any) -> Tensor:
    pads = _same_sides(given.get("pads", [0] * 4))
    return _F.max_pool2d(x, tuple(given["kernel_shape"]), tuple(given["strides"]), pads)


def _average_pool(x: Tensor, **given: Any) -> Tensor:
    pads = _same_sides(given.get("pads", [0] * 4))
    kernel = tuple(given["kernel_shape"])
    stride = tuple(given.get("strides", [1, 1]))
    counted = bool(given.get("count_include_pad", 0))
    return _F.avg_pool2d(x, kernel, stride, pads, count_include_pad=counted)


def _batch_norm(x: Tensor, w: Tensor, b: Tensor, m: Tensor, v: Tensor, **given: Any) -> Tensor:
    return _F.batch_norm(x, m, v, w, b, training=False, eps=given.get("epsilon", 1e-5))


def _layer_norm(x: Tensor, w: Tensor, b: Tensor | None = None, **given: Any) -> Tensor:
    if given.get("axis", -1) not in (-1, x.ndim - 1):
        raise EngineError("cannot translate a layer norm over several axes")
    return _F.layer_norm(x, w.shape, w, b, given.get("epsilon", 1e-5))


def _gemm(a: Tensor, b: Tensor, c: Tensor | None = None, **given: Any) -> Tensor:
    a = a.T if given.get("transA") else a
    weight = b if given.get("transB") else b.T
    scaled = given.get("alpha", 1.0), given.get("beta", 1.0)
    if scaled != (1.0, 1.0):
        raise EngineError("cannot translate Gemm with factors", got=str(scaled))
    return _F.linear(a, weight, c)


def _slice(x: Tensor, starts: list[int], ends: list[int], *more: list[int] | None) -> Tensor:
    axes = more[0] if more and more[0] is not None else range(len(starts))
    steps = more[1] if len(more) > 1 and more[1] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if isinstance(x, list):
            x = x[start:end:step]
        else:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
    return x


def _concat(*parts: Any, axis: int) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [value for part in parts for value in part]
    return torch.cat([_tensor(part) for part in parts], dim=axis)


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value)


def _shape(x: Tensor, start: int = 0, end: int | None = None) -> list[int]:
    return list(x.shape)[start:end]


def _reshape(x: Any, shape: list[int], allowzero: int = 0) -> Any:
    if isinstance(x, list):
        return x
    return x.reshape([x.shape[n] if s == 0 else s for n, s in enumerate(shape)])


def _squeeze(x: Any, axes: list[int] | None = None) -> Any:
    if isinstance(x, list):
        return x[0] if len(x) == 1 else x
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(x: Any, axes: list[int]) -> Any:
    if not isinstance(x, Tensor):
        return [x] if not isinstance(x, list) else x
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _reduce(how: Operator) -> Operator:
    def reduced(x: Tensor, axes: list[int] | None = None, **given: Any) -> Tensor:
        keep = bool(given.get("keepdims", 1))
        over = axes if axes is not None else given.get("axes", list(range(x.ndim)))
        result: Tensor = how(x, dim=tuple(over), keepdim=keep)
        return result

    return reduced


def _gather(x: Any, index: Any, axis: int = 0) -> Any:
    if isinstance(x, list):
        return [x[i] for i in index] if isinstance(index, list) else x[index]
    if isinstance(index, int):
        return x.select(axis, index)
    places = _tensor(index).to(x.device)
    flat = x.index_select(axis, places.flatten())
    return flat.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _split(x: Tensor, sizes: list[int] | None = None, **given: Any) -> tuple[Tensor, ...]:
    axis = given.get("axis", 0)
    if sizes is None:
        return torch.chunk(x, given["num_outputs"], axis)
    return torch.split(x, sizes, axis)


def _pad(
    x: Tensor, pads: list[int], value: Any = None, *axes: Any, mode: str = "constant"
) -> Tensor:
    before, after = _pads(pads)
    order = [side for pair in zip(before, after, strict=True) for side in pair]
    turned = [n for pair in reversed(list(zip(order[::2], order[1::2], strict=True))) for n in pair]
    return _F.pad(x, turned, mode, value or 0.0)


def _resize(
    x: Tensor, _: Any = None, scales: list[float] | None = None, sizes: Any = None, **given: Any
) -> Tensor:
    """Enlarges rows and columns; the modes that torch's `interpolate` has."""
    mode = (given.get("mode", "nearest"), given.get("coordinate_transformation_mode", "half_pixel"))
    known = {("linear", "half_pixel"): False, ("linear", "align_corners"): True}
    if mode not in known or given.get("antialias"):
        raise EngineError("cannot translate this Resize", got=str(given))
    if sizes is not None:
        side = tuple(int(n) for n in sizes[2:])
    else:
        side = tuple(int(n * f) for n, f in zip(x.shape[2:], (scales or [])[2:], strict=True))
    return _F.interpolate(x, size=side, mode="bilinear", align_corners=known[mode])


def _clip(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    return x.clamp(low, high)


def _expand(x: Tensor, shape: list[int]) -> Tensor:
    sides: torch.Size = torch.broadcast_shapes(x.shape, tuple(shape))  # type: ignore[no-untyped-call]
    return x.expand(sides)


def _arithmetic(how: Operator) -> Operator:
    def computed(*values: Any) -> Any:
        result = values[0]
        for value in values[1:]:
            result = how(result, value)
        return result

    return computed


OPERATORS: dict[str, Operator] = {
    "Abs": torch.abs,
    "Add": _arithmetic(lambda a, b: a + b),
    "BatchNormalization": _batch_norm,
    "Cast": lambda x, to, saturate=1: _tensor(x).to(_KINDS[to]),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _up,
    "Div": _arithmetic(lambda a, b: a / b),
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "LayerNormalization": _layer_norm,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": _arithmetic(torch.maximum),
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "Mean": lambda *values: sum(values) / len(values),
    "Min": _arithmetic(torch.minimum),
    "Mul": _arithmetic(lambda a, b: a * b),
    "Neg": torch.neg,
    "Pad": _pad,
    "Pow": torch.pow,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, axis=-1: torch.softmax(x, dim=axis),
    "Split": _split,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": _arithmetic(lambda a, b: a - b),
    "Tanh": torch.tanh,
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}
"""ONNX operators of opset 18, as far as the exporters of this project use them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Adds one file. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.from_onnx",
        description="Adds model.pt2 to a bundle, made from its model.onnx.",
        epilog="example: python -m training.from_onnx damage-here",
    )
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args(arguments)
    try:
        difference = program_of(options.bundle)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    print(f"{options.bundle}: model.pt2 differs from model.onnx by {difference:.2g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
