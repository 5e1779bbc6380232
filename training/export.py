"""`python -m training.export CKPT -o BUNDLE`: a bundle out of a checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import calibrate, calibrate_classes, choose_class_thresholds, first_severe
from training.cards import card_of
from training.checkpoints import Checkpoint, load_checkpoint
from training.data.sources import load_pairs
from training.evaluate import report
from training.graphs import BundleGraph, SegmentationGraph
from training.judging import (
    calibration_report,
    class_report,
    plain,
    severe_points,
    verdict_report,
)
from training.lessons.pairs import held_out_logits
from training.manifests import TASKS, bundle_spec, class_graph, class_spec, facts_of
from training.mlm import write_record
from training.models import graph_model
from training.onnx_graph import check_parity, compressed, export_onnx, run_onnx
from training.pt2_graph import FILE, add_pt2, check_pt2, export_pt2
from training.regions import left_out_logits
from training.rows import held_out

CLASS_COUNTS = (1, 3, 32)
"""Batches of crops or rows on which ONNX Runtime is held against torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person decides about a bundle of classes."""

    data: str
    """What it was trained on, for the card."""
    licence: str
    prior: str = "equal"
    """`equal`: probabilities assume equal class shares; `shares`: those of the validation set."""


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    wishes: Wishes | None = None,
    *,
    left_out: Path | None = None,
    pt2: bool = False,
) -> BundleSpec:
    """Calibrates on held-out buildings, writes the bundle, and opens it again to verify it.

    Args:
        wishes: needed for building and hazard models.
        left_out: of a pair model that was trained on all regions: folder of the course of
            `training.regions` that left each of them out. It is calibrated and judged by those.
        pt2: writes `model.pt2` too, for engines of torch.

    Raises:
        RequestError: if the held-out buildings do not suffice to calibrate on.
        EngineError: if ONNX Runtime and torch differ by 1e-3 or more on a logit.
    """
    if checkpoint.config.lesson in TASKS:
        if wishes is None:
            raise RequestError(f"{folder}: say what it was trained on, with --data and --licence")
        return _export_classes(checkpoint, folder, wishes, pt2=pt2)
    network = checkpoint.network()
    split = {}
    if left_out is not None:
        scored, pairs = left_out_logits(left_out)
        split = {"split": "each region left out in turn"}
    else:
        pairs = load_pairs(checkpoint.config, held_only=True)
        scored = held_out_logits(checkpoint.config, pairs, network)
    calibration = calibrate(scored)
    metrics = report(scored, pairs, calibration) | split
    spec = bundle_spec(checkpoint, folder.name, calibration, metrics)
    write_bundle(SegmentationGraph(network, window_px=spec.window_px), spec, folder, pt2=pt2)
    return spec


def write_bundle(
    graph: BundleGraph,
    spec: BundleSpec,
    folder: Path,
    *,
    counts: tuple[int, ...] = (1, 3),
    pt2: bool = False,
) -> None:
    """Writes graph, golden batch, card, record and manifest, and checks what was written.

    Args:
        counts: sizes of the batches on which the graph is compared with torch.
        pt2: whether `model.pt2` is written; one that an earlier export left is removed if not.

    Raises:
        EngineError: if ONNX Runtime and torch differ by 1e-3 or more on a logit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    export_onnx(graph, path)
    check_parity(graph, path, counts=counts)
    for other in (FILE, "model.int8.onnx"):  # made of another model.onnx
        (folder / other).unlink(missing_ok=True)
    if pt2:
        export_pt2(graph, folder / FILE)
        check_pt2(graph, folder, counts=counts)
    golden = graph.example(count=1)
    golden["logits"] = run_onnx(path, golden)
    (folder / "golden.npz").write_bytes(compressed(golden))
    (folder / "card.md").write_text(card_of(spec))
    write_record(folder, spec, facts_of(graph, spec))
    write_manifest(folder, spec)
    load_bundle(str(folder))


