"""The protocol of the Clay study: train, lock a threshold on validation, look at the test once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from training.checkpoints import Checkpoint
from training.config import SlidesConfig
from training.data.slide_chips import SlideChips
from training.lessons.slides import SlidesLesson, open_slides
from training.loop import run
from training.networks import PixelNetwork
from training.reporting import LogReporter
from training.run_log import RunLog
from training.settings import with_values
from training.slides.trust import MapScores, Platt, fit_platt, sample_pixels, scored_passes
from training.uncertain_graph import PASSES, with_fixed_masks

SEEDS = (42, 123, 2024)
"""Seeds of the Clay study."""
SHOWN = ("f1", "precision", "recall", "iou", "miou", "auc", "average_precision")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """One row of a table: a name, and the configuration that is run once per seed."""

    name: str
    config: SlidesConfig
    first: SlidesConfig | None = None
    """A first stage, such as the head on a frozen encoder, whose weights `config` starts from."""
    targets: tuple[Path, ...] = ()
    """Other sets to judge on, with the threshold locked on the set's own validation."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trust:
    """Calibration and threshold, both from validation alone."""

    network: PixelNetwork
    """With fixed masks if there are several passes."""
    passes: int
    platt: Platt
    threshold: float
    before: dict[str, float]
    """Calibration figures of the raw sigmoid on validation."""
    validation: dict[str, float]


def run_trial(
    trial: Trial, out: Path, log: Callable[[str], None], *, passes: int = PASSES
) -> dict[str, Any]:
    """Trains one configuration and evaluates it; returns plain values."""
    start = time.monotonic()
    folder = out / f"{trial.name}-{trial.config.run.seed}"
    config = trial.config
    if trial.first is not None:
        first = with_values(trial.first, **{"run.seed": config.run.seed})
        config = with_values(config, init=str(_trained(first, folder / "first")[1]))
    lesson = open_slides(config)
    checkpoint, _ = _trained(config, folder, lesson)
    trained_s = time.monotonic() - start
    result = evaluated(checkpoint, lesson, targets=trial.targets, passes=passes)
    log(f"{trial.name} seed {trial.config.run.seed}: test F1 {result['test']['f1']:.3f}")
    return {
        "name": trial.name,
        "seed": trial.config.run.seed,
        "network": trial.config.network,
        "parameters": sum(v.numel() for v in checkpoint.weights.values()),
        "chips": lesson.examples,
        "best_step": checkpoint.step,
        "training_s": round(trained_s, 1),
        **result,
    }


def _trained(
    config: SlidesConfig, folder: Path, lesson: SlidesLesson | None = None
) -> tuple[Checkpoint, Path]:
    """Trains a configuration; the checkpoint, and where it was saved."""
    checkpoint = run(config, lesson or open_slides(config), LogReporter(RunLog(folder)))
    path = folder / "checkpoint.pt"
    checkpoint.save(path)
    return checkpoint, path


def evaluated(
    checkpoint: Checkpoint,
    lesson: SlidesLesson,
    *,
    targets: Sequence[Path] = (),
    passes: int = PASSES,
    trust: Trust | None = None,
) -> dict[str, Any]:
    """Figures on the test, after calibration and threshold were locked.

    Args:
        checkpoint: the trained network.
        lesson: gives the test.
        targets: other sets to judge on.
        passes: fixed masks of dropout.
        trust: what was locked; None: locked on validation.
    """
    trust = trust or trust_of(checkpoint, lesson, passes=passes)
    test, raw = MapScores(threshold=trust.threshold), MapScores(threshold=0.5)
    for logits, mask in scored_passes(
        lesson, trust.network, lesson.part("test"), passes=trust.passes
    ):
        test = test.add(trust.platt(logits), mask)
        raw = raw.add(Platt()(logits), mask)
    return {
        "threshold": trust.threshold,
        "platt": asdict(trust.platt),
        "passes": trust.passes,
        "validation": trust.validation,
        "test": test.figures(),
        "test_uncalibrated": raw.counts.calibration(),
        "uncertainty": test.uncertainty() if trust.passes > 1 else {},
        "doubt": test.doubt(),
        "targets": {root.name: scores_on(lesson, trust, root=root).figures() for root in targets},
    }


