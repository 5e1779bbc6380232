"""Landslide bundles from checkpoints: calibrated on validation, judged on the test."""

from dataclasses import dataclass, field
from typing import Any

from quakestream.domain import BundleSpec, ScaleClass, Thresholds
from quakestream.errors import RequestError
from training.checkpoints import Checkpoint
from training.config import SlidesConfig
from training.graphs import LandslideGraph
from training.judging import plain
from training.lessons.slides import SlidesLesson, open_slides
from training.manifests import VERSION, portable
from training.metrics.scores import ScoreCounts
from training.networks import PixelNetwork
from training.onnx_graph import OPSET
from training.settings import to_json
from training.slides.protocol import Trust, scores_on, trust_of
from training.slides.trust import MapScores, scored_passes
from training.uncertain_graph import PASSES, UncertainLandslideGraph

CLASSES = (ScaleClass(index=0, label="background"), ScaleClass(index=1, label="landslide"))
MIN_PRECISION, MIN_RECALL = 0.8, 0.9
"""Precision and recall on validation that the outer thresholds aim at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideExport:
    """What a person decides about a landslide bundle."""

    data: str
    """Description of the training data, for the card."""
    licence: str
    figures: dict[str, Any] = field(default_factory=dict)
    """Further figures, such as those on real scenes; they go to `metrics`."""
    window_px: int = 256
    halo_px: int = 48
    passes: int = PASSES


def slide_bundle(
    checkpoint: Checkpoint, name: str, options: SlideExport
) -> tuple[LandslideGraph, BundleSpec]:
    """Graph and manifest of a checkpoint.

    Raises:
        RequestError: if the units of the stored values are not known.
    """
    config = checkpoint.config_as(SlidesConfig)
    lesson = open_slides(config)
    trust = trust_of(checkpoint, lesson, passes=options.passes)
    facts = checkpoint.facts
    mean, std = physical_scale(facts, config.source)
    metrics, validation = _metrics(lesson, trust), _validation(lesson, trust)
    slid, rest = (float(v.sum()) for v in (validation.positive_P, validation.negative_P))
    share = slid / (slid + rest)
    spec = BundleSpec(
        name=name,
        version=VERSION,
        task="landslide",
        epochs=("post",),
        bands=tuple(facts["bands"]),
        gsd_m=float(facts["gsd_m"]) * config.view.coarsen,
        window_px=options.window_px,
        halo_px=options.halo_px,
        dtype=facts["dtype"],
        normalisation="fixed",
        mean=tuple(mean),
        std=tuple(std),
        classes=CLASSES,
        prior=(round(1.0 - share, 4), round(share, 4)),  # where they were calibrated
        deviation=trust.passes > 1,
        thresholds=thresholds_of(validation, trust.threshold),
        metrics=plain(metrics | options.figures),
        training={
            "data": options.data,
            "licence": options.licence,
            "recipe": config.recipe,
            "step": checkpoint.step,
            "opset": OPSET,
            "config": portable(to_json(config)),
        },
    )
    return slide_graph(checkpoint, spec), spec


def slide_graph(checkpoint: Checkpoint, spec: BundleSpec) -> LandslideGraph:
    """The graph of a manifest, with the checkpoint's weights."""
    network = checkpoint.network()
    assert isinstance(network, PixelNetwork)
    slope, offset = spec.metrics["platt"]
    common: dict[str, Any] = {
        "window_px": spec.window_px,
        "mean_B": spec.mean,
        "std_B": spec.std,
        "dtype": spec.dtype,
        "platt": (slope, offset),
    }
    if spec.deviation:
        return UncertainLandslideGraph(network, passes=spec.metrics["passes"], **common)
    return LandslideGraph(network, **common)


def physical_scale(facts: dict[str, Any], source: str) -> tuple[list[float], list[float]]:
    """Means and deviations in physical units: reflectance, degrees, metres, or counts.

    Raises:
        RequestError: if a set does not say how its stored values become physical ones.
    """
    factors = facts["physical_per_stored"]
    if not factors:
        raise RequestError(
            "the set does not say in what units its values are",
            source,
            expected="physical_per_stored for each band in about.json",
            remedy="a bundle gets reflectance, degrees and metres: write about.json into the set",
        )
    mean = [m * f for m, f in zip(facts["mean"], factors, strict=True)]
    return mean, [s * f for s, f in zip(facts["std"], factors, strict=True)]


def thresholds_of(counts: ScoreCounts, balanced: float) -> Thresholds:
    """The balanced threshold, and those from which precision or recall is high enough."""
    grid = [round(0.01 * n, 2) for n in range(1, 100)]
    figures = {t: counts.figures_at(t) for t in grid}
    precise = [t for t in grid if t >= balanced and figures[t]["precision"] >= MIN_PRECISION]
    full = [t for t in grid if t <= balanced and figures[t]["recall"] >= MIN_RECALL]
    return Thresholds(
        high_precision=min(precise, default=max(0.9, balanced)),
        balanced=balanced,
        high_recall=max(full, default=min(0.1, balanced)),
    )


def _validation(lesson: SlidesLesson, trust: Trust) -> ScoreCounts:
    scores = MapScores(threshold=trust.threshold)
    chips = lesson.part("validation")
    for logits, mask in scored_passes(lesson, trust.network, chips, passes=trust.passes):
        scores = scores.add(trust.platt(logits), mask)
    return scores.counts


def _metrics(lesson: SlidesLesson, trust: Trust) -> dict[str, Any]:
    test = scores_on(lesson, trust)
    slid = test.counts.positive_P.sum()
    return {
        "split": f"test part of {lesson.train_chips.info.description}",
        "pixels": int(slid + test.counts.negative_P.sum()),
        "landslide_pixels": int(slid),
        **test.figures(),
        "calibration_error_before": trust.before["calibration_error"],
        "calibration_error_validation": trust.validation["calibration_error"],
        "uncertainty": test.uncertainty() if trust.passes > 1 else {},
        "passes": trust.passes,
        "platt": [trust.platt.slope, trust.platt.offset],
    }
