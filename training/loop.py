"""The training loop of all lessons, in one process or as one worker of a group."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from quakestream.errors import ConfigError, QuakestreamError, RequestError
from training.checkpoints import Checkpoint, as_checkpoint
from training.config import PairsConfig, TrainConfig
from training.data.pairs import LabelledPair
from training.feeds import threaded
from training.lessons.base import Figures, Lesson, OnDevice, TrainingBatch
from training.lessons.pairs import PairsLesson, held_out_logits
from training.reporting import LogReporter, Reporter
from training.run_log import Log, Record
from training.settings import flat, from_json, to_json
from training.trainer import Trainer
from training.worker_group import WorkerGroup

__all__ = ["Feeder", "by_thread", "held_out_logits", "run", "train"]

Feeder = Callable[[Lesson, range, WorkerGroup], AbstractContextManager[Iterator[TrainingBatch]]]
"""Makes the batches of a range for one worker."""

FREE_TO_CHANGE = frozenset({"run.threads", "run.keep_every", "run.device"})
"""Settings that may differ when a run is resumed."""


def train(config: PairsConfig, pairs: Sequence[LabelledPair], log: Log) -> Checkpoint:
    """Trains on pairs in this process and returns the best state on held-out buildings.

    If whole regions are held out, the last state is returned: they are the test, and choosing by
    them would be peeking.
    """
    return run(config, PairsLesson(config, pairs), LogReporter(log))


def by_thread(
    lesson: Lesson, numbers: range, group: WorkerGroup
) -> AbstractContextManager[Iterator[TrainingBatch]]:
    """Makes batches in a thread of this process."""
    return threaded(lambda number: lesson.batch(number, group.rank, group.world), numbers)


def run(
    config: TrainConfig,
    lesson: Lesson,
    reporter: Reporter,
    *,
    group: WorkerGroup | None = None,
    feeder: Feeder = by_thread,
) -> Checkpoint:
    """One worker's part of a run, from its start or from the last state that was saved.

    Returns:
        The chosen state. Its figures are empty on workers other than the leader.

    Raises:
        RequestError: if the last state is of a run with other settings.
        QuakestreamError: if the loss is not finite any more.
    """
    torch.set_num_threads(config.run.threads)
    progress = _Progress(config, lesson, group or WorkerGroup(device=device_of(config)))
    state = reporter.latest_state()
    if state is not None:
        progress.load_state_dict(state)
    reporter.report([progress.start_record()], None)
    with feeder(lesson, progress.batch_numbers(), progress.group) as batches:
        while not progress.ended:
            records = progress.advance(batches)
            if records or progress.is_saved():
                reporter.report(records, progress.state_dict if progress.is_saved() else None)
    return progress.checkpoint()


def device_of(config: TrainConfig) -> torch.device:
    """The device of a process that trains alone."""
    if config.run.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.run.device)


class _Progress:
    """Counts the steps of a run, keeps its best state, and makes its records."""

    def __init__(self, config: TrainConfig, lesson: Lesson, group: WorkerGroup) -> None:
        self._config, self._lesson, self.group = config, lesson, group
        self._epoch_steps = config.schedule.epoch_steps(lesson.examples)
        self._steps = config.schedule.run_steps(lesson.examples)
        self._trainer = Trainer(config, lesson, group, self._steps)
        self._clock = _Clock(config.schedule.global_batch)
        self._losses: list[Tensor] = []
        self._step, self._stale, self._best_score = 0, 0, -math.inf
        self._best: Checkpoint | None = None
        self.ended = False

    def batch_numbers(self) -> range:
        """Numbers of the batches that are still to come."""
        end = self._step if self.ended else self._steps
        return range(
            self._step * self._config.schedule.accumulate, end * self._config.schedule.accumulate
        )

    def checkpoint(self) -> Checkpoint:
        """The best state of a run that has ended.

        Raises:
            QuakestreamError: if nothing was evaluated yet.
        """
        if self._best is None:
            raise QuakestreamError("run has no checkpoint yet", f"step {self._step}")
        return self._best

    def start_record(self) -> Record:
        """What is known before the first step."""
        return {
            "event": "start",
            "step": self._step,
            "steps": self._steps,
            "epoch_steps": self._epoch_steps,
            "started_from": self._trainer.started_from,
            "workers": self.group.world,
            "device": self.group.device.type,
            "bf16": self._trainer.bf16,
            **self._lesson.facts(),
            "config": to_json(self._config),
        }

    def advance(self, batches: Iterator[TrainingBatch]) -> list[Record]:
        """One step; returns its records."""
        self._losses += self._trainer.update(self._clock.timed(batches), self._step)
        self._step += 1
        self.ended = self._step == self._steps
        records = []
        if self._step % self._epoch_steps == 0 or self.ended:
            records.append(self._epoch_record())
        if self._is_check():
            records.append(self._check_record())
            self._clock.restart()
        return records

    def is_saved(self) -> bool:
        """True if the state after this step is saved."""
        return self.ended or self._step % self._config.run.keep_every == 0

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` takes: plain values and tensors."""
        return {
            "config": to_json(self._config),
            "step": self._step,
            "ended": self.ended,
            "stale": self._stale,
            "best_score": self._best_score,
            "best": self._best.as_plain() if self._best else None,
            "losses": torch.stack(self._losses).cpu() if self._losses else torch.zeros(0),
            **self._trainer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from a state.

        Raises:
            RequestError: if the state is of a run with other settings.
        """
        _check_same(from_json(state["config"]), self._config)
        self._step, self.ended, self._stale = state["step"], state["ended"], state["stale"]
        self._best_score = state["best_score"]
        self._best = as_checkpoint(state["best"], "saved state") if state["best"] else None
        self._losses = list(state["losses"].to(self.group.device))
        self._trainer.load_state_dict(state)

    def _epoch_record(self) -> Record:
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if not math.isfinite(loss):
            raise QuakestreamError(
                "the loss is not finite",
                f"step {self._step}",
                got=str(loss),
                remedy="lower lr, or look for values in the data that are not numbers",
            )
        return {
            "event": "epoch",
            "epoch": math.ceil(self._step / self._epoch_steps),
            "step": self._step,
            "loss": loss,
            "lr": self._trainer.lr,
            **self._clock.read(),
        }

    def _is_check(self) -> bool:
        if self.ended:
            return True
        if not self._config.best_figure:
            return False
        if not self._config.selection.checks:
            return self._step % self._epoch_steps == 0
        every = max(1, self._steps // (2 * self._config.selection.checks))
        return self._step > self._steps // 2 and self._step % every == 0

    def _check_record(self) -> Record:
        """Evaluates on validation data, keeps the best state, ends a run that gets no better."""
        weights = self._trainer.weights()
        figures = self._figures(weights) if self.group.is_leader else {}
        score = self.group.from_leader(self._score(figures) if self.group.is_leader else 0.0)
        if (
            not self._config.best_figure
            or score > self._best_score
            or self._best_score == -math.inf
        ):
            self._best_score = -math.inf if math.isnan(score) else score
            self._best, self._stale = self._candidate(weights, figures), 0
        else:
            self._stale += 1
        self.ended |= 0 < self._config.selection.patience <= self._stale
        return {"event": "check", "step": self._step, "s": self._clock.since_start(), **figures}

    def _figures(self, weights: dict[str, Tensor]) -> Figures:
        network = self._lesson.network()
        network.load_state_dict(weights)
        return self._lesson.judge(OnDevice(network.eval(), self.group.device))

    def _candidate(self, weights: dict[str, Tensor], figures: Figures) -> Checkpoint:
        return Checkpoint(
            config=self._config,
            weights=weights,
            step=self._step,
            figures=figures,
            inputs=self._lesson.inputs,
            facts=self._lesson.facts(),
        )

    def _score(self, figures: Figures) -> float:
        if not self._config.best_figure:
            return math.nan
        if self._config.best_figure not in figures:
            raise ConfigError(
                "no such figure",
                f"best={self._config.best_figure}",
                expected=f"one of {', '.join(figures)}",
            )
        return figures[self._config.best_figure]


class _Clock:
    """Measures examples a second, and the share of the time spent waiting for them."""

    def __init__(self, chips_per_batch: int) -> None:
        self._per_batch = chips_per_batch
        self._start = time.monotonic()
        self.restart()

    def restart(self) -> None:
        self._since, self._waited, self._batches = time.monotonic(), 0.0, 0

    def timed(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        """The batches; the time that each takes to arrive is added up."""
        while True:
            start = time.monotonic()
            batch = next(batches)
            self._waited += time.monotonic() - start
            self._batches += 1
            yield batch

    def since_start(self) -> float:
        return round(time.monotonic() - self._start, 1)

    def read(self) -> dict[str, float]:
        """Pace since the last call."""
        passed = max(time.monotonic() - self._since, 1e-9)
        pace = {
            "images_per_s": round(self._batches * self._per_batch / passed, 1),
            "data_wait": round(self._waited / passed, 4),
            "s": self.since_start(),
        }
        self.restart()
        return pace


def _check_same(saved: TrainConfig, now: TrainConfig) -> None:
    before, after = flat(to_json(saved)), flat(to_json(now))
    for name in sorted(before.keys() | after.keys()):
        if name not in FREE_TO_CHANGE and before.get(name) != after.get(name):
            raise RequestError(
                "cannot resume: the run was started with other settings",
                expected=f"{name}={before.get(name)}",
                got=f"{name}={after.get(name)}",
                remedy="give the same settings, or another --out to start from the beginning",
            )
