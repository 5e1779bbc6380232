"""Fits a recipe to points and writes it as a bundle of task `hazard`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec, HazardInput, Thresholds
from quakestream.errors import RequestError
from training.data.splits import FIELD_BLOCK_DEG
from training.hazard.card import card_of
from training.hazard.comparison import OnProgress
from training.hazard.convert import OPSET, check_parity, run, to_onnx
from training.hazard.families import CANDIDATES, family
from training.hazard.judging import Predictions, class_aucs, macro_auc, pooled_auc
from training.hazard.nested import (
    OUTER,
    TuningResult,
    choose,
    folds_of,
    gathered,
    mean_probabilities,
    shares,
    tempered,
)
from training.hazard.points import HazardPoints
from training.judging import ScoredRows, class_report, plain, severe_points
from training.metrics import block_interval, blocks_of
from training.mlm import ModelFacts, write_record
from training.onnx_graph import compressed
from training.scales import scale_of

VERSION = "1"
AUTO = "auto"
DRAWS = 1000
PARITY_ROWS = 2000
SPLIT = "five folds of 0.02° blocks, 0.005° buffer, settings chosen inside the training part"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsProvenance:
    """Origin of the points, for the manifest and the card."""

    data: str
    licence: str
    excluded: str = ""
    """Description of the ground that is left out; empty if there is none."""
    period: tuple[str, str] | None = None
    """First and last moment of the points, ISO 8601."""
    notes: str = ""
    """Notes on the values, for the card."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Fitted classifiers, their choice, and figures of the whole procedure on held-out ground."""

    tuned: TuningResult
    models: tuple[Any, ...]
    metrics: dict[str, Any]
    thresholds: Thresholds


def fit(points: HazardPoints, model: str, *, seed: int = 0, on_progress: OnProgress) -> Fit:
    """Chooses settings on folds of all points, fits all points, and evaluates the procedure.

    Points are also given with some values removed, so that the model works for footprints with
    missing layers.

    Args:
        points: training points.
        model: a family, families joined by `+`, or `auto` for the best on inner folds.
        seed: seed for dealing blocks to folds.
        on_progress: takes a line after each step.

    Raises:
        RequestError: if there is no such model, or the points cannot be split into folds.
    """
    names = _names(model)
    held: list[NDArray[np.float64]] = []
    folds = folds_of(points, OUTER, seed)
    for number, fold in enumerate(folds):
        train = points.take(fold.train_N)
        tuned = choose(train, names, masked=True, seed=seed)
        models = tuned.recipe.fit(train.values_NM, train.label_N)
        p_NC = mean_probabilities(models, points.values_NM[fold.held_N])
        held.append(tempered(p_NC, tuned.temperature))
        on_progress(f"fold {number + 1} of {OUTER}: {tuned.recipe.name}, {tuned.recipe.settings}")
    metrics, thresholds = _metrics(gathered(points, folds, held), points)
    tuned = choose(points, names, masked=True, seed=seed)
    on_progress(f"all points: {tuned.recipe.name}, {tuned.recipe.settings}")
    return Fit(
        tuned=tuned,
        models=tuple(tuned.recipe.fit(points.values_NM, points.label_N)),
        metrics=metrics,
        thresholds=thresholds,
    )


def write(fitted: Fit, points: HazardPoints, source: PointsProvenance, folder: Path) -> BundleSpec:
    """Writes graph, golden batch, card, record and manifest, and checks the bundle.

    Raises:
        EngineError: if ONNX Runtime and scikit-learn differ by 1e-5 or more on a probability.
    """
    temperature = fitted.tuned.temperature
    graph = to_onnx(fitted.models, len(points.names), temperature).SerializeToString()
    rows = np.random.default_rng(0).permutation(len(points))[:PARITY_ROWS]
    check_parity(graph, fitted.models, temperature, points.values_NM[rows])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph)
    spec = spec_of(fitted, points, source, folder.name)
    golden: dict[str, NDArray[np.generic]] = {"hazard": golden_values(spec)}
    golden["logits"] = run(graph, golden_values(spec))
    (folder / "golden.npz").write_bytes(compressed(golden))
    facts = _facts(fitted)
    (folder / "card.md").write_text(card_of(spec, model=facts.architecture, notes=source.notes))
    write_record(folder, spec, facts)
    write_manifest(folder, spec)
    load_bundle(str(folder))
    return spec


