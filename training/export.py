"""`python -m training.export CKPT -o BUNDLE`: writes a bundle from a checkpoint."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import calibrate, calibrate_classes, choose_class_thresholds, first_severe
from training.cards import card_of
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import GradesConfig, PairsConfig, SlidesConfig
from training.data.sources import load_pairs
from training.evaluate import report
from training.evaluation_set import evaluation_set
from training.graphs import BundleGraph, SegmentationGraph
from training.judging import (
    calibration_report,
    class_report,
    plain,
    severe_points,
    verdict_report,
)
from training.lessons.pairs import held_out_logits
from training.manifests import bundle_spec, class_graph, class_spec, facts_of
from training.mlm import write_record
from training.models import graph_model
from training.onnx_graph import check_parity, compressed, export_onnx, run_onnx
from training.pt2_graph import FILE, add_pt2, check_pt2, export_pt2
from training.regions import left_out_logits
from training.slides.export import SlideExport, slide_bundle, slide_graph

CLASS_COUNTS = (1, 3, 32)
"""Sizes of the batches on which ONNX Runtime is compared with torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What a person has to decide about a bundle of buildings, hazard values or landslides."""

    data: str
    """Description of the training data, for the card."""
    licence: str
    prior: str = "equal"
    """Class shares that probabilities assume: `equal`, or `shares` of the validation set."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Further figures for the manifest of a landslide bundle."""
    window_px: int = 256
    halo_px: int = 48
    """Sizes of the window of a landslide bundle."""


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    options: ExportOptions | None = None,
    *,
    left_out: Path | None = None,
    pt2: bool = False,
) -> BundleSpec:
    """Calibrates on held-out buildings, writes the bundle, and opens it again to verify it.

    Args:
        checkpoint: the model.
        folder: where the bundle is written; its name is the bundle's.
        options: required for building, hazard and landslide models.
        left_out: for a pair model that was trained on all regions: folder of the experiment of
            `training.regions` that left each of them out. The bundle is calibrated and evaluated
            by its runs.
        pt2: write `model.pt2` too, for the engines of torch.

    Raises:
        RequestError: if the held-out buildings do not suffice for calibration.
        EngineError: if ONNX Runtime and torch differ by 1e-3 or more on a logit.
    """
    if isinstance(checkpoint.config, GradesConfig | SlidesConfig):
        if options is None:
            raise RequestError(
                "training data and licence are not named",
                str(folder),
                remedy="add --data and --licence",
            )
        if isinstance(checkpoint.config, SlidesConfig):
            return _export_slides(checkpoint, folder, options, pt2=pt2)
        return _export_classes(checkpoint, folder, options, pt2=pt2)
    network, config = checkpoint.network(), checkpoint.config_as(PairsConfig)
    split = {}
    if left_out is not None:
        scored, pairs = left_out_logits(left_out)
        split = {"split": "each region left out in turn"}
    else:
        pairs = load_pairs(config, held_only=True)
        scored = held_out_logits(config, pairs, network)
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
        graph: the network with its normalisation.
        spec: the manifest.
        folder: where the bundle is written.
        counts: sizes of the batches on which the graph is compared with torch.
        pt2: write `model.pt2` too; otherwise one of an earlier export is deleted.

    Raises:
        EngineError: if ONNX Runtime and torch differ by 1e-3 or more on a logit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    export_onnx(graph, path)
    check_parity(graph, path, counts=counts)
    for other in (FILE, "model.int8.onnx"):  # They belong to an earlier model.onnx.
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
    """Adds `model.pt2` to the bundle that was exported from this checkpoint.

    Returns:
        Largest difference of a logit from its `model.onnx`.

    Raises:
        BundleError: if the folder holds no bundle.
        EngineError: if the bundle was exported from another checkpoint.
    """
    spec = load_bundle(str(folder)).spec
    if isinstance(checkpoint.config, GradesConfig):
        offset_C = spec.training.get("offset", ())
        return add_pt2(class_graph(checkpoint, spec, offset_C), folder, counts=CLASS_COUNTS)
    if isinstance(checkpoint.config, SlidesConfig):
        return add_pt2(slide_graph(checkpoint, spec), folder)
    return add_pt2(SegmentationGraph(checkpoint.network(), window_px=spec.window_px), folder)


