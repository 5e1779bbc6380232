"""Writes the bundle of an event, and says in its card what it can be trusted with."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.engines.shapes import noise
from training.adapt.graph import CropGraph
from training.adapt.head import Head
from training.adapt.judging import Judgement, calibration_of, thresholds_of
from training.cards import card_of
from training.mlm import ModelFacts, write_record
from training.scales import scale_of

ADAPTED = "adapted"
"""Key of `training` in the manifest that names the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an adapted bundle comes from."""

    event: str
    parent: str
    """Name of the bundle whose map was labelled."""
    parent_digest: str
    gsd_m: float
    counts: Mapping[str, Any]
    """What became of the items of the label file."""
    caution: str
    """What the parent's card says that it is not for; empty where it says nothing."""
    forced: bool
    """True where it is written although it is not shown to be better."""


def write_adapted(
    folder: Path, graph: CropGraph, head: Head, judgement: Judgement, origin: Origin
) -> BundleSpec:
    """Writes the bundle into a folder and opens it again to verify it."""
    spec = adapted_spec(folder.name, graph, judgement, origin)
    model = graph.bundle_model(_calibrated(head, judgement.platt))
    folder.mkdir(parents=True, exist_ok=True)
    for other in ("model.pt2", "model.int8.onnx"):  # they belong to an earlier model.onnx
        (folder / other).unlink(missing_ok=True)
    (folder / "model.onnx").write_bytes(model)
    golden = noise(spec, 1).inputs(0, 1)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    golden["logits"] = session.run(["logits"], golden)[0]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **golden)
    (folder / "golden.npz").write_bytes(buffer.getvalue())
    (folder / "card.md").write_text(card_of(spec))
    facts = ModelFacts(
        architecture="Logistic head on EfficientNet-Lite0 and the adapted model",
        framework="ONNX Runtime",
        framework_version=ort.__version__,
        parameters=len(head.weight_D) + 1,
        pretrained_source="ImageNet",
    )
    write_record(folder, spec, facts)
    write_manifest(folder, spec)
    load_bundle(str(folder))
    return spec


def adapted_spec(name: str, graph: CropGraph, judgement: Judgement, origin: Origin) -> BundleSpec:
    """The manifest."""
    figures = judgement.figures
    share = figures["share"]
    return BundleSpec(
        name=name,
        version="1",
        task="building",
        epochs=graph.epochs,
        bands=("red", "green", "blue"),
        gsd_m=origin.gsd_m,
        window_px=graph.crop_px,
        context_m=graph.crop_px * origin.gsd_m,
        dtype="uint8",
        normalisation="per_scene",
        classes=scale_of(("intact", "destroyed")),
        prior=(1 - share, share),
        thresholds=thresholds_of(judgement.truth_N, judgement.p_N),
        calibration=calibration_of(judgement, origin.event),
        metrics=figures | {"better": judgement.better},
        training={
            ADAPTED: {
                "event": origin.event,
                "parent": origin.parent,
                "parent_digest": origin.parent_digest,
                "caution": origin.caution,
                "forced": origin.forced,
                "labels": dict(origin.counts),
            },
            "data": f"{figures['labels']} labels of {origin.event}",
            "licence": "that of the labels and of the adapted model; backbone Apache-2.0",
            "opset": 18,
        },
    )


def _calibrated(head: Head, platt: tuple[float, float]) -> Head:
    slope, offset = platt
    return replace(head, weight_D=slope * head.weight_D, intercept=slope * head.intercept + offset)