def spec_of(fitted: Fit, points: HazardPoints, source: PointsProvenance, name: str) -> BundleSpec:
    """The manifest. The temperature is inside the graph, which outputs probabilities."""
    recipe = fitted.tuned.recipe
    west, south = float(points.lon_N.min()), float(points.lat_N.min())
    east, north = float(points.lon_N.max()), float(points.lat_N.max())
    return BundleSpec(
        name=name,
        version=VERSION,
        task="hazard",
        dtype="float32",
        normalisation="fixed",
        hazard=_inputs(points),
        classes=scale_of(points.classes),
        prior=tuple(round(float(s), 6) for s in shares(points.label_N, len(points.classes))),
        outputs="probabilities",
        thresholds=fitted.thresholds,
        metrics=fitted.metrics,
        training={
            "data": source.data,
            "licence": source.licence,
            "points": len(points),
            "per_class": np.bincount(points.label_N, minlength=len(points.classes)).tolist(),
            **({"excluded": source.excluded} if source.excluded else {}),
            **({"period": list(source.period)} if source.period else {}),
            "bbox": [round(v, 4) for v in (west, south, east, north)],
            "recipe": recipe.name,
            "settings": recipe.settings,
            "masked_copies": recipe.masked,
            "calibration": {
                "kind": "temperature, fitted on inner folds, inside the graph",
                "temperature": round(fitted.tuned.temperature, 4),
            },
            "opset": OPSET,
            "config": {"network": recipe.name, **recipe.settings},
        },
    )


def golden_values(spec: BundleSpec, rows: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """A synthetic batch: values around their means, some missing, and all of the last row."""
    rng = np.random.default_rng(seed)
    mean_M = np.array([h.mean for h in spec.hazard])
    std_M = np.array([h.std for h in spec.hazard])
    value_NM = mean_M + std_M * rng.normal(size=(rows, len(mean_M)))
    value_NM[rng.random(value_NM.shape) < 0.2] = np.nan
    value_NM[0], value_NM[-1] = mean_M, np.nan
    return value_NM.astype(np.float32)


def _names(model: str) -> tuple[tuple[str, ...], ...]:
    """The candidates: families, or means of families."""
    if model == AUTO:
        return CANDIDATES
    parts = tuple(model.split("+"))
    if len(set(parts)) < len(parts):
        raise RequestError("a family is named twice", f"--model {model}")
    return (tuple(family(part).name for part in parts),)


def _inputs(points: HazardPoints) -> tuple[HazardInput, ...]:
    values_NM = points.values_NM.astype(np.float64)
    mean_M: list[float] = np.nanmean(values_NM, axis=0).tolist()
    std_M: list[float] = np.atleast_1d(np.nanstd(values_NM, axis=0)).tolist()
    return tuple(
        HazardInput(name=n, unit=u, mean=round(m, 6), std=round(s, 6), missing="mask")
        for n, u, m, s in zip(points.names, points.units, mean_M, std_M, strict=True)
    )


def _metrics(predicted: Predictions, points: HazardPoints) -> tuple[dict[str, Any], Thresholds]:
    """Figures of calibrated probabilities on ground that was not used for any choice."""
    block_N = blocks_of(points.lon_N, points.lat_N, side_m=FIELD_BLOCK_DEG)
    scored = ScoredRows(
        row_N=np.arange(len(points)),
        p_NC=predicted.p_NC,
        label_N=points.label_N,
        block_N=block_N,
    )
    of_severe = severe_points(scored, scale_of(points.classes))
    auc = block_interval(macro_auc(predicted, points.label_N), block_N, draws=DRAWS)
    thresholds = {n: p["threshold"] for n, p in of_severe["operating_points"].items()}
    metrics = {
        "split": SPLIT,
        **class_report(scored, draws=DRAWS),
        # Means over folds: see `judging.macro_auc`.
        "macro_auc": auc.value,
        "macro_auc_95": (auc.low, auc.high),
        "auc": class_aucs(predicted, points.label_N),
        "pooled_auc": pooled_auc(predicted, points.label_N)(np.ones(len(points))),
        **of_severe,
    }
    return plain(metrics), Thresholds(**thresholds)


def _facts(fitted: Fit) -> ModelFacts:
    linear = [m[-1] for m in fitted.models if hasattr(m, "steps") and hasattr(m[-1], "coef_")]
    count = sum(m.coef_.size + m.intercept_.size for m in linear)
    architecture = " and ".join(ARCHITECTURES[f.name] for f, _ in fitted.tuned.recipe.parts)
    return ModelFacts(
        architecture=f"{architecture[0].upper()}{architecture[1:]}",
        framework="scikit-learn",
        framework_version=sklearn.__version__,
        parameters=int(count) if len(linear) == len(fitted.models) else None,
    )


ARCHITECTURES = {
    "logistic": "multinomial logistic regression",
    "boosting": "gradient-boosted trees",
    "extra_trees": "extremely randomised trees",
    "bayes": "naive Bayes on normal scores",
    "forest": "random forest",
}