def _export_slides(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, *, pt2: bool
) -> BundleSpec:
    """Calibrates and chooses the threshold on validation chips, and evaluates on test chips."""
    wanted = SlideExport(
        data=options.data,
        licence=options.licence,
        figures=options.figures,
        window_px=options.window_px,
        halo_px=options.halo_px,
    )
    graph, spec = slide_bundle(checkpoint, folder.name, wanted)
    write_bundle(graph, spec, folder, counts=(1, 2), pt2=pt2)
    return spec


def _export_classes(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, *, pt2: bool
) -> BundleSpec:
    """Calibrates and chooses thresholds on validation rows, and evaluates on test rows."""
    held = evaluation_set(checkpoint.config_as(GradesConfig))
    bare = class_spec(checkpoint, folder.name)
    model = graph_model(class_graph(checkpoint, bare), bare)
    logit_NC, label_N = held.logits(model, "validation"), held.labels("validation")
    shares_C = [float((label_N == c.index).mean()) for c in bare.classes]
    calibration = calibrate_classes(
        logit_NC, label_N, prior_C=shares_C if options.prior == "shares" else None
    )
    thresholds = choose_class_thresholds(
        calibration.probabilities(logit_NC), label_N, first_severe(bare.classes)
    )
    scored = held.scored(calibration.probabilities(held.logits(model)))
    spec = replace(
        bare,
        temperature=calibration.temperature,
        prior=calibration.prior_C,
        thresholds=thresholds,
        metrics=plain(
            {"split": held.name}
            | class_report(scored)
            | calibration_report(scored, calibration.prior_C)
            | severe_points(scored, bare.classes, thresholds)
            | {"verdict": verdict_report(scored, thresholds.balanced)}
        ),
        training=bare.training
        | {"data": options.data, "licence": options.licence, "offset": calibration.offset_C},
    )
    graph = class_graph(checkpoint, spec, calibration.offset_C)
    write_bundle(graph, spec, folder, counts=CLASS_COUNTS, pt2=pt2)
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    options = _parser().parse_args(arguments)
    try:
        checkpoint = load_checkpoint(options.checkpoint)
        if options.pt2_only:
            difference = add_program(checkpoint, options.out)
            print(f"{options.out}: model.pt2 differs from model.onnx by {difference:.2g}")
            return 0
        spec = export_bundle(
            checkpoint,
            options.out,
            _export_options(options),
            left_out=options.left_out,
            pt2=options.pt2,
        )
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    figure = {"segmentation": "auc", "landslide": "f1"}.get(spec.task, "macro_auc")
    print(f"{options.out}: held-out {figure.replace('_', ' ').upper()} {spec.metrics[figure]:.3f}")
    return 0


def _export_options(options: argparse.Namespace) -> ExportOptions | None:
    if not (options.data and options.licence):
        return None
    return ExportOptions(
        data=options.data,
        licence=options.licence,
        prior=options.prior,
        figures=json.loads(options.figures.read_text()) if options.figures else {},
        window_px=options.window,
        halo_px=options.halo,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Writes a bundle from a checkpoint; the folder's name is the bundle's.",
        epilog="example: python -m training.export runs/x/checkpoint.pt -o damage-here",
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument(
        "--data", default="", help="training data; required for all but pair models"
    )
    parser.add_argument(
        "--licence", default="", help="licence of the weights; required for the same models"
    )
    parser.add_argument(
        "--prior",
        choices=("equal", "shares"),
        default="equal",
        help="class shares that probabilities assume: equal, or those of the validation set",
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="JSON",
        help="further figures for the manifest and card of a landslide model",
    )
    parser.add_argument(
        "--window", type=int, default=256, help="side of a landslide model's window, pixels"
    )
    parser.add_argument(
        "--halo", type=int, default=48, help="margin of a landslide model's window, pixels"
    )
    parser.add_argument(
        "--left-out",
        type=Path,
        metavar="DIR",
        help="folder of training.regions; calibrates pair models that were trained on all regions",
    )
    parser.add_argument(
        "--pt2", action="store_true", help="also write model.pt2, for the engines of torch"
    )
    parser.add_argument(
        "--pt2-only", action="store_true", help="only add model.pt2 to an existing bundle"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
