"""The ONNX graph of a context bundle: the pixel network, and what lies around each pixel.

The pixel network says how a place looks, the surroundings how likely ruins are there. They are
joined in a way that is linear in the pixel network's probability, so that the mean over a footprint
follows from its mean there. Of added logits the mean would hang on the one pixel that looks most
like rubble.

The surroundings add a linear head on features of a frozen backbone over a square, and the log-odds
of the pixel network's mean probability over the same square. All run on the windows of the
lattice, so that a score depends on the place alone. What a head is fitted on comes from the same
nodes. No torch is needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, load_model_from_string

from quakestream.bundles import Bundle
from training.adapt.backbone import CHANNELS, INPUT, map_name
from training.adapt.graph import SCENE_MEAN, SCENE_STD, SURE, backbone_graph
from training.onnx_nodes import GraphNodes, converted
from training.onnx_sides import resized

EPOCHS = ("pre", "post")
COARSER = 2
"""Pixels along the side of a pixel that the backbone sees: 1 m where windows have 0.5 m."""
STRIDE = 16
"""Stride of the backbone's map, in pixels that it sees."""
CELL_PX = COARSER * STRIDE
"""Side of a cell of the map, pixels of the window."""
SQUARE = 3
"""Cells along the side of the square over which the map is averaged: 48 m at 0.5 m."""
AMID_RUINS = 0.7
"""Probability of what looks intact where the surroundings are surely ruins."""
ALONE = 0.1
"""Doubt in what surely looks destroyed where the surroundings are surely intact."""
FEATURES = CHANNELS[STRIDE]
"""Features of one image at one place."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContextHead:
    """What is made of the surroundings: a linear head, and the pixel network's odds nearby."""

    weight_D: NDArray[np.float64]
    """Weights of the features after the event."""
    before: float
    """Share of the image before the event that is taken off the one after it."""
    offset: float
    square_scale: float
    """Factor of the log-odds of its mean probability over the square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextWindows:
    """Windows of a context bundle, pixels."""

    window_px: int = 768
    halo_px: int = 64

    @property
    def core_px(self) -> int:
        return self.window_px - 2 * self.halo_px


def features_model(side_px: int, parent: Bundle | None = None) -> bytes:
    """Graph of what a head is fitted on.

    Args:
        side_px: side of its windows.
        parent: the pair bundle that gives the pixel network; None for images after the event
            alone.

    Returns:
        A graph whose output `features` is (N, channel, y, x) over cells: backbone features after
        the event, those before, and with a parent the log-odds over the square.
    """
    nodes, cells = GraphNodes(), side_px // CELL_PX
    parts = [_averaged(nodes, _map(nodes, epoch)) for epoch in reversed(EPOCHS)]
    if parent is not None:
        pixel = _pixel_probability(nodes, parent, side_px, side_px)
        parts.append(_square_odds(nodes, pixel))
    output = nodes.add("Concat", *parts, axis=1)
    channels = 2 * FEATURES + (parent is not None)
    return nodes.model(_inputs(side_px), (output, "features", (channels, cells, cells)))


def bundle_model(parent: Bundle, head: ContextHead, windows: ContextWindows) -> bytes:
    """Graph whose output `logits` is (N, 1, y, x); it is 0 in the halo."""
    nodes, side = GraphNodes(), windows.window_px
    margin = -(-parent.spec.halo_px // CELL_PX) * CELL_PX
    inner = windows.core_px + 2 * margin
    pixel = _pixel_probability(nodes, parent, side, inner)
    backbone = nodes.centre(_backbone_part(nodes, head), side // CELL_PX, inner // CELL_PX)
    square = nodes.add("Mul", _square_odds(nodes, pixel), _number(nodes, head.square_scale))
    around = _enlarged(nodes, nodes.add("Add", backbone, square))
    logits = _odds(nodes, _joined(nodes, pixel, nodes.add("Sigmoid", around)))
    outside = (side - inner) // 2
    pads = nodes.constant(np.array([0, 0, outside, outside] * 2, np.int64))
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


def _pixel_probability(nodes: GraphNodes, parent: Bundle, side: int, inner: int) -> str:
    """Probability by the pixel network, (N, 1, y, x), in the middle of the window."""
    graph = converted(load_model_from_string(resized(parent.graph, inner)))
    given = {f"{e}_{f}_NB": f"{e}_{f}_NB" for e in EPOCHS for f in ("mean", "std")}
    for epoch in EPOCHS:  # TensorRT slices no bytes
        counts = nodes.add("Cast", epoch, to=TensorProto.FLOAT)
        given[epoch] = nodes.centre(counts, side, inner)
    (logits,) = nodes.inline(graph, given, prefix="pixel/").values()
    scaled = nodes.add("Mul", logits, _number(nodes, 1.0 / parent.spec.temperature))
    return nodes.add("Sigmoid", scaled)


def _joined(nodes: GraphNodes, pixel: str, around: str) -> str:
    """Probability of a pixel by the pixel network and its surroundings.

    What looks intact has `AMID_RUINS` times the probability of its surroundings, what looks
    destroyed is doubted by `ALONE` times their complement, linear between.
    """
    slope = nodes.add("Mul", around, _number(nodes, ALONE - AMID_RUINS))
    factor = nodes.add("Add", slope, _number(nodes, 1.0 - ALONE))
    raised = nodes.add("Mul", around, _number(nodes, AMID_RUINS))
    return nodes.add("Add", nodes.add("Mul", pixel, factor), raised)


def _square_odds(nodes: GraphNodes, probability: str) -> str:
    """Log-odds of the mean probability over the square around each cell, (N, 1, y, x)."""
    cell = nodes.add("AveragePool", probability, kernel_shape=[CELL_PX] * 2, strides=[CELL_PX] * 2)
    return _odds(nodes, _averaged(nodes, cell))


def _odds(nodes: GraphNodes, probability: str) -> str:
    """Log-odds of a probability, which is kept away from 0 and 1."""
    bounds = (_number(nodes, value) for value in (SURE, 1.0 - SURE))
    sure = nodes.add("Clip", probability, *bounds)
    other = nodes.add("Sub", _number(nodes, 1.0), sure)
    # In half precision the bound itself may be rounded to 1.
    safe = nodes.add("Max", other, _number(nodes, SURE))
    return nodes.add("Sub", nodes.add("Log", sure), nodes.add("Log", safe))


def _backbone_part(nodes: GraphNodes, head: ContextHead) -> str:
    """The head's part of the logits, (N, 1, y, x) over cells: linear, so pooled after weights."""
    before = nodes.constant(np.array(head.before, np.float32))
    maps = {epoch: _map(nodes, epoch) for epoch in EPOCHS}
    change = nodes.add("Sub", maps["post"], nodes.add("Mul", maps["pre"], before))
    kernel_1D11 = head.weight_D.astype(np.float32)[None, :, None, None]
    scored = nodes.add("Conv", change, nodes.constant(kernel_1D11))
    return nodes.add("Add", _averaged(nodes, scored), _number(nodes, head.offset))


def _map(nodes: GraphNodes, epoch: str) -> str:
    """The map of the backbone, from pixels averaged two by two."""
    image = nodes.add(
        "AveragePool", _shown(nodes, epoch), kernel_shape=[COARSER] * 2, strides=[COARSER] * 2
    )
    maps = nodes.inline(backbone_graph(), {INPUT: image}, prefix=f"{epoch}/", weights="lite0/")
    return maps[map_name(STRIDE)]


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


def _averaged(nodes: GraphNodes, value: str) -> str:
    """Mean over the square of cells around each cell."""
    margin = SQUARE // 2
    return nodes.add(
        "AveragePool",
        value,
        count_include_pad=0,
        kernel_shape=[SQUARE] * 2,
        pads=[margin] * 4,
    )


def _enlarged(nodes: GraphNodes, value: str) -> str:
    """The map with a value for each pixel, linear between the middles of cells."""
    scales = nodes.constant(np.array([1, 1, CELL_PX, CELL_PX], np.float32))
    return nodes.add("Resize", value, "", scales, mode="linear")
