"""The ONNX graph of a context bundle: the pixel network, and a head on pooled backbone maps.

Both run on the windows of the lattice, so that a score depends on the place alone. The features
that a head is fitted on come from the same nodes, cut before the head. No torch is needed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, load_model_from_string

from quakestream.bundles import Bundle
from training.adapt.backbone import CHANNELS, INPUT, STRIDES, map_name
from training.adapt.graph import SCENE_MEAN, SCENE_STD, backbone_graph
from training.onnx_nodes import GraphNodes, converted
from training.onnx_sides import resized

EPOCHS = ("pre", "post")
CELL_PX = 8
"""Side of a cell of the pooled maps."""
KERNELS = {8: (5, 13), 16: (3, 7)}
"""Cells along the sides of the two squares, by stride: about 24 m and 50 m at 0.5 m."""
FEATURES = 2 * sum(CHANNELS.values())
"""Features of one image at one place."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContextHead:
    """A linear head on pooled features, and how it joins the pixel network."""

    weight_D: NDArray[np.float64]
    """Weights of the features after the event, square by square, fine stride first."""
    before: float
    """Share of the image before the event that is taken off the one after it."""
    offset: float
    pixel_scale: float
    """Factor of the pixel network's logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextWindows:
    """Windows of a context bundle, pixels."""

    window_px: int = 768
    halo_px: int = 96

    @property
    def core_px(self) -> int:
        return self.window_px - 2 * self.halo_px


def features_model(side_px: int) -> bytes:
    """Graph whose output `features` is (N, 2 · D, y, x): pooled maps after, then before, a cell
    per 8 px."""
    nodes = GraphNodes()
    parts = [pooled for epoch in reversed(EPOCHS) for pooled in _pooled(nodes, epoch)]
    output = nodes.add("Concat", *parts, axis=1)
    cells = side_px // CELL_PX
    return nodes.model(_inputs(side_px), (output, "features", (2 * FEATURES, cells, cells)))


def bundle_model(parent: Bundle, head: ContextHead, windows: ContextWindows) -> bytes:
    """Graph whose output `logits` is (N, 1, y, x); it is 0 in the halo."""
    nodes, side = GraphNodes(), windows.window_px
    inner = windows.core_px + 2 * parent.spec.halo_px
    pixel = _pixel_logits(nodes, parent, side, inner)
    scale = nodes.constant(np.array(head.pixel_scale / parent.spec.temperature, np.float32))
    around = nodes.centre(_around(nodes, head), side, inner)
    logits = nodes.add("Add", nodes.add("Mul", pixel, scale), around)
    margin = (side - inner) // 2
    pads = nodes.constant(np.array([0, 0, margin, margin] * 2, np.int64))
    padded = nodes.add("Pad", logits, pads)
    return nodes.model(_inputs(side), (padded, "logits", (1, side, side)))


def _inputs(side_px: int) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Type and shape of an item of each input."""
    square = (3, side_px, side_px)
    inputs: dict[str, tuple[int, tuple[int, ...]]] = dict.fromkeys(
        EPOCHS, (TensorProto.UINT8, square)
    )
    statistics = [f"{epoch}_{figure}_NB" for epoch in EPOCHS for figure in ("mean", "std")]
    return inputs | dict.fromkeys(statistics, (TensorProto.FLOAT, (3,)))


def _pixel_logits(nodes: GraphNodes, parent: Bundle, side: int, inner: int) -> str:
    graph = converted(load_model_from_string(resized(parent.graph, inner)))
    given = {f"{e}_{f}_NB": f"{e}_{f}_NB" for e in EPOCHS for f in ("mean", "std")}
    for epoch in EPOCHS:  # TensorRT slices no bytes
        counts = nodes.add("Cast", epoch, to=TensorProto.FLOAT)
        given[epoch] = nodes.centre(counts, side, inner)
    (logits,) = nodes.inline(graph, given, prefix="pixel/").values()
    return logits


