"""Manifests and graphs out of checkpoints: what a model is called, takes, gives and comes from."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from quakestream.domain import BundleSpec, HazardInput, Thresholds
from quakestream.errors import RequestError
from training.calibrate import Calibration
from training.checkpoints import Checkpoint
from training.config import to_json
from training.graphs import BuildingGraph, BundleGraph, HazardGraph
from training.mlm import ModelFacts
from training.onnx_graph import OPSET
from training.scales import scale_of

VERSION = "1"
TASKS: dict[str, Literal["building", "hazard"]] = {"chips": "building", "vectors": "hazard"}
"""What a checkpoint of a lesson becomes; one of pairs becomes a segmentation bundle."""

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
}


def bundle_spec(
    checkpoint: Checkpoint, name: str, calibration: Calibration, metrics: dict[str, Any]
) -> BundleSpec:
    """The manifest of a damage bundle that compares pairs."""
    config = checkpoint.config
    points = metrics["operating_points"]
    return BundleSpec(
        name=name,
        version=VERSION,
        task="segmentation",
        epochs=("pre", "post"),
        bands=("red", "green", "blue"),
        gsd_m=config.gsd_m,
        window_px=config.window_px,
        halo_px=config.halo_px,
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
        classes=scale_of(("intact", "destroyed")),
        temperature=calibration.temperature,
        thresholds=Thresholds(**{k: v["threshold"] for k, v in points.items()}),
        metrics={"split": _split_name(checkpoint), **metrics},
        training={
            **PROVENANCE[config.source],
            "recipe": config.recipe,
            "step": checkpoint.step,
            "opset": OPSET,
            "config": _portable(to_json(config)),
        },
    )


def class_spec(checkpoint: Checkpoint, name: str) -> BundleSpec:
    """The manifest of a building or hazard model, before it is calibrated.

    Raises:
        RequestError: if its classes are those of no known scale, or the checkpoint is of pairs.
    """
    config, facts = checkpoint.config, checkpoint.facts
    if config.lesson not in TASKS:
        raise RequestError(f"{name}: a checkpoint of {config.lesson} grades no buildings")
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
            "config": _portable(to_json(config)),
        },
    )


def class_graph(
    checkpoint: Checkpoint, spec: BundleSpec, offset_C: Sequence[float] = ()
) -> BundleGraph:
    """The graph that answers as the manifest says."""
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


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the places of one machine: the ends of its paths stay."""

    def end(place: str, parts: int) -> str:
        return "/".join(place.rstrip("/").split("/")[-parts:])

    source = ",".join(end(place, 1) for place in config["source"].split(","))
    return config | {"source": source, "init": end(config["init"], 2)}


def facts_of(graph: BundleGraph, spec: BundleSpec) -> ModelFacts:
    """What the record says beyond the manifest."""
    config = spec.training["config"]
    return ModelFacts(
        architecture=architecture(config["network"]),
        framework="PyTorch",
        framework_version=torch.__version__,
        parameters=sum(p.numel() for p in graph.parameters()),
        pretrained_source=config.get("init") or None,
    )


def architecture(network: str) -> str:
    """The literature's name of a network."""
    kind, _, rest = network.partition("_")
    if kind == "fc":
        mode, _, width = rest.rpartition("_")
        shown = {"ef": "FC-EF", "siam_conc": "FC-Siam-Conc", "siam_diff": "FC-Siam-Diff"}[mode]
        return f"{shown} {width.capitalize()}"
    size, _, encoder = rest.partition("_")
    if kind == "hazard":
        return f"Multi-layer perceptron over hazard groups ({rest})"
    shown = {"qif": "QuakeImageFormer", "qmf": "QuakeMetaFormer"}[kind]
    return f"{shown} (MetaFormer-{size}{f', {encoder} encoders' if encoder else ''})"


def _split_name(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    if config.held_regions:
        return f"held-out regions {config.held_regions}"
    return f"fold {config.fold} of {config.folds}, {config.block_m:g} m blocks"
