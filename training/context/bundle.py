"""Writes a context bundle beside its parent's manifest."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from quakestream.bundles import Bundle, load_bundle, write_manifest
from quakestream.domain import BundleSpec, Thresholds
from training.calibrate import PRIOR, calibration_error, choose_thresholds
from training.cards import card_of
from training.context import CONTEXT
from training.context.graph import ContextHead, ContextWindows, bundle_model
from training.graphs import example_images
from training.metrics import auc_interval, blocks_of, figures
from training.mlm import RECORD, ModelFacts, write_record
from training.onnx_graph import compressed, run_onnx
from training.pair_report import BOOTSTRAP_BLOCK_M, operating_points


def write_context(
    folder: Path,
    parent: Bundle,
    head: ContextHead,
    windows: ContextWindows,
    *,
    without: Sequence[str] = (),
    answers: pd.DataFrame | None = None,
) -> BundleSpec:
    """Writes the bundle and opens it again to verify it.

    Args:
        folder: where it is written; its name is the bundle's.
        parent: the pair bundle that gives the pixel network.
        head: the fitted head.
        windows: windows of the new bundle.
        without: regions that neither saw.
        answers: left-out tables of `training.shares.tables`, for figures and thresholds.
    """
    model = bundle_model(parent, head, windows)
    spec = _spec(folder.name, parent, head, windows)
    spec.training["left_out"] = list(without)
    if answers is not None:
        spec = _judged(spec, answers)
    folder.mkdir(parents=True, exist_ok=True)
    for other in ("model.pt2", "model.int8.onnx"):  # they belong to an earlier model.onnx
        (folder / other).unlink(missing_ok=True)
    (folder / "model.onnx").write_bytes(model)
    golden = example_images(spec.epochs, windows.window_px, 1, np.random.default_rng(0))
    golden["logits"] = run_onnx(model, golden)
    (folder / "golden.npz").write_bytes(compressed(golden))
    (folder / "card.md").write_text(card_of(spec))
    write_record(folder, spec, _facts(parent))
    write_manifest(folder, spec)
    load_bundle(str(folder))
    return spec


def left_out_figures(answers: pd.DataFrame) -> dict[str, Any]:
    """Figures of buildings whose city neither network nor head has seen."""
    p_N = answers["score"].to_numpy(np.float64)
    destroyed_N = answers["destroyed"].to_numpy(bool)
    difference_N = answers["pre_post_difference"].to_numpy(np.float64)
    towns = answers["town"].to_numpy(str)
    block_N = blocks_of(answers["x_m"], answers["y_m"], side_m=BOOTSTRAP_BLOCK_M, group_N=towns)
    thresholds = choose_thresholds(p_N, destroyed_N)
    return {
        "split": "each region left out in turn",
        **asdict(figures(p_N, destroyed_N)),
        "auc_95": auc_interval(p_N, destroyed_N, block_N),
        "difference_auc": figures(difference_N, destroyed_N, probabilities=False).auc,
        "calibration_error": calibration_error(p_N, destroyed_N, prior=PRIOR),
        "prior": PRIOR,
        "operating_points": operating_points(p_N, destroyed_N, thresholds),
        "cities": {town: _ranking(rows) for town, rows in answers.groupby("town")},
    }


def _ranking(answers: pd.DataFrame) -> dict[str, float]:
    """How the buildings of one city, a few of which fell at least, are ordered."""
    destroyed_N, score_N = answers["destroyed"].to_numpy(bool), answers["score"].to_numpy()
    return {
        "destroyed": int(destroyed_N.sum()),
        "intact": int((~destroyed_N).sum()),
        "auc": float(roc_auc_score(destroyed_N, score_N)),
        "average_precision": float(average_precision_score(destroyed_N, score_N)),
    }


def _spec(name: str, parent: Bundle, head: ContextHead, windows: ContextWindows) -> BundleSpec:
    about = {
        "pixel_network": parent.spec.name,
        "pixel_network_digest": parent.digest,
        "before": head.before,
        "backbone": "EfficientNet-Lite0 (ImageNet, frozen) at 1 m over squares of 48 m",
    }
    return replace(
        parent.spec,
        name=name,
        version="2",  # 1 read surroundings at 0.5 m
        window_px=windows.window_px,
        halo_px=windows.halo_px,
        temperature=1.0,
        calibration=None,
        metrics={},
        training=parent.spec.training | {CONTEXT: about},
    )


def _judged(spec: BundleSpec, answers: pd.DataFrame) -> BundleSpec:
    metrics = left_out_figures(answers)
    points = metrics["operating_points"]
    thresholds = Thresholds(**{name: point["threshold"] for name, point in points.items()})
    return replace(spec, metrics=metrics, thresholds=thresholds)


def _facts(parent: Bundle) -> ModelFacts:
    known = json.loads(parent.files[RECORD])["properties"]
    return ModelFacts(
        architecture=f"{parent.spec.name} with a linear head on EfficientNet-Lite0",
        framework=known["mlm:framework"],
        framework_version=known["mlm:framework_version"],
        parameters=None,
        pretrained_source="ImageNet",
    )
