"""The training loop: plain torch, one process."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from quakestream.tiling.lattice import Lattice
from training.checkpoints import Checkpoint
from training.config import TrainConfig, to_json
from training.data.augment import Chips, augment
from training.data.chips import ChipSource
from training.data.pairs import LabelledPair, outlined_by_bounds
from training.data.split import buildings_on
from training.losses import damage_loss
from training.metrics import arrays, figures
from training.networks import build_network
from training.scoring import BuildingLogits, score_buildings

Log = Callable[[dict[str, Any]], None]


def train(config: TrainConfig, pairs: Sequence[LabelledPair], log: Log) -> Checkpoint:
    """Trains one network and returns its best state on held-out buildings.

    What is judged and kept is the moving average of the weights. With whole regions held out
    the last state is returned, since there choosing would be peeking.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    network = build_network(config.network, dropout=config.dropout)
    for parameter in network.parameters():
        parameter.data = _channels_last(parameter.data)
    average = _Average(network, config.ema)
    source = _source(config, pairs)
    optimiser, schedule = _optimiser(config, network)
    generator = torch.Generator().manual_seed(config.seed)
    log({"event": "start", "destroyed_intact": source.counts(), "config": to_json(config)})
    best: Checkpoint | None = None
    began, losses = time.monotonic(), []
    for step in range(1, config.steps + 1):
        chips = augment(source.draw(config.batch), config.chip_px, config.augmentation, generator)
        losses.append(_step(config, network, optimiser, chips))
        schedule.step()
        average.update(network)
        if _is_check(config, step):
            candidate = _judged(config, pairs, average.weights, step)
            pace = {"loss": round(fmean(losses), 4), "s": round(time.monotonic() - began)}
            log({"event": "check", "step": step} | pace | candidate.figures)
            losses.clear()
            best = _better(config, best, candidate)
    assert best is not None  # the last step is always judged
    return best


def held_out_logits(
    config: TrainConfig, pairs: Sequence[LabelledPair], network: nn.Module
) -> list[BuildingLogits]:
    """Held-out buildings of all pairs, scored the way inference does."""
    scored: list[BuildingLogits] = []
    for given in pairs:
        pair = outlined_by_bounds(given) if config.judge_bounds else given
        lattice = Lattice(
            grid=pair.grid, window_px=config.window_px, halo_px=config.halo_px, cell_windows=1
        )
        held = config.split.held_ground(pair)
        chosen = buildings_on("held", pair, held, buffer_m=config.buffer_m)
        scored += score_buildings(network, pair, chosen, lattice)
    return scored


def jsonl_log(path: Path, echo: Callable[[str], None]) -> Log:
    """A log that appends one JSON object a line, and says it."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def log(record: dict[str, Any]) -> None:
        line = json.dumps(record)
        with path.open("a") as file:
            file.write(line + "\n")
        echo(line)

    return log


class _Average:
    """Moving average of weights and batch statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._decay, self._updates = decay, 0

    def update(self, network: nn.Module) -> None:
        self._updates += 1
        # Early on the average follows the weights: the first ones are worth nothing.
        decay = min(self._decay, self._updates / (self._updates + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


def _source(config: TrainConfig, pairs: Sequence[LabelledPair]) -> ChipSource:
    return ChipSource(
        [outlined_by_bounds(pair) for pair in pairs] if config.label_bounds else pairs,
        config.split,
        raw_px=config.raw_px,
        jitter_px=config.chip_px // 3,
        buffer_m=config.buffer_m,
        seed=config.seed,
    )


def _optimiser(
    config: TrainConfig, network: nn.Module
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]  # norms and biases: no decay
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.lr,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.lr, total_steps=config.steps + 1, pct_start=0.2
    )
    return optimiser, schedule


def _step(
    config: TrainConfig, network: nn.Module, optimiser: torch.optim.Optimizer, chips: Chips
) -> float:
    """One update; its loss. bfloat16 halves the time of a step on CPUs that have it."""
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(_channels_last(chips.pre_NBYX), _channels_last(chips.post_NBYX))
    loss = damage_loss(logits.float(), chips.owner_NYX, config.loss)
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def _is_check(config: TrainConfig, step: int) -> bool:
    if config.held_regions:
        return step == config.steps
    every = max(1, config.steps // (2 * config.checks))
    return step == config.steps or (step > config.steps // 2 and step % every == 0)


def _judged(
    config: TrainConfig, pairs: Sequence[LabelledPair], weights: dict[str, Tensor], step: int
) -> Checkpoint:
    kept = {k: v.contiguous().clone() for k, v in weights.items()}
    checkpoint = Checkpoint(config=config, weights=kept, step=step, figures={})
    scored = held_out_logits(config, pairs, checkpoint.network())
    return Checkpoint(
        config=config, weights=kept, step=step, figures=asdict(figures(*arrays(scored)))
    )


def _better(config: TrainConfig, best: Checkpoint | None, new: Checkpoint) -> Checkpoint:
    if best is None or config.held_regions or new.figures["auc"] > best.figures["auc"]:
        return new
    return best


def _channels_last(array: Tensor) -> Tensor:
    return array.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else array