def _around(nodes: GraphNodes, head: ContextHead) -> str:
    """The head's part of the logits, (N, 1, y, x): linear, so pooled after the weights."""
    before = nodes.constant(np.array(head.before, np.float32))
    maps = {epoch: _maps(nodes, epoch) for epoch in EPOCHS}
    weights = _by_map(head.weight_D)
    sums: dict[int, str] = {}
    for stride in STRIDES:
        less = nodes.add("Mul", maps["pre"][stride], before)
        change = nodes.add("Sub", maps["post"][stride], less)
        parts = []
        for square, kernel in enumerate(KERNELS[stride]):
            weight_D = weights[square, stride]
            kernel_1D11 = weight_D.astype(np.float32)[None, :, None, None]
            scored = nodes.add("Conv", change, nodes.constant(kernel_1D11))
            parts.append(_averaged(nodes, scored, kernel))
        sums[stride] = nodes.add("Add", *parts)
    fine = nodes.add("Add", sums[8], _enlarged(nodes, sums[16], 2))
    moved = nodes.add("Add", fine, nodes.constant(np.array(head.offset, np.float32)))
    return _enlarged(nodes, moved, CELL_PX)


def _by_map(weight_D: NDArray[np.float64]) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Weights by square and stride, in the order of the features."""
    parts, start = {}, 0
    for square in (0, 1):
        for stride in STRIDES:
            parts[square, stride] = weight_D[start : start + CHANNELS[stride]]
            start += CHANNELS[stride]
    return parts


def _pooled(nodes: GraphNodes, epoch: str) -> list[str]:
    """Pooled maps of an image at a cell per 8 px, in the order of the features."""
    maps, parts = _maps(nodes, epoch), []
    for square in (0, 1):
        for stride in STRIDES:
            averaged = _averaged(nodes, maps[stride], KERNELS[stride][square])
            larger = stride // CELL_PX
            parts.append(averaged if larger == 1 else _enlarged(nodes, averaged, larger))
    return parts


def _maps(nodes: GraphNodes, epoch: str) -> dict[int, str]:
    """Maps of the backbone by stride."""
    image = _shown(nodes, epoch)
    maps = nodes.inline(backbone_graph(), {INPUT: image}, prefix=f"{epoch}/", weights="lite0/")
    return {stride: maps[map_name(stride)] for stride in STRIDES}


def _shown(nodes: GraphNodes, epoch: str) -> str:
    """Counts of a scene at the mean and deviation of ImageNet; the mean where nothing was seen."""
    axes = nodes.constant(np.array([2, 3], np.int64))
    mean, std = (nodes.add("Unsqueeze", f"{epoch}_{f}_NB", axes) for f in ("mean", "std"))
    counts = nodes.add("Cast", epoch, to=TensorProto.FLOAT)
    score = nodes.add("Div", nodes.add("Sub", counts, mean), std)
    brightest = nodes.add("ReduceMax", counts, *nodes.indices((1,)), keepdims=1)
    seen = nodes.add("Clip", brightest, *(_number(nodes, value) for value in (0.0, 1.0)))
    scaled = nodes.add("Mul", nodes.add("Mul", score, seen), _number(nodes, SCENE_STD))
    return nodes.add("Add", scaled, _number(nodes, SCENE_MEAN))


def _number(nodes: GraphNodes, value: float) -> str:
    return nodes.constant(np.array(value, np.float32))


def _averaged(nodes: GraphNodes, value: str, cells: int) -> str:
    """Mean over a square of an odd number of cells around each cell."""
    around: dict[str, Any] = {"kernel_shape": [cells] * 2, "pads": [cells // 2] * 4}
    return nodes.add("AveragePool", value, count_include_pad=0, **around)


def _enlarged(nodes: GraphNodes, value: str, times: int) -> str:
    """The map with several pixels a cell, linear between the middles of cells."""
    scales = nodes.constant(np.array([1, 1, times, times], np.float32))
    return nodes.add("Resize", value, "", scales, mode="linear")
