"""`python -m training.export CKPT -o BUNDLE`: a bundle out of a checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec, ScaleClass, Thresholds
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import Calibration, calibrate
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import to_json
from training.data.sources import load_pairs
from training.evaluate import report
from training.loop import held_out_logits
from training.onnx_graph import (
    OPSET,
    BundleGraph,
    check_parity,
    compressed,
    export_onnx,
    golden_inputs,
    run_onnx,
)

VERSION = "1"
CARDS = Path(__file__).parent / "cards"

CLASSES = (
    # A collapsed building is EMS-98 grade 5 or, seen from above, a grade 4 with a fallen roof.
    ScaleClass(
        index=0, label="intact", xbd="no", ems98=(0, 1, 2, 3), copernicus="No visible damage"
    ),
    ScaleClass(index=1, label="destroyed", xbd="destroyed", ems98=(4, 5), copernicus="Destroyed"),
)

PROVENANCE = {
    "turkiye": {
        "data": "SkySat 0.5 m pairs of Adıyaman, Türkoğlu and Hatay, February 2023; "
        "OpenStreetMap destroyed buildings; detector boxes seen in both epochs",
        "licence": "imagery © Planet Labs PBC, to be cleared before redistribution; "
        "© OpenStreetMap contributors, ODbL 1.0",
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
    write_bundle(BundleGraph(network), spec, folder)
    return spec


def write_bundle(graph: BundleGraph, spec: BundleSpec, folder: Path) -> None:
    """Writes graph, golden batch, card and manifest, and checks what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    export_onnx(graph, path, window_px=spec.window_px)
    check_parity(graph, path, window_px=spec.window_px)
    golden = golden_inputs(spec.window_px, count=1)
    golden["logits"] = run_onnx(path, golden)
    (folder / "golden.npz").write_bytes(compressed(golden))
    (folder / "card.md").write_text(_card(spec))
    write_manifest(folder, spec)
    load_bundle(str(folder))


def bundle_spec(
    checkpoint: Checkpoint, name: str, calibration: Calibration, metrics: dict[str, Any]
) -> BundleSpec:
    """The manifest of a damage bundle."""
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
        classes=CLASSES,
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


def _split_name(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    if config.held_regions:
        return f"held-out regions {config.held_regions}"
    return f"fold {config.fold} of {config.folds}, {config.block_m:g} m blocks"


def _card(spec: BundleSpec) -> str:
    metrics, config = spec.metrics, spec.training["config"]
    point = metrics["operating_points"]["balanced"]
    low, high = metrics["auc_95"]
    return (
        (CARDS / f"{config['source']}.md")
        .read_text()
        .format(
            name=spec.name,
            network=config["network"],
            gsd_m=spec.gsd_m,
            destroyed=metrics["destroyed"],
            intact=metrics["intact"],
            split=metrics["split"],
            auc=f"{metrics['auc']:.3f} ({low:.3f} to {high:.3f})",
            difference_auc=f"{metrics['difference_auc']:.3f}",
            average_precision=f"{metrics['average_precision']:.3f}",
            calibration_error=f"{metrics['calibration_error']:.3f}",
            prior=f"{metrics['prior']:.0%}",
            recall=f"{point['recall']:.2f}",
            false_alarms=f"{point['false_alarm_rate']:.2f}",
            threshold=f"{point['threshold']:.3f}",
        )
    )


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
