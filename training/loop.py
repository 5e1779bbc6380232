"""The training loop: one for all lessons, alone or as one worker of many."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from quakestream.errors import ConfigError, QuakestreamError, RequestError
from training.checkpoints import Checkpoint, as_checkpoint
from training.config import TrainConfig, to_json
from training.crew import Crew
from training.data.pairs import LabelledPair
from training.feeds import threaded
from training.journal import Log, Record
from training.keeping import Keeper, LogKeeper
from training.lessons.base import Batch, Figures, Lesson, OnDevice
from training.lessons.pairs import PairsLesson, held_out_logits
from training.trainee import Trainee

__all__ = ["Feeder", "by_thread", "held_out_logits", "run", "train"]

Feeder = Callable[[Lesson, range, Crew], AbstractContextManager[Iterator[Batch]]]
"""Makes the batches of a range for one worker."""

FREE_TO_CHANGE = {"threads", "keep_every", "device"}
"""Settings that may differ when a run is gone on with."""


def train(config: TrainConfig, pairs: Sequence[LabelledPair], log: Log) -> Checkpoint:
    """Trains on pairs in this process and returns the best state on held-out buildings.

    With whole regions held out the last state is returned, since there choosing would be peeking.
    """
    checkpoint = run(config, PairsLesson(config, pairs), LogKeeper(log))
    assert checkpoint is not None  # one worker is the leader
    return checkpoint


def by_thread(
    lesson: Lesson, numbers: range, crew: Crew
) -> AbstractContextManager[Iterator[Batch]]:
    """Batches made by a thread of this process."""
    return threaded(lambda number: lesson.batch(number, crew.rank, crew.world), numbers)


def run(
    config: TrainConfig,
    lesson: Lesson,
    keeper: Keeper,
    *,
    crew: Crew | None = None,
    feeder: Feeder = by_thread,
) -> Checkpoint | None:
    """One worker's part of a run, from its start or from the last state kept.

    Returns:
        The state that was kept; None on workers other than the leader.

    Raises:
        RequestError: if the last state is of a run with other settings.
        QuakestreamError: if the loss is no number any more.
    """
    torch.set_num_threads(config.threads)
    progress = _Progress(config, lesson, crew or Crew(device=device_of(config)))
    state = keeper.latest()
    if state is not None:
        progress.restore(state)
    keeper.tell([progress.opening()], None)
    with feeder(lesson, progress.batch_numbers(), progress.crew) as batches:
        while not progress.ended:
            records = progress.advance(batches)
            if records or progress.is_kept():
                keeper.tell(records, progress.plain if progress.is_kept() else None)
    return progress.best


def device_of(config: TrainConfig) -> torch.device:
    """Where a process that trains alone computes."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


