"""A few labels of another set, after training at home: what they buy.

Each count of target chips gives three rows: the network from home with calibration and threshold
locked anew (`relocked`), the network from home trained further on them (`tuned`), and one trained
on them alone (`scratch`). `home` has no target label. Three quarters of the chips train and a
quarter locks, so that no other label of the target is used. The target's test is the same in all
rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quakestream.errors import RequestError
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import SlidesConfig
from training.data.slide_chips import SlideChips, open_chips_of
from training.lessons.slides import SlidesLesson, open_slides
from training.loop import run
from training.reporting import LogReporter
from training.run_log import RunLog
from training.seeds import rng
from training.settings import with_values
from training.slides.protocol import Trust, evaluated, trust_of
from training.uncertain_graph import PASSES

COUNTS = (8, 16, 32)
LEAST_CHIPS = 4
_DRAWN = 31
"""Stream of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """Training at home, and the few labels of a target."""

    home: SlidesConfig
    target: Path
    counts: tuple[int, ...] = COUNTS
    tuning: tuple[tuple[str, Any], ...] = (("steps", 60), ("lr", 1e-3))
    """Settings of the training from home's weights; its last state is taken."""
    passes: int = PASSES


def few_shot_rows(
    plan: FewShot, seed: int, out: Path, log: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """The rows of one seed, each when it is done; home is trained once and kept in OUT."""
    config = with_values(plan.home, **{"run.seed": seed})
    lesson = open_slides(config)
    home = _home(config, lesson, out / f"home-{seed}")
    trust = trust_of(home, lesson, passes=plan.passes)
    target = _target_lesson(plan, config, lesson, None)
    yield _row("home", 0, home, target, trust, plan, log)
    every = open_chips_of(plan.target, "train", lesson.train_chips.bands)
    for count in plan.counts:
        training, locking = few_chips(every, count, seed)
        target = _target_lesson(plan, config, lesson, training)
        relocked = trust_of(home, target, passes=plan.passes, chips=locking)
        yield _row("relocked", count, home, target, relocked, plan, log)
        tuning = {"epochs": 0, "best": "", "patience": 0, **dict(plan.tuning)}
        tuned = with_values(config, init=str(out / f"home-{seed}" / "checkpoint.pt"), **tuning)
        scratch = with_values(config, best="", patience=0)
        own = SlidesLesson(_at(plan, scratch), chips=training)
        for name, settings, taught in (("tuned", tuned, target), ("scratch", scratch, own)):
            folder = out / f"{name}-{count}-{seed}"
            made = run(_at(plan, settings), taught, LogReporter(RunLog(folder)))
            locked = trust_of(made, taught, passes=plan.passes, chips=locking)
            yield _row(name, count, made, taught, locked, plan, log)


def few_chips(chips: SlideChips, count: int, seed: int) -> tuple[SlideChips, SlideChips]:
    """Chips to train on, and a quarter to lock on, drawn by the seed.

    Both parts have chips with much and with little slide ground: ordered by it, every fourth one
    locks.

    Raises:
        RequestError: if the set has fewer chips, or the drawn ones show no slide in either part.
    """
    if not LEAST_CHIPS <= count <= len(chips):
        raise RequestError(
            "wrong number of target chips",
            str(chips.root),
            expected=f"{LEAST_CHIPS} to {len(chips)}, the training chips of the target",
            got=str(count),
        )
    drawn = chips.only(np.sort(rng(seed, _DRAWN).permutation(len(chips))[:count]))
    slid_N = drawn.read(range(count))[1].sum(axis=(1, 2))
    order = np.argsort(-slid_N.astype(np.int64), kind="stable")
    locks = np.arange(count) % 4 == 1
    parts = [np.sort(order[~locks]), np.sort(order[locks])]
    if any(slid_N[rows].sum() == 0 for rows in parts):
        raise RequestError(
            "too few of the target chips show a slide",
            str(chips.root),
            got=f"{int((slid_N > 0).sum())} of {count}",
            remedy="take more chips",
        )
    training, locking = (drawn.only(rows) for rows in parts)
    return training, locking


def _home(config: SlidesConfig, lesson: SlidesLesson, folder: Path) -> Checkpoint:
    path = folder / "checkpoint.pt"
    if not path.exists():
        run(config, lesson, LogReporter(RunLog(folder))).save(path)
    return load_checkpoint(path)


def _at(plan: FewShot, config: SlidesConfig) -> SlidesConfig:
    return replace(config, source=str(plan.target))


def _target_lesson(
    plan: FewShot, config: SlidesConfig, home: SlidesLesson, chips: SlideChips | None
) -> SlidesLesson:
    """The lesson at the target, in the scale that the network from home knows."""
    return SlidesLesson(_at(plan, config), chips=chips, scale=home.scale)


def _row(
    name: str,
    count: int,
    checkpoint: Checkpoint,
    lesson: SlidesLesson,
    trust: Trust,
    plan: FewShot,
    log: Callable[[str], None],
) -> dict[str, Any]:
    seed = checkpoint.config.run.seed
    result = evaluated(checkpoint, lesson, passes=plan.passes, trust=trust)
    label = f"{name}-{count}" if count else name
    log(f"{label} seed {seed}: target F1 {result['test']['f1']:.3f}")
    return {
        "name": label,
        "seed": seed,
        "network": checkpoint.config.network,
        "parameters": sum(v.numel() for v in checkpoint.weights.values()),
        "chips": count,
        **result,
    }


def done_with(rows: Sequence[dict[str, Any]], counts: Sequence[int], seed: int) -> bool:
    """True where all rows of a seed are there."""
    same = [row for row in rows if row["seed"] == seed]
    return len(same) == 1 + 3 * len(counts)
