"""`python -m training.export CKPT -o BUNDLE`: a bundle out of a checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec, Thresholds
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import Calibration, calibrate
from training.cards import card_of
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import to_json
from training.data.sources import load_pairs
from training.evaluate import report
from training.graphs import BundleGraph, SegmentationGraph
from training.loop import held_out_logits
from training.mlm import ModelFacts, write_record
from training.onnx_graph import OPSET, check_parity, compressed, export_onnx, run_onnx
from training.scales import scale_of

VERSION = "1"

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


def export_bundle(checkpoint: Checkpoint, folder: Path) -> BundleSpec:
    """Calibrates on held-out buildings, writes the bundle, and opens it again to verify it.

    Raises:
        EngineError: if ONNX Runtime and torch differ by 1e-3 or more on a logit.
    """
    pairs = load_pairs(checkpoint.config, held_only=True)
    network = checkpoint.network()
    scored = held_out_logits(checkpoint.config, pairs, network)
    calibration = calibrate(scored)
    metrics = report(scored, pairs, calibration)
    spec = bundle_spec(checkpoint, folder.name, calibration, metrics)
    write_bundle(SegmentationGraph(network, window_px=spec.window_px), spec, folder)
    return spec


def write_bundle(
    graph: BundleGraph, spec: BundleSpec, folder: Path, *, counts: tuple[int, ...] = (1, 3)
) -> None:
    """Writes graph, golden batch, card, record and manifest, and checks what was written.

    Args:
        counts: sizes of the batches on which the graph is compared with torch.

    Raises:
        EngineError: if ONNX Runtime and torch differ by 1e-3 or more on a logit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    export_onnx(graph, path)
    check_parity(graph, path, counts=counts)
    golden = graph.example(count=1)
    golden["logits"] = run_onnx(path, golden)
    (folder / "golden.npz").write_bytes(compressed(golden))
    (folder / "card.md").write_text(card_of(spec))
    write_record(folder, spec, facts_of(graph, spec))
    write_manifest(folder, spec)
    load_bundle(str(folder))


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
            "config": to_json(config),
        },
    )


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle; 2 if the request is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Writes a bundle from a checkpoint; the folder's name is the bundle's.",
        epilog="example: python -m training.export runs/x/checkpoint.pt -o damage-here",
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    options = parser.parse_args(arguments)
    try:
        spec = export_bundle(load_checkpoint(options.checkpoint), options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    print(f"{options.out}: held-out AUC {spec.metrics['auc']:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
