"""The record of a model for catalogues: a STAC Item with the Machine Learning Model extension.

A bundle holds it as `mlm.json`. It tells readers of a catalogue the inputs and outputs of a model
without opening the graph. Fields follow version 1.5.2 of the extension
(https://github.com/stac-extensions/mlm), bands follow STAC 1.1, and hazard values are variables of
the datacube extension.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quakestream.domain import BundleSpec

RECORD = "mlm.json"
MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
DATACUBE = "https://stac-extensions.github.io/datacube/v2.3.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

_TASKS = {
    "segmentation": "semantic-segmentation",
    "landslide": "semantic-segmentation",
    "building": "classification",
    "hazard": "classification",
}
_SHA256 = "1220"
"""Multihash prefix of SHA-256 with 32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts about a model that its manifest does not hold."""

    architecture: str
    framework: str
    """Training framework: `PyTorch` or `scikit-learn`."""
    framework_version: str
    """Three numbers, with an optional suffix: 2.13.0+cpu."""
    parameters: int | None = None
    """Number of learnt parameters; None where they cannot be counted, as for trees."""
    pretrained_source: str | None = None
    """Data or weights that training started from; None for random weights."""


def write_record(folder: Path, spec: BundleSpec, facts: ModelFacts) -> Path:
    """Writes `mlm.json` into a bundle. The manifest comes later, because it holds its digest."""
    record = mlm_record(spec, facts, (folder / "model.onnx").read_bytes())
    path = folder / RECORD
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def mlm_record(spec: BundleSpec, facts: ModelFacts, model: bytes) -> dict[str, Any]:
    """The STAC Item.

    Args:
        spec: the manifest.
        facts: what the manifest does not hold.
        model: bytes of `model.onnx`, for its size and digest.
    """
    start, end = spec.training.get("period", ("1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z"))
    bbox = spec.training.get("bbox")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, FILE, *([DATACUBE] if spec.hazard else [])],
        "id": f"{spec.name}-{spec.version}",
        # Area and time of the training data; a model of unknown area has no geometry.
        **({"bbox": list(bbox), "geometry": _rectangle(bbox)} if bbox else {"geometry": None}),
        "properties": {
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "title": spec.name,
            "version": spec.version,
            **_bands(spec),
            **_variables(spec),
            **_mlm_properties(spec, facts),
        },
        "links": [],
        "assets": _assets(model),
    }


def _mlm_properties(spec: BundleSpec, facts: ModelFacts) -> dict[str, Any]:
    known = {} if facts.parameters is None else {"mlm:total_parameters": facts.parameters}
    return {
        "mlm:name": spec.name,
        "mlm:architecture": facts.architecture,
        "mlm:tasks": [_TASKS[spec.task]],
        "mlm:framework": facts.framework,
        "mlm:framework_version": facts.framework_version,
        **known,
        "mlm:pretrained": facts.pretrained_source is not None,
        "mlm:pretrained_source": facts.pretrained_source,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": list(_inputs(spec)),
        "mlm:output": [_output(spec)],
        "mlm:hyperparameters": dict(_hyperparameters(spec)),
    }


def _inputs(spec: BundleSpec) -> Iterator[dict[str, Any]]:
    """Inputs in the graph's order and by its names; scaling happens inside the graph."""
    side, bands = spec.window_px, len(spec.bands)
    for epoch in spec.epochs:
        yield {
            "name": epoch,
            "description": f"{_values(spec)} {'before' if epoch == 'pre' else 'after'} the event, "
            f"{spec.gsd_m:g} m a pixel; the graph normalises them itself",
            "bands": list(spec.bands),
            "input": _array([-1, bands, side, side], ["bands", "height", "width"], spec.dtype),
            "value_scaling": None,
            "resize_type": None,
        }
    statistics = [(e, f) for e in spec.epochs for f in ("mean", "std")]
    for epoch, figure in statistics if spec.normalisation == "per_scene" else ():
        yield {
            "name": f"{epoch}_{figure}_NB",
            "description": f"{figure} of each band over the whole {epoch} scene, sensor counts",
            "input": _array([-1, bands], ["channel"], "float32"),
            "value_scaling": None,
            "resize_type": None,
        }
    if spec.hazard:
        yield {
            "name": "hazard",
            "description": "Values at the building in the units of cube:variables, NaN where "
            "missing; the graph scales them itself",
            "variables": [h.name for h in spec.hazard],
            "input": _array([-1, len(spec.hazard)], ["variables"], "float32"),
            "value_scaling": None,
            "resize_type": None,
        }


