"""A bundle for the speed of landslides at half a metre: the network of `landslide-rgb`, untrained.

How long scoring takes hangs on the network and not on its weights. The shipped bundle is one for
pixels of 1 m.
"""

from pathlib import Path

import numpy as np
import torch

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec, ScaleClass, Thresholds
from training.networks import PixelNetwork, build_network
from training.networks.inputs import NetworkInputs
from training.onnx_graph import export_onnx, run_onnx
from training.recipes import landslide_rgb
from training.uncertain_graph import UncertainLandslideGraph

RGB = ("red", "green", "blue")
WINDOW_PX, HALO_PX = 256, 48
NO_SLIDES = Thresholds(high_precision=0.999, balanced=0.999, high_recall=0.999)
"""An untrained network gives probabilities around a half, and millions of polygons at that."""


def untrained_rgb(folder: Path, gsd_m: float) -> Path:
    """Writes the bundle, which is kept between runs."""
    if (folder / "bundle.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    recipe = landslide_rgb()
    inputs = NetworkInputs(bands=len(RGB), band_names=RGB, gsd_m=gsd_m)
    network = build_network(recipe.network, dropout=recipe.dropout, inputs=inputs)
    assert isinstance(network, PixelNetwork)
    mean_B, std_B = (110.0,) * 3, (45.0,) * 3
    graph = UncertainLandslideGraph(
        network.eval(), window_px=WINDOW_PX, mean_B=mean_B, std_B=std_B, dtype="uint8"
    ).eval()
    export_onnx(graph, folder / "model.onnx")
    golden = graph.example(count=1)
    golden["logits"] = run_onnx(folder / "model.onnx", golden)
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    labels = ("background", "landslide")
    spec = BundleSpec(
        name=f"untrained-{recipe.network}",
        version="1",
        task="landslide",
        epochs=("post",),
        bands=RGB,
        gsd_m=gsd_m,
        window_px=WINDOW_PX,
        halo_px=HALO_PX,
        dtype="uint8",
        normalisation="fixed",
        mean=mean_B,
        std=std_B,
        classes=tuple(ScaleClass(index=n, label=label) for n, label in enumerate(labels)),
        thresholds=NO_SLIDES,
        deviation=True,
    )
    write_manifest(folder, spec)
    return folder
