"""The network in training: its weights, what moves them, and their moving average."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from quakestream.errors import ConfigError
from training.checkpoints import start_from
from training.config import TrainConfig
from training.crew import Crew, synchronised
from training.lessons.base import Batch, Lesson, inner_bands
from training.networks import FcSiam
from training.schedules import CosineWarmup, cosine_warmup, one_cycle, parameter_groups
from training.seeds import torch_seed

FLOOR, START = 0.1, 0.01
"""Learning rates of the cosine's end and of the warm-up's begin, as shares of its peak."""


class Trainee:
    """Moves weights, step by step. Given the same state and batches it does the same again.

    Raises:
        RequestError: if the weights to start from are of another architecture.
    """

    def __init__(self, config: TrainConfig, lesson: Lesson, crew: Crew, steps: int) -> None:
        self._config, self._lesson, self._crew = config, lesson, crew
        torch.manual_seed(config.seed)
        self._network = lesson.network()
        self.started_from = start_from(self._network, config) if config.init else "nothing"
        _prepare(self._network, config, crew)
        self._average = _Average(self._network, config.ema)
        self._optimiser = torch.optim.AdamW(_groups(config, self._network), lr=config.lr)
        self._schedule = _schedule(config, self._optimiser, steps)
        self._workers = _data_parallel(self._network, crew)
        called: Callable[..., Any] = self._workers
        if config.compile:
            called = torch.compile(self._workers)
        self.bf16 = _in_bf16(config, crew)
        self._forward = _Autocast(called, crew.device, self.bf16)

    @property
    def lr(self) -> float:
        return float(self._schedule.get_last_lr()[0])

    def weights(self) -> dict[str, Tensor]:
        """What is judged and kept: the moving average."""
        return {k: v.cpu().contiguous().clone() for k, v in self._average.weights.items()}

    def update(self, batches: Iterator[Batch], step: int) -> list[Tensor]:
        """One step: the gradients of all its batches, and the weights moved by them.

        Returns:
            The loss of each batch, still on the device.
        """
        config, losses = self._config, []
        self._network.train()
        self._optimiser.zero_grad()
        for turn in range(config.accumulate):
            batch = next(batches)
            number = step * config.accumulate + turn
            torch.manual_seed(torch_seed(config.seed, number, self._crew.rank))  # for dropout
            with self._gathering(last=turn == config.accumulate - 1):
                loss = self._lesson.loss(self._forward, batch.on(self._crew.device), number)
                torch.autograd.backward(loss / config.accumulate)
            losses.append(loss.detach())
        if config.clip:
            nn.utils.clip_grad_norm_(self._network.parameters(), config.clip)
        self._optimiser.step()
        self._schedule.step()
        self._average.update(self._network)
        return losses

    def _gathering(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients cross between workers once a step, with the last of its batches."""
        if last or not isinstance(self._workers, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = self._workers.no_sync()
        return context

    def plain(self) -> dict[str, Any]:
        """All that `restore` needs; plain values and tensors."""
        return {
            "network": self._network.state_dict(),
            "average": self._average.plain(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._average.restore(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])


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
            if value.is_floating_point() and decay:
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def plain(self) -> dict[str, Any]:
        return {"weights": self.weights, "updates": self._updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._updates = state["updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(value)


class _Autocast(nn.Module):
    """The network alone in bfloat16; losses stay in float32."""

    def __init__(self, network: Callable[..., Any], device: torch.device, bf16: bool) -> None:
        super().__init__()
        self._called, self._device, self._bf16 = network, device.type, bf16

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            return self._called(*inputs)


def _prepare(network: nn.Module, config: TrainConfig, crew: Crew) -> None:
    if config.freeze_encoder:
        if not isinstance(network, FcSiam):
            raise ConfigError(f"freeze_encoder: {config.network} has no encoder to freeze")
        network.freeze_encoder()
    if crew.world > 1:
        synchronised(network)
    network.to(crew.device)
    for parameter in network.parameters():
        parameter.data = inner_bands(parameter.data)


def _groups(config: TrainConfig, network: nn.Module) -> list[dict[str, Any]]:
    scales = {"encoder.": config.encoder_lr} if config.encoder_lr != 1 else None
    return parameter_groups(
        network, lr=config.lr, weight_decay=config.weight_decay, lr_scales=scales
    )


def _schedule(
    config: TrainConfig, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "one_cycle":
        return one_cycle(optimiser, steps=steps, warm=config.warmup)
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
    rates = CosineWarmup(
        steps=steps,
        warmup_steps=int(config.warmup * steps),
        peak=config.lr,
        floor=FLOOR * config.lr,
        start=START * config.lr,
    )
    return cosine_warmup(optimiser, rates)


def _data_parallel(network: nn.Module, crew: Crew) -> nn.Module:
    if crew.world == 1:
        return network
    on_gpu = crew.device.type == "cuda"
    return DistributedDataParallel(network, device_ids=[crew.device] if on_gpu else None)


def _in_bf16(config: TrainConfig, crew: Crew) -> bool:
    """Whether the network computes in bfloat16: where that halves a step."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if crew.device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
