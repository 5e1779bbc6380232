"""ONNX files from graphs, and the check that they give the logits of torch."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from quakestream.engines.onnx_half import shapes_of_casts
from quakestream.errors import EngineError
from training.graphs import Arrays, BundleGraph

OPSET = 18
PARITY = 1e-3
"""Largest difference of a logit between torch and ONNX Runtime, both in float32."""
MAX_BATCH = 1024
_SHAPE_VALUES = 64
"""Longest int64 constant that can be a shape or axes, which ONNX wants as int64."""


def export_onnx(graph: BundleGraph, path: Path) -> None:
    """Writes one self-contained ONNX file: inputs of a fixed size, batches of any size.

    Raises:
        EngineError: if the exporter gives no graph, or the graph computes with 64 bits.
    """
    arrays = graph.example(count=2)
    # The exporter names inputs by position, so their order must be that of `names`.
    example = tuple(torch.from_numpy(np.ascontiguousarray(arrays[n])) for n in graph.names)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter warns about its own internals.
        program = torch.onnx.export(
            graph.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.names),
            output_names=["logits"],
            dynamic_shapes=by_parameter(graph, {0: batch}),
            verbose=False,
        )
    if program is None:
        raise EngineError("the exporter gave no graph", str(path))
    model = program.model_proto
    _without_traces(model)
    shapes_of_casts(model)
    wide = list(wide_numbers(model))
    if wide:
        raise EngineError(f"graph computes with 64 bits in {', '.join(wide[:5])}", str(path))
    path.write_bytes(model.SerializeToString())


def run_onnx(model: Path | bytes, inputs: Arrays) -> NDArray[np.float32]:
    """Logits by ONNX Runtime on CPU."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], inputs)[0]
    return logits


def check_parity(graph: BundleGraph, path: Path, *, counts: tuple[int, ...] = (1, 3)) -> float:
    """Largest difference of a logit over batches of these sizes.

    Raises:
        EngineError: if it exceeds 1e-3.
    """
    worst = 0.0
    for count in counts:
        inputs = graph.example(count=count, seed=count)
        expected = graph.eval().run(inputs)
        worst = max(worst, float(np.abs(run_onnx(path, inputs) - expected).max()))
    if not worst < PARITY:
        raise EngineError(
            "ONNX Runtime differs from torch on a logit",
            str(path),
            expected=f"below {PARITY:g}",
            got=f"{worst:.3g}",
        )
    return worst


def wide_numbers(model: onnx.ModelProto) -> Iterator[str]:
    """Names of float64 values, and of int64 constants that are not shapes.

    Accelerators compute both slowly, and one stray Python float makes a whole branch float64.
    """
    for constant in model.graph.initializer:
        values = int(np.prod(constant.dims)) if constant.dims else 1
        double = constant.data_type == onnx.TensorProto.DOUBLE
        if double or (constant.data_type == onnx.TensorProto.INT64 and values > _SHAPE_VALUES):
            yield constant.name
    known = onnx.shape_inference.infer_shapes(model).graph
    for value in (*known.input, *known.value_info, *known.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            yield value.name


def compressed(arrays: Arrays) -> bytes:
    """The bytes of an `.npz`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def by_parameter(graph: BundleGraph, dynamic: dict[int, object]) -> tuple[object, ...]:
    """The same dynamic axes for every input, nested like the arguments of the graph's `forward`."""
    each = tuple(dynamic for _ in graph.names)
    takes_any = graph.forward.__code__.co_flags & 0x04  # True if declared as *arrays.
    return (each,) if takes_any else each


def _without_traces(model: onnx.ModelProto) -> None:
    """Deletes stack traces and file paths that the exporter leaves in the nodes."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
