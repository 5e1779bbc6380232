"""Small bundles of real networks with random weights, as `model.onnx` and `model.pt2`."""

from pathlib import Path

import numpy as np
import torch

from quakestream.bundles import Bundle, load_bundle, write_manifest
from quakestream.domain import BundleSpec, HazardInput
from quakestream.testing.bundles import CLASSES
from training.graphs import (
    BuildingGraph,
    BundleGraph,
    HazardGraph,
    LandslideGraph,
    SegmentationGraph,
)
from training.networks import NetworkInputs, build_landslide_network, build_network, of_bands
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.onnx_graph import export_onnx, run_onnx
from training.pt2_graph import FILE, export_pt2

L4S_BANDS = (
    *("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078"),
    *("nir", "nir09", "cirrus", "swir16", "swir22", "slope", "elevation"),
)
"""Bands of Landslide4Sense, in its order."""
HAZARD = tuple(HazardInput(name=n, unit="1", mean=7.0, std=2.0) for n in ("mmi", "pga_g", "dpm"))


def graph_of(name: str, side_px: int = 32) -> BundleGraph:
    """The graph of a network with seeded weights; hazard networks take three values."""
    torch.manual_seed(0)
    if name.startswith("fc_"):
        network = build_network(name)
        _settle(network)
        return SegmentationGraph(network, window_px=side_px).eval()
    if name in LANDSLIDE_NETWORKS:
        return landslide_graph(name, side_px)
    groups = () if name.startswith("qif_") else (2, 1)
    inputs = NetworkInputs(crop_px=side_px, hazard_groups=groups, learned_missing=bool(groups))
    network = build_network(name, inputs=inputs)
    if name.startswith("hazard_"):
        return HazardGraph(network, hazard=HAZARD, offset_C=(0.25, -0.25)).eval()
    values = HAZARD if groups else ()
    return BuildingGraph(
        network, epochs=("post",), crop_px=side_px, hazard=values, offset_C=(0.1, -0.1)
    ).eval()


def landslide_graph(name: str, side_px: int = 32) -> LandslideGraph:
    """The graph of a landslide network over twelve Sentinel-2 bands, slope and elevation."""
    torch.manual_seed(0)
    network = build_landslide_network(name, of_bands(*L4S_BANDS, crop_px=side_px))
    network.train()
    with torch.no_grad():
        for _ in range(5):  # batch norms see noise, so that logits spread
            network(torch.randn(2, len(L4S_BANDS), side_px, side_px))
    mean_B, std_B = [0.15] * 12 + [20.0, 800.0], [0.08] * 12 + [12.0, 400.0]
    graph = LandslideGraph(
        network.eval(), window_px=side_px, mean_B=mean_B, std_B=std_B, platt=(1.2, -0.3)
    )
    return graph.eval()


def graph_bundle(
    folder: Path, name: str, *, side_px: int = 32, pt2: bool = True, onnx: bool = True
) -> Bundle:
    """A bundle of that network. ONNX Runtime scores its golden batch; without ONNX, torch does.

    Args:
        onnx: False leaves `model.onnx` empty, which saves seconds.
    """
    graph = graph_of(name, side_px)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"")
    if onnx:
        export_onnx(graph, folder / "model.onnx")
    if pt2:
        export_pt2(graph, folder / FILE)
    golden = graph.example(count=2)
    golden["logits"] = run_onnx(folder / "model.onnx", golden) if onnx else graph.run(golden)
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    write_manifest(folder, _spec(graph, side_px))
    return load_bundle(str(folder))


def _spec(graph: BundleGraph, side_px: int) -> BundleSpec:
    segments = isinstance(graph, SegmentationGraph)
    rows = isinstance(graph, HazardGraph)
    epochs = {True: ("pre", "post"), False: ("post",)}[segments]
    return BundleSpec(
        name="random-weights",
        version="1",
        task="segmentation" if segments else "hazard" if rows else "building",
        epochs=() if rows else epochs,
        bands=() if rows else ("red", "green", "blue"),
        gsd_m=0.0 if rows else 0.5,
        window_px=0 if rows else side_px,
        halo_px=8 if segments else 0,
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
        hazard=HAZARD if "hazard" in graph.names else (),
        classes=CLASSES,
        temperature=1.3,
    )


def _settle(network: torch.nn.Module) -> None:
    """Fits batch norms to noise, so that logits spread as those of a trained network do."""
    network.train()
    with torch.no_grad():
        for _ in range(10):
            network(torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32))
        last = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        last.weight.mul_(8.0)
    network.eval()
