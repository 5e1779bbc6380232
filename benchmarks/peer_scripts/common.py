"""What both scripts take: the same network, with the weights of the shipped bundle."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import rasterio
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from quakestream.bundles import load_bundle
from training.networks import build_network

BN_EPSILON = nn.BatchNorm2d(1).eps


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pre", required=True)
    parser.add_argument("--post", required=True)
    parser.add_argument("--boxes", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--bundle", default="damage-turkiye-2023")
    parser.add_argument("--network", default="fc_siam_diff_small")
    return parser.parse_args()


def network(bundle: str, name: str) -> nn.Module:
    """The bundle's network in torch, ready to score."""
    graph = onnx.load_model_from_string(load_bundle(bundle).graph).graph
    weights = {
        i.name.removeprefix("network."): torch.from_numpy(numpy_helper.to_array(i).copy())
        for i in graph.initializer
        if i.name.startswith("network.")
    }
    model = build_network(name)
    state = model.state_dict()
    for key in state:  # a normalisation that the exporter folded into its convolution does nothing
        if key not in weights and not key.endswith("num_batches_tracked"):
            state[key].fill_(1.0 - BN_EPSILON if key.endswith("var") else key.endswith("weight"))
    model.load_state_dict(state | weights)
    return model.eval()


def statistics(path: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of a scene's bands, from an overview."""
    with rasterio.open(path) as scene:
        small: NDArray[Any] = scene.read(out_shape=(3, scene.height // 8, scene.width // 8))
    return (
        small.mean(axis=(1, 2)).astype(np.float32),
        small.std(axis=(1, 2)).astype(np.float32),
    )
