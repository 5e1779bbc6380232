"""Manifests and graphs from checkpoints."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from quakestream.domain import BundleSpec, HazardInput, Thresholds
from training.calibrate import PixelCalibration
from training.checkpoints import Checkpoint
from training.config import GradesConfig, PairsConfig
from training.graphs import BuildingGraph, BundleGraph, HazardGraph
from training.lessons.pairs import halo_of
from training.mlm import ModelFacts
from training.networks import build_network
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.onnx_graph import OPSET
from training.scales import scale_of
from training.settings import to_json

VERSION = "1"
TASKS: dict[str, Literal["building", "hazard"]] = {"chips": "building", "vectors": "hazard"}
"""Task of the bundle that a lesson becomes; lesson pairs becomes a segmentation bundle."""

PROVENANCE: dict[str, dict[str, Any]] = {
    "turkiye": {
        "data": "SkySat 0.5 m pairs of Adıyaman, Türkoğlu and Hatay, February 2023; "
        "OpenStreetMap destroyed buildings; detector boxes seen in both epochs",
        "licence": "imagery © Planet Labs PBC, to be cleared before redistribution; "
        "© OpenStreetMap contributors, ODbL 1.0",
        "period": ["2018-07-08T00:00:00Z", "2023-02-12T23:59:59Z"],
        "bbox": [36.14, 36.22, 38.29, 37.77],
    },
    "synthetic": {"data": "synthetic earthquakes alone", "licence": "Apache-2.0"},
    "synthetic_wide": {
        "data": "synthetic earthquakes alone, on an encoder that was trained on ImageNet",
        "licence": "Apache-2.0",
    },
}
PROVENANCE["turkiye_wide"] = PROVENANCE["turkiye"] | {
    "data": f"{PROVENANCE['turkiye']['data']}; buildings of İslahiye cut out of an image after the "
    "event; synthetic earthquakes; an encoder that was trained on ImageNet",
    "licence": f"{PROVENANCE['turkiye']['licence']}; crops of İslahiye © Maxar, Open Data "
    "programme, usually CC BY-NC 4.0",
}


def bundle_spec(
    checkpoint: Checkpoint, name: str, calibration: PixelCalibration, metrics: dict[str, Any]
) -> BundleSpec:
    """The manifest of a segmentation bundle.

    Raises:
        RequestError: if the checkpoint is of another lesson than pairs.
    """
    config = checkpoint.config_as(PairsConfig)
    points = metrics["operating_points"]
    return BundleSpec(
        name=name,
        version=VERSION,
        task="segmentation",
        epochs=("pre", "post"),
        bands=("red", "green", "blue"),
        gsd_m=config.windows.gsd_m,
        window_px=config.windows.window_px,
        halo_px=halo_of(config, build_network(config.network)),
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
        classes=scale_of(("intact", "destroyed")),
        temperature=calibration.temperature,
        thresholds=Thresholds(**{k: v["threshold"] for k, v in points.items()}),
        metrics={"split": str(config.split), **metrics},
        training={
            **PROVENANCE[config.source],
            "recipe": config.recipe,
            "step": checkpoint.step,
            "opset": OPSET,
            "config": portable(to_json(config)),
        },
    )


def class_spec(checkpoint: Checkpoint, name: str) -> BundleSpec:
    """The manifest of a building or hazard model, before calibration.

    Raises:
        RequestError: if no known scale has its classes, or the checkpoint is of image pairs.
    """
    config, facts = checkpoint.config_as(GradesConfig), checkpoint.facts
    epochs = tuple(facts.get("epochs", ()))
    side = checkpoint.inputs.crop_px if epochs else 0
    return BundleSpec(
        name=name,
        version=VERSION,
        task=TASKS[config.lesson],
        epochs=epochs,
        bands=("red", "green", "blue") if epochs else (),
        gsd_m=float(facts.get("gsd_m", 0.0)),
        window_px=side,
        halo_px=0,
        context_m=side * float(facts.get("gsd_m", 0.0)),
        dtype="uint8",
        normalisation="per_scene",
        hazard=_hazard(checkpoint),
        hazard_groups=checkpoint.inputs.hazard_groups,
        classes=scale_of(facts["classes"]),
        training={
            "recipe": config.recipe,
            "step": checkpoint.step,
            "opset": OPSET,
            "config": portable(to_json(config)),
        },
    )


def class_graph(
    checkpoint: Checkpoint, spec: BundleSpec, offset_C: Sequence[float] = ()
) -> BundleGraph:
    """The graph of a manifest, with the checkpoint's weights."""
    offset = tuple(offset_C) or (0.0,) * len(spec.classes)
    network = checkpoint.network()
    if spec.task == "hazard":
        return HazardGraph(network, hazard=spec.hazard, offset_C=offset)
    return BuildingGraph(
        network,
        epochs=spec.epochs,
        crop_px=spec.window_px,
        hazard=spec.hazard,
        offset_C=offset,
    )


def _hazard(checkpoint: Checkpoint) -> tuple[HazardInput, ...]:
    missing: Literal["mask", "mean"] = "mask" if checkpoint.inputs.learned_missing else "mean"
    return tuple(
        HazardInput(name=h["name"], unit=h["unit"], mean=h["mean"], std=h["std"], missing=missing)
        for h in checkpoint.facts.get("hazard", ())
    )


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the paths of one machine: only their last parts remain."""

    def end(place: str, parts: int) -> str:
        return "/".join(place.rstrip("/").split("/")[-parts:])

    source = config["source"]
    ends = end(source, 1) if isinstance(source, str) else [end(place, 1) for place in source]
    return config | {"source": ends, "init": end(config["init"], 2)}


def facts_of(graph: BundleGraph, spec: BundleSpec) -> ModelFacts:
    """Facts for the model's record that the manifest does not hold."""
    config = spec.training["config"]
    return ModelFacts(
        architecture=architecture(config["network"]),
        framework="PyTorch",
        framework_version=torch.__version__,
        parameters=sum(p.numel() for p in graph.parameters()),
        pretrained_source=config.get("init") or None,
    )


def architecture(network: str) -> str:
    """The name of a network in the literature."""
    if network in LANDSLIDE_NETWORKS:
        return LANDSLIDE_NETWORKS[network].title
    kind, _, rest = network.partition("_")
    if kind == "fc":
        mode, _, width = rest.rpartition("_")
        shown = {"ef": "FC-EF", "siam_conc": "FC-Siam-Conc", "siam_diff": "FC-Siam-Diff"}[mode]
        return f"{shown} {width.capitalize()}"
    size, _, encoder = rest.partition("_")
    if kind == "hazard":
        return f"Multi-layer perceptron over hazard groups ({rest})"
    if kind == "transfer":
        return f"Smart Transfer decoder ({rest})"
    shown = {"qif": "QuakeImageFormer", "qmf": "QuakeMetaFormer"}[kind]
    return f"{shown} (MetaFormer-{size}{f', {encoder} encoders' if encoder else ''})"