def trust_of(
    checkpoint: Checkpoint,
    lesson: SlidesLesson,
    *,
    passes: int = PASSES,
    chips: SlideChips | None = None,
) -> Trust:
    """Fits calibration and threshold on chips: those of validation if None."""
    chips = chips or lesson.part("validation")
    network = checkpoint.network()
    assert isinstance(network, PixelNetwork)
    drops = any(isinstance(m, nn.Dropout2d) and m.p > 0 for m in network.modules())
    passes = passes if drops else 1
    if passes > 1:
        network = with_fixed_masks(network, passes, seed=0)
    logits_PT, truth_P = sample_pixels(scored_passes(lesson, network, chips, passes=passes))
    platt = fit_platt(logits_PT, truth_P)
    scores, raw = MapScores(threshold=0.5), MapScores(threshold=0.5)
    for logits, mask in scored_passes(lesson, network, chips, passes=passes):
        scores, raw = scores.add(platt(logits), mask), raw.add(Platt()(logits), mask)
    threshold = scores.counts.best_threshold()
    return Trust(
        network=network,
        passes=passes,
        platt=platt,
        threshold=threshold,
        before=raw.counts.calibration(),
        validation=scores.counts.figures_at(threshold) | scores.counts.calibration(),
    )


def scores_on(lesson: SlidesLesson, trust: Trust, *, root: Path | None = None) -> MapScores:
    """Scores of the test of a set, by what was locked on validation."""
    scores = MapScores(threshold=trust.threshold)
    chips = lesson.part("test", root)
    for logits, mask in scored_passes(lesson, trust.network, chips, passes=trust.passes):
        scores = scores.add(trust.platt(logits), mask)
    return scores


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample deviation over seeds of each name, in order."""
    table = []
    for name in dict.fromkeys(row["name"] for row in rows):
        same = [row for row in rows if row["name"] == name]
        values = {f"test_{k}": [row["test"][k] for row in same] for k in SHOWN}
        for target in same[0].get("targets", {}):
            values[f"{target}_f1"] = [row["targets"][target]["f1"] for row in same]
        values["ece_before"] = [r["test_uncalibrated"]["calibration_error"] for r in same]
        values["ece_after"] = [row["test"]["calibration_error"] for row in same]
        key = "errors_in_least_sure_tenth"
        values[key] = [row["doubt"][key] for row in same]
        if all(row["uncertainty"] for row in same):
            key = "errors_in_most_uncertain_tenth"
            values[key] = [row["uncertainty"][key] for row in same]
        table.append(
            {
                "name": name,
                "seeds": [row["seed"] for row in same],
                "parameters": same[0]["parameters"],
                "chips": same[0]["chips"],
                **{key: _mean_std(numbers) for key, numbers in values.items()},
            }
        )
    return table


def as_text(table: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of F1, IoU, calibration and errors among uncertain pixels."""
    extra = sorted({k for row in table for k in row if k.endswith("_f1") and k != "test_f1"})
    columns = ["test_f1", "test_iou", *extra, "ece_before", "ece_after"]
    columns += ["errors_in_most_uncertain_tenth", "errors_in_least_sure_tenth"]
    lines = ["| trial | seeds | chips | " + " | ".join(columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 3))
    for row in table:
        cells = [f"{row[c][0]:.3f} ± {row[c][1]:.3f}" if c in row else "–" for c in columns]
        lines.append(
            f"| {row['name']} | {len(row['seeds'])} | {row['chips']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return round(float(np.mean(values)), 4), round(spread, 4)
