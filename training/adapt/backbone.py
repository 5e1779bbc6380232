"""A frozen backbone: what an EfficientNet-Lite0 of ImageNet sees in a crop, without torch.

The file `lite0.onnx` holds the first five stages, about 0.7 M weights, as float16. It was made by
`export_backbone.py` from the published weights (Apache-2.0; see LITE0-NOTICE.md).
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quakestream.errors import ShapeError

BACKBONE = Path(__file__).parent / "lite0.onnx"
INPUT = "image"
MEAN, STD = 127.0, 128.0
"""Scaling of counts inside the graph."""
STRIDES = (8, 16)
"""Strides of the graph's maps; the graph takes sides that are multiples of the last."""
CHANNELS = {8: 40, 16: 112}
FEATURES = sum(CHANNELS.values())
"""Features of a crop: the means of all maps."""
BATCH = 16


def map_name(stride: int) -> str:
    """Name of an output of the graph."""
    return f"stride{stride}"


def backbone_features(
    pixels_NBYX: NDArray[Any], inside_NYX: NDArray[Any] | None = None, *, threads: int = 0
) -> NDArray[np.float32]:
    """Features of crops, (N, 152): the mean over the crop of each channel of two maps.

    Args:
        pixels_NBYX: counts 0 to 255 of red, green and blue; sides are multiples of 16, the same
            for all crops.
        inside_NYX: weights of pixels, such as True inside a footprint; None weighs all alike.
            A crop with no weight at all is averaged whole.
        threads: CPU threads; 0 for all cores.

    Raises:
        ShapeError: if the crops are not three bands of such sides.
    """
    items, bands, *sides = pixels_NBYX.shape
    if bands != 3 or any(side % STRIDES[-1] for side in sides):
        raise ShapeError(
            "wrong crops for the backbone",
            expected=f"3 bands, sides that are multiples of {STRIDES[-1]}",
            got=str(pixels_NBYX.shape),
        )
    feature_ND = np.empty((items, FEATURES), np.float32)
    session = _session(threads)
    for start in range(0, items, BATCH):
        part = slice(start, start + BATCH)
        maps = session.run(None, {INPUT: pixels_NBYX[part].astype(np.float32)})
        weight_NYX = None if inside_NYX is None else inside_NYX[part]
        feature_ND[part] = np.concatenate([_mean(m, weight_NYX) for m in maps], axis=1)
    return feature_ND


def _mean(map_NDYX: NDArray[np.float32], inside_NYX: NDArray[Any] | None) -> NDArray[np.float32]:
    plain_ND: NDArray[np.float32] = map_NDYX.mean(axis=(2, 3))
    if inside_NYX is None:
        return plain_ND
    items, _, rows, cols = map_NDYX.shape
    step = inside_NYX.shape[1] // rows
    weight_NYX = inside_NYX.reshape(items, rows, step, cols, step).mean(axis=(2, 4))
    total_N = weight_NYX.sum(axis=(1, 2))
    sum_ND = np.einsum("ndyx,nyx->nd", map_NDYX, weight_NYX.astype(np.float32))
    weighted_ND = sum_ND / np.maximum(total_N, 1e-6)[:, None]
    return np.where(total_N[:, None] > 0, weighted_ND, plain_ND).astype(np.float32)


@cache
def _session(threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(BACKBONE, options, providers=["CPUExecutionProvider"])