def _output(spec: BundleSpec) -> dict[str, Any]:
    pixels = ["height", "width"] if _TASKS[spec.task] == "semantic-segmentation" else []
    outputs = 1 if pixels and len(spec.classes) == 2 else len(spec.classes)
    shape = [-1, outputs + spec.deviation, *([spec.window_px] * len(pixels))]
    more = "; the last is the standard deviation of its probability" if spec.deviation else ""
    return {
        "name": "logits",
        "description": f"One score per class; column {outputs - 1} is "
        f"{spec.classes[-1].label!r}, the most severe{more}",
        "tasks": [_TASKS[spec.task]],
        "result": _array(shape, ["class", *pixels], "float32"),
        "classification:classes": [
            {
                "value": c.index,
                "name": c.label,
                "description": f"{c.copernicus}; EMS-98 {', '.join(map(str, c.ems98))}; {c.xbd}"
                if c.xbd
                else c.label,
            }
            for c in spec.classes
        ],
        "post_processing_function": _to_probabilities(spec, outputs),
    }


def _values(spec: BundleSpec) -> str:
    return "Sensor counts" if spec.dtype == "uint8" else "Reflectance, degrees and metres"


def _to_probabilities(spec: BundleSpec, outputs: int) -> dict[str, str] | None:
    if spec.outputs == "probabilities":
        return None
    function = "sigmoid" if outputs == 1 else "softmax"
    return {
        "format": "text",
        "expression": f"{function}(logits / {spec.temperature:.6g})",
        "description": "Calibrated class probabilities",
    }


def _array(shape: list[int], names: list[str], data_type: str) -> dict[str, Any]:
    return {"shape": shape, "dim_order": ["batch", *names], "data_type": data_type}


def _bands(spec: BundleSpec) -> dict[str, Any]:
    if not spec.bands:
        return {}
    return {"gsd": spec.gsd_m, "bands": [{"name": b, "data_type": spec.dtype} for b in spec.bands]}


def _variables(spec: BundleSpec) -> dict[str, Any]:
    if not spec.hazard:
        return {}
    rows = {"type": "building", "description": "Buildings", "extent": [None, None]}
    return {
        "cube:dimensions": {"building": rows},
        "cube:variables": {
            h.name: {"type": "data", "dimensions": ["building"], "unit": h.unit}
            for h in spec.hazard
        },
    }


def _hyperparameters(spec: BundleSpec) -> Iterator[tuple[str, Any]]:
    """The training configuration by dotted key, and the numbers that turn logits into verdicts."""
    yield "temperature", spec.temperature
    for name, threshold in asdict(spec.thresholds).items():
        yield f"threshold.{name}", threshold
    if spec.prior:
        yield "prior", list(spec.prior)
    for value in spec.hazard:
        yield f"hazard.{value.name}", {"mean": value.mean, "std": value.std}
    yield from _flat("training", spec.training.get("config", {}))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", value


def _assets(model: bytes) -> dict[str, Any]:
    """Files beside the record. It has no digest of the manifest, which holds its own digest."""
    return {
        "model": {
            "href": "./model.onnx",
            "title": "ONNX graph, weights inside",
            "type": "application/octet-stream; framework=onnx",
            "roles": ["mlm:model", "mlm:weights", "data"],
            "mlm:artifact_type": "onnx",
            "file:size": len(model),
            "file:checksum": _SHA256 + hashlib.sha256(model).hexdigest(),
        },
        "manifest": {
            "href": "./bundle.json",
            "title": "Manifest with the digest of every file",
            "type": "application/json",
            "roles": ["metadata"],
        },
        "card": {
            "href": "./card.md",
            "title": "Model card",
            "type": "text/markdown",
            "roles": ["metadata"],
        },
    }


def _rectangle(bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
