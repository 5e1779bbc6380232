"""Nodes of an ONNX graph that is put together from other graphs. It needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 10


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in the operators that `GraphNodes` writes."""
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return model if version == OPSET else onnx.version_converter.convert_version(model, OPSET)


@dataclass(slots=True)
class GraphNodes:
    """Collects the nodes and constants of a graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output; returns its name."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def indices(self, *lists: Sequence[int]) -> list[str]:
        return [self.constant(np.array(values, np.int64)) for values in lists]

    def centre(self, value: str, side: int, inner: int) -> str:
        """The middle square of a map.

        It leaves out a margin of fixed width, so that the graph can be resized.
        """
        if side == inner:
            return value
        margin = (side - inner) // 2
        places = self.indices((margin, margin), (-margin, -margin), (2, 3))
        return self.add("Slice", value, *places)

    def mean(self, value: str) -> str:
        """The mean over rows and columns, without these axes."""
        return self.add("ReduceMean", value, *self.indices((2, 3)), keepdims=0)

    def inline(
        self, model: onnx.ModelProto, inputs: Mapping[str, str], *, prefix: str, weights: str = ""
    ) -> dict[str, str]:
        """Adds a graph whose inputs are values of this one.

        Args:
            model: the graph.
            inputs: value that stands for each of its inputs.
            prefix: put before the names of its values.
            weights: put before the names of its weights; the prefix if empty. A graph that is
                added twice with one such word has its weights once.

        Returns:
            Names of its outputs here.
        """
        renamed = {"": ""} | dict(inputs)
        for tensor in model.graph.initializer:
            renamed[tensor.name] = (weights or prefix) + tensor.name
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = renamed[tensor.name]
            self.constants[copy.name] = copy
        for node in model.graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            copied.name = prefix + node.name if node.name else ""
            del copied.input[:], copied.output[:]
            copied.input.extend(renamed.get(name, prefix + name) for name in node.input)
            copied.output.extend(prefix + name if name else "" for name in node.output)
            self.nodes.append(copied)
        return {output.name: prefix + output.name for output in model.graph.output}

    def model(
        self,
        inputs: Mapping[str, tuple[int, tuple[int, ...]]],
        output: tuple[str, str, tuple[int, ...]],
    ) -> bytes:
        """The graph of all nodes.

        Args:
            inputs: type and shape of an item of each input.
            output: value, its public name, and the shape of an item.
        """
        value, name, shape = output
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self.nodes,
            "composed",
            [helper.make_tensor_value_info(n, k, ["N", *s]) for n, (k, s) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())
