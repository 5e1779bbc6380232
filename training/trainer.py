"""The network in training: weights, optimiser, schedule and moving average."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from quakestream.errors import ConfigError
from training.checkpoints import start_from
from training.config import TrainConfig
from training.lessons.base import Lesson, TrainingBatch, inner_bands
from training.networks import FcSiam, LiteSiam, PixelNetwork
from training.schedules import CosineWarmup, cosine_warmup, one_cycle, parameter_groups
from training.seeds import torch_seed
from training.worker_group import WorkerGroup, with_group_norms

FLOOR, START = 0.1, 0.01
"""Learning rates at the end of the cosine and at the start of the warm-up, per peak rate."""


class Trainer:
    """Updates weights, step by step. The same state and batches give the same weights again.

    Raises:
        RequestError: if the weights to start from are of another architecture.
    """

    def __init__(self, config: TrainConfig, lesson: Lesson, group: WorkerGroup, steps: int) -> None:
        self._config, self._lesson, self._group = config, lesson, group
        torch.manual_seed(config.run.seed)
        self._network = lesson.network()
        self.started_from = start_from(self._network, config) if config.init else "nothing"
        _prepare(self._network, config, group)
        self._average = _MovingAverage(self._network, config.optimiser.ema)
        self._optimiser = torch.optim.AdamW(_groups(config, self._network), lr=config.optimiser.lr)
        self._schedule = _schedule(config, self._optimiser, steps)
        self._workers = _data_parallel(self._network, group)
        forward: Callable[..., Any] = self._workers
        if config.run.compile:
            forward = torch.compile(self._workers)
        self.bf16 = _uses_bf16(config, group)
        self._forward = _Autocast(forward, group.device, self.bf16)

    @property
    def lr(self) -> float:
        return float(self._schedule.get_last_lr()[0])

    def weights(self) -> dict[str, Tensor]:
        """The moving average, which is evaluated and saved."""
        return {k: v.cpu().contiguous().clone() for k, v in self._average.weights.items()}

    def update(self, batches: Iterator[TrainingBatch], step: int) -> list[Tensor]:
        """One step: adds up the gradients of its batches and updates the weights.

        Returns:
            The loss of each batch, still on the device.
        """
        config, losses = self._config, []
        count = config.schedule.accumulate
        self._network.train()
        self._optimiser.zero_grad()
        for turn in range(count):
            batch = next(batches)
            number = step * count + turn
            torch.manual_seed(torch_seed(config.run.seed, number, self._group.rank))  # for dropout
            with self._gradient_sync(last=turn == count - 1):
                loss = self._lesson.loss(self._forward, batch.on(self._group.device), number)
                torch.autograd.backward(loss / count)
            losses.append(loss.detach())
        if config.optimiser.clip:
            nn.utils.clip_grad_norm_(self._network.parameters(), config.optimiser.clip)
        self._optimiser.step()
        self._schedule.step()
        self._average.update(self._network)
        return losses

    def _gradient_sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Synchronises gradients between workers once a step, with its last batch."""
        if last or not isinstance(self._workers, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = self._workers.no_sync()
        return context

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` takes: plain values and tensors."""
        return {
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])


class _MovingAverage:
    """Moving average of weights and batch statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._decay, self._updates = decay, 0

    def update(self, network: nn.Module) -> None:
        self._updates += 1
        # The average follows the weights closely at first, because the first weights are useless.
        decay = min(self._decay, self._updates / (self._updates + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point() and decay:
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._updates = state["updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(value)


class _Autocast(nn.Module):
    """Runs the network in bfloat16; losses stay in float32."""

    def __init__(self, network: Callable[..., Any], device: torch.device, bf16: bool) -> None:
        super().__init__()
        self._called, self._device, self._bf16 = network, device.type, bf16

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            return self._called(*inputs)


def _prepare(network: nn.Module, config: TrainConfig, group: WorkerGroup) -> None:
    if config.freeze_encoder:
        if not isinstance(network, FcSiam | LiteSiam | PixelNetwork):
            raise ConfigError(f"{config.network} has no encoder to freeze", "freeze_encoder")
        network.freeze_encoder()
    if group.world > 1:
        with_group_norms(network)
    network.to(group.device)
    for parameter in network.parameters():
        parameter.data = inner_bands(parameter.data)


def _groups(config: TrainConfig, network: nn.Module) -> list[dict[str, Any]]:
    settings = config.optimiser
    scales = {"encoder.": settings.encoder_lr} if settings.encoder_lr != 1 else None
    return parameter_groups(
        network, lr=settings.lr, weight_decay=settings.weight_decay, lr_scales=scales
    )


def _schedule(
    config: TrainConfig, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule.shape == "one_cycle":
        return one_cycle(optimiser, steps=steps, warm=config.schedule.warmup)
    if config.schedule.shape == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
    rates = CosineWarmup(
        steps=steps,
        warmup_steps=int(config.schedule.warmup * steps),
        peak=config.optimiser.lr,
        floor=FLOOR * config.optimiser.lr,
        start=START * config.optimiser.lr,
    )
    return cosine_warmup(optimiser, rates)


def _data_parallel(network: nn.Module, group: WorkerGroup) -> nn.Module:
    if group.world == 1:
        return network
    on_gpu = group.device.type == "cuda"
    return DistributedDataParallel(network, device_ids=[group.device] if on_gpu else None)


def _uses_bf16(config: TrainConfig, group: WorkerGroup) -> bool:
    """True if the network computes in bfloat16, which `auto` does where it halves a step."""
    if config.run.precision != "auto":
        return config.run.precision == "bf16"
    if group.device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
