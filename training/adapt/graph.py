"""The ONNX graph of an adapted bundle: backbone and old model on one crop, then the head.

The features that a head is fitted on are computed by the same graph, cut before the head, so that
a map gives what the fit saw. Only `onnx` is needed to write it, and ONNX Runtime to run it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec
from training.adapt.backbone import BACKBONE, CHANNELS, INPUT, STRIDES, map_name
from training.adapt.head import Head
from training.onnx_nodes import GraphNodes, converted
from training.onnx_sides import resized

CROP_PX = 96
"""Side of a crop that the backbone sees: 48 m at 0.5 m."""
BOXES_PX = (32, 96)
"""Sides of the squares in the middle of the crop over which maps are averaged."""
OLD_BOXES_PX = (16, 32, 64)
"""The same for the probabilities of an old model that scores pixels."""
SCENE_MEAN, SCENE_STD = 115.0, 57.0
"""Counts that a scene's mean and deviation become: those of the pictures of ImageNet."""
SURE = 1e-4
"""Probabilities of the old model stay this far from 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropGraph:
    """What an adapted bundle computes from a crop, before its head.

    Attributes:
        epochs: images that it takes.
        old: the model that is adapted; None where it cannot be folded in.
    """

    epochs: tuple[str, ...]
    old: Bundle | None

    @property
    def crop_px(self) -> int:
        """Side of the crop: the backbone's, or more where the old model needs a wider margin."""
        if self.old is None:
            return CROP_PX
        spec = self.old.spec
        needed = spec.window_px if spec.task == "building" else OLD_BOXES_PX[-1] + 2 * spec.halo_px
        return max(CROP_PX, -(-needed // 32) * 32)

    @property
    def old_features(self) -> int:
        """Number of leading features that are log-odds of the old model."""
        if self.old is None:
            return 0
        return 1 if self.old.spec.task == "building" else len(OLD_BOXES_PX)

    @property
    def features(self) -> int:
        """Number of all features."""
        of_backbone = sum(CHANNELS.values()) * len(BOXES_PX) * len(self.epochs)
        return self.old_features + of_backbone

    def features_model(self) -> bytes:
        """The graph whose output `features` is (N, D): the old model's log-odds come first."""
        nodes = GraphNodes()
        feature = self._features(nodes)
        return nodes.model(self._inputs(), (feature, "features", (self.features,)))

    def bundle_model(self, head: Head) -> bytes:
        """The graph of the bundle, whose output `logits` is (N, 2): half the log-odds, signed."""
        nodes = GraphNodes()
        weight_D = head.weight_D / head.std_D
        offset = head.intercept - float(weight_D @ head.mean_D)
        half_2 = np.array([-0.5, 0.5])
        weight = nodes.constant((weight_D[:, None] * half_2).astype(np.float32))
        product = nodes.add("MatMul", self._features(nodes), weight)
        logits = nodes.add("Add", product, nodes.constant((offset * half_2).astype(np.float32)))
        return nodes.model(self._inputs(), (logits, "logits", (2,)))

    def _inputs(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Type and shape of an item of each input."""
        square = (3, self.crop_px, self.crop_px)
        inputs: dict[str, tuple[int, tuple[int, ...]]] = {}
        for epoch in self.epochs:
            inputs[epoch] = (TensorProto.UINT8, square)
            inputs |= {f"{epoch}_{f}_NB": (TensorProto.FLOAT, (3,)) for f in ("mean", "std")}
        return inputs

    def _features(self, nodes: GraphNodes) -> str:
        parts = self._old(nodes)
        means: dict[str, list[str]] = {}
        for epoch in self.epochs:
            image = nodes.centre(as_imagenet(nodes, epoch), self.crop_px, CROP_PX)
            maps = nodes.inline(
                backbone_graph(), {INPUT: image}, prefix=f"{epoch}/", weights="lite0/"
            )
            means[epoch] = [
                nodes.mean(nodes.centre(maps[map_name(s)], CROP_PX // s, box // s))
                for s in STRIDES
                for box in BOXES_PX
            ]
        parts += means["post"]
        if "pre" in means:
            pairs = zip(means["post"], means["pre"], strict=True)
            parts += [nodes.add("Sub", post, pre) for post, pre in pairs]
        return nodes.add("Concat", *parts, axis=1)

    def _old(self, nodes: GraphNodes) -> list[str]:
        """Log-odds of the old model's last class, each of shape (N, 1)."""
        if self.old is None:
            return []
        spec, side = self.old.spec, self.crop_px
        pixels = spec.task != "building"
        graph = onnx.load_model_from_string(
            resized(self.old.graph, side) if pixels else self.old.graph
        )
        inputs = {f"{e}_{s}_NB": f"{e}_{s}_NB" for e in spec.epochs for s in ("mean", "std")}
        inputs |= {
            e: nodes.centre(e, side, side if pixels else spec.window_px) for e in spec.epochs
        }
        (output,) = nodes.inline(converted(graph), inputs, prefix="old/").values()
        outputs = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        p = last_class(nodes, output, outputs, spec)
        if not pixels:
            return [_log_odds(nodes, p)]
        squares = [nodes.centre(p, side, box) for box in OLD_BOXES_PX]
        return [_log_odds(nodes, nodes.mean(square)) for square in squares]


def can_fold(spec: BundleSpec, epochs: Sequence[str]) -> bool:
    """True if a bundle's graph can be part of a crop graph that takes these epochs."""
    return (
        spec.task in ("segmentation", "building")
        and spec.dtype == "uint8"
        and spec.normalisation == "per_scene"
        and not spec.hazard
        and set(spec.epochs) <= set(epochs)
    )


def as_imagenet(nodes: GraphNodes, epoch: str) -> str:
    """Counts of a scene, moved to the mean and deviation of the pictures of ImageNet."""
    axes = nodes.constant(np.array([2, 3], np.int64))
    mean, std = (nodes.add("Unsqueeze", f"{epoch}_{f}_NB", axes) for f in ("mean", "std"))
    counts = nodes.add("Cast", epoch, to=TensorProto.FLOAT)
    score = nodes.add("Div", nodes.add("Sub", counts, mean), std)
    scaled = nodes.add("Mul", score, nodes.constant(np.array(SCENE_STD, np.float32)))
    return nodes.add("Add", scaled, nodes.constant(np.array(SCENE_MEAN, np.float32)))


def last_class(nodes: GraphNodes, output: str, outputs: int, spec: BundleSpec) -> str:
    """Probability of the last class, with the axes of the output and one channel."""
    if spec.outputs == "logits":
        temperature = nodes.constant(np.array(spec.temperature, np.float32))
        output = nodes.add("Div", output, temperature)
        if outputs == 1:
            return nodes.add("Sigmoid", output)
        output = nodes.add("Softmax", output, axis=1)
    if outputs == 1:
        return output
    return nodes.add("Slice", output, *nodes.indices((outputs - 1,), (outputs,), (1,)))


def _log_odds(nodes: GraphNodes, p: str) -> str:
    bounds = [nodes.constant(np.array(v, np.float32)) for v in (SURE, 1 - SURE)]
    clipped = nodes.add("Clip", p, *bounds)
    rest = nodes.add("Sub", nodes.constant(np.array(1.0, np.float32)), clipped)
    return nodes.add("Log", nodes.add("Div", clipped, rest))


@cache
def backbone_graph() -> onnx.ModelProto:
    """The graph of the backbone with weights as float32."""
    model = onnx.load_model_from_string(BACKBONE.read_bytes())
    half = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "Cast" and node.input[0] in half:
            tensor = half[node.input[0]]
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            model.graph.node.append(node)
    return model