class _Progress:
    """How far a run is, what is best so far, and when there is something to tell."""

    def __init__(self, config: TrainConfig, lesson: Lesson, crew: Crew) -> None:
        self._config, self._lesson, self.crew = config, lesson, crew
        self._epoch_steps = config.epoch_steps(lesson.examples)
        self._steps = config.run_steps(lesson.examples)
        self._trainee = Trainee(config, lesson, crew, self._steps)
        self._clock = _Clock(config.global_batch)
        self._losses: list[Tensor] = []
        self._step, self._stale, self._best_score = 0, 0, -math.inf
        self.ended = False
        self.best: Checkpoint | None = None

    def batch_numbers(self) -> range:
        """Batches that are still to come."""
        end = self._step if self.ended else self._steps
        return range(self._step * self._config.accumulate, end * self._config.accumulate)

    def opening(self) -> Record:
        """What is known before the first step."""
        return {
            "event": "start",
            "step": self._step,
            "steps": self._steps,
            "epoch_steps": self._epoch_steps,
            "started_from": self._trainee.started_from,
            "workers": self.crew.world,
            "device": self.crew.device.type,
            "bf16": self._trainee.bf16,
            **self._lesson.facts(),
            "config": to_json(self._config),
        }

    def advance(self, batches: Iterator[Batch]) -> list[Record]:
        """One step, and what there is to tell of it."""
        self._losses += self._trainee.update(self._clock.watched(batches), self._step)
        self._step += 1
        self.ended = self._step == self._steps
        records = []
        if self._step % self._epoch_steps == 0 or self.ended:
            records.append(self._epoch())
        if self._is_check():
            records.append(self._check())
            self._clock.restart()
        return records

    def is_kept(self) -> bool:
        return self.ended or self._step % self._config.keep_every == 0

    def plain(self) -> dict[str, Any]:
        """The run's state, as `restore` takes it: plain values and tensors."""
        return {
            "config": to_json(self._config),
            "step": self._step,
            "ended": self.ended,
            "stale": self._stale,
            "best_score": self._best_score,
            "best": self.best.as_plain() if self.best else None,
            "losses": torch.stack(self._losses).cpu() if self._losses else torch.zeros(0),
            **self._trainee.plain(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state.

        Raises:
            RequestError: if it is of a run with other settings.
        """
        _check_same(state["config"], to_json(self._config))
        self._step, self.ended, self._stale = state["step"], state["ended"], state["stale"]
        self._best_score = state["best_score"]
        self.best = as_checkpoint(state["best"], "kept state") if state["best"] else None
        self._losses = list(state["losses"].to(self.crew.device))
        self._trainee.restore(state)

    def _epoch(self) -> Record:
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if not math.isfinite(loss):
            raise QuakestreamError(
                f"step {self._step}: the loss is {loss}; lower lr, or look for values in the data "
                "that are not numbers"
            )
        return {
            "event": "epoch",
            "epoch": math.ceil(self._step / self._epoch_steps),
            "step": self._step,
            "loss": loss,
            "lr": self._trainee.lr,
            **self._clock.read(),
        }

    def _is_check(self) -> bool:
        if self.ended:
            return True
        if not self._config.chosen_by:
            return False
        if not self._config.checks:
            return self._step % self._epoch_steps == 0
        every = max(1, self._steps // (2 * self._config.checks))
        return self._step > self._steps // 2 and self._step % every == 0

    def _check(self) -> Record:
        """Judges on validation data, keeps the best state, ends a run that gets no better."""
        candidate = self._candidate() if self.crew.leads else None
        score = self.crew.first(self._score(candidate.figures) if candidate else 0.0)
        if not self._config.chosen_by or score > self._best_score or self._best_score == -math.inf:
            self._best_score = -math.inf if math.isnan(score) else score
            self.best, self._stale = candidate, 0
        else:
            self._stale += 1
        self.ended |= 0 < self._config.patience <= self._stale
        figures = candidate.figures if candidate else {}
        return {"event": "check", "step": self._step, "s": self._clock.since_start(), **figures}

    def _candidate(self) -> Checkpoint:
        weights = self._trainee.weights()
        network = self._lesson.network()
        network.load_state_dict(weights)
        figures = self._lesson.judge(OnDevice(network.eval(), self.crew.device))
        return Checkpoint(
            config=self._config,
            weights=weights,
            step=self._step,
            figures=figures,
            inputs=self._lesson.inputs,
            facts=self._lesson.facts(),
        )

    def _score(self, figures: Figures) -> float:
        if not self._config.chosen_by:
            return math.nan
        if self._config.chosen_by not in figures:
            raise ConfigError(
                f"best={self._config.chosen_by}: no such figure; known: {', '.join(figures)}"
            )
        return figures[self._config.chosen_by]


class _Clock:
    """Chips a second, and the share of the time that was spent waiting for them."""

    def __init__(self, chips_per_batch: int) -> None:
        self._per_batch = chips_per_batch
        self._start = time.monotonic()
        self.restart()

    def restart(self) -> None:
        self._since, self._waited, self._batches = time.monotonic(), 0.0, 0

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, with the time they take to come counted."""
        while True:
            asked = time.monotonic()
            batch = next(batches)
            self._waited += time.monotonic() - asked
            self._batches += 1
            yield batch

    def since_start(self) -> float:
        return round(time.monotonic() - self._start, 1)

    def read(self) -> dict[str, float]:
        """Pace since it was last read."""
        passed = max(time.monotonic() - self._since, 1e-9)
        pace = {
            "images_per_s": round(self._batches * self._per_batch / passed, 1),
            "data_wait": round(self._waited / passed, 4),
            "s": self.since_start(),
        }
        self.restart()
        return pace


def _check_same(kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = sorted(k for k in now if k not in FREE_TO_CHANGE and kept.get(k) != now[k])
    if differing:
        name = differing[0]
        raise RequestError(
            f"resume: this run was started with {name}={kept.get(name)}, not {now[name]}; "
            "give the same settings, or another --out to start anew"
        )