def add_program(checkpoint: Checkpoint, folder: Path) -> float:
    """Adds `model.pt2` to the bundle that was made of this checkpoint; nothing else changes.

    Returns:
        Largest difference of a logit from its `model.onnx`.

    Raises:
        BundleError: if the folder holds no bundle.
        EngineError: if the bundle is one of another checkpoint.
    """
    spec = load_bundle(str(folder)).spec
    if checkpoint.config.lesson in TASKS:
        offset_C = spec.training.get("offset", ())
        return add_pt2(class_graph(checkpoint, spec, offset_C), folder, counts=CLASS_COUNTS)
    return add_pt2(SegmentationGraph(checkpoint.network(), window_px=spec.window_px), folder)


def _export_classes(
    checkpoint: Checkpoint, folder: Path, wishes: Wishes, *, pt2: bool
) -> BundleSpec:
    """Calibrated and thresholds chosen on validation rows; figures from test rows."""
    held = held_out(checkpoint.config)
    bare = class_spec(checkpoint, folder.name)
    model = graph_model(class_graph(checkpoint, bare), bare)
    logit_NC, label_N = held.logits(model, "validation"), held.labels("validation")
    shares_C = [float((label_N == c.index).mean()) for c in bare.classes]
    calibration = calibrate_classes(
        logit_NC, label_N, prior_C=shares_C if wishes.prior == "shares" else None
    )
    thresholds = choose_class_thresholds(
        calibration.probabilities(logit_NC), label_N, first_severe(bare.classes)
    )
    judged = held.judged(calibration.probabilities(held.logits(model)))
    spec = replace(
        bare,
        temperature=calibration.temperature,
        prior=calibration.prior_C,
        thresholds=thresholds,
        metrics=plain(
            {"split": held.name}
            | class_report(judged)
            | calibration_report(judged, calibration.prior_C)
            | severe_points(judged, bare.classes, thresholds)
            | {"verdict": verdict_report(judged, thresholds.balanced)}
        ),
        training=bare.training
        | {"data": wishes.data, "licence": wishes.licence, "offset": calibration.offset_C},
    )
    graph = class_graph(checkpoint, spec, calibration.offset_C)
    write_bundle(graph, spec, folder, counts=CLASS_COUNTS, pt2=pt2)
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle; 2 if the request is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Writes a bundle from a checkpoint; the folder's name is the bundle's.",
        epilog="example: python -m training.export runs/x/checkpoint.pt -o damage-here",
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--data", default="", help="building and hazard models: trained on what")
    parser.add_argument("--licence", default="", help="building and hazard models: of the weights")
    parser.add_argument(
        "--prior",
        choices=("equal", "shares"),
        default="equal",
        help="class shares the probabilities assume: equal ones, or those of the validation set",
    )
    parser.add_argument(
        "--left-out",
        type=Path,
        metavar="DIR",
        help="pair models trained on everything: calibrate and judge by this course of regions",
    )
    parser.add_argument(
        "--pt2", action="store_true", help="write model.pt2 too, for the engines of torch"
    )
    parser.add_argument(
        "--pt2-only", action="store_true", help="only add model.pt2 to the bundle that is there"
    )
    options = parser.parse_args(arguments)
    given = options.data and options.licence
    wishes = Wishes(data=options.data, licence=options.licence, prior=options.prior)
    try:
        checkpoint = load_checkpoint(options.checkpoint)
        if options.pt2_only:
            difference = add_program(checkpoint, options.out)
            print(f"{options.out}: model.pt2 differs from model.onnx by {difference:.2g}")
            return 0
        spec = export_bundle(
            checkpoint,
            options.out,
            wishes if given else None,
            left_out=options.left_out,
            pt2=options.pt2,
        )
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    figure = "auc" if spec.task == "segmentation" else "macro_auc"
    print(f"{options.out}: held-out {figure.replace('_', ' ').upper()} {spec.metrics[figure]:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
