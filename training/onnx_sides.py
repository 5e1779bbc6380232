"""ONNX graphs for images of another size. It needs no torch."""

import onnx

from quakestream.errors import RequestError
from training.foreign_errors import first_line


def resized(model: bytes, side_px: int) -> bytes:
    """The ONNX graph for images of another size.

    Raises:
        RequestError: if the graph does not take that size.
    """
    graph = onnx.load_model_from_string(model)
    for value in [*graph.graph.input, *graph.graph.output]:
        axes = value.type.tensor_type.shape.dim
        if len(axes) == 4:
            axes[2].dim_value = axes[3].dim_value = side_px
    del graph.graph.value_info[:]
    try:
        checked = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise RequestError(
            f"graph does not take windows of {side_px} px: {first_line(error)}"
        ) from error
    return bytes(checked.SerializeToString())
