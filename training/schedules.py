"""Schedules of a run: learning rate, decay per parameter, share of masked metadata.

Everything here is a function of the step or epoch and of a generator. Nothing keeps a count, so
that a resumed run continues like an unbroken one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError


def masked_share(epoch: float, epochs: float) -> float:
    """Share of a batch whose metadata is hidden in this epoch: 1 - epoch / epochs.

    The network starts from images alone and gets more metadata over time. The paper does not
    mention it, but the authors' training does it.

    Args:
        epoch: number of finished epochs, may be a fraction.
        epochs: length of the run.
    """
    return min(1.0, max(0.0, 1 - epoch / epochs))


def masked_rows(count: int, share: float, generator: torch.Generator) -> Tensor:
    """True for the samples to hide, shape (count,): a share of them, rounded down."""
    chosen = torch.randperm(count, generator=generator)[: int(count * share)]
    hidden_N = torch.zeros(count, dtype=torch.bool)
    hidden_N[chosen] = True
    return hidden_N


def mask_metadata(hazard_NM: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Sets a random share of the rows to 0, which means that all their values are missing.

    Args:
        hazard_NM: z-scored values.
        share: share of the rows, 0..1.
        generator: on the CPU, whatever the device of the values.
    """
    hidden_N = masked_rows(len(hazard_NM), share, generator).to(hazard_NM.device)
    return hazard_NM.masked_fill(hidden_N[:, None], 0)


def parameter_groups(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    lr_scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups for AdamW: norms, biases, vectors and class tokens do not decay.

    Frozen parameters are left out.

    Args:
        network: the network to train.
        lr: learning rate where no scale applies.
        weight_decay: weight decay of the parameters that decay.
        lr_scales: factors on the learning rate by prefix of the parameter's name, such as
            {"encoder.": 0.1} after pre-training; the longest prefix counts.

    Raises:
        ConfigError: if no parameter has a prefix.
    """
    scales = dict(lr_scales or {})
    names = [name for name, _ in network.named_parameters()]
    unused = [prefix for prefix in scales if not any(n.startswith(prefix) for n in names)]
    if unused:
        raise ConfigError(
            f"no parameter is called {unused[0]}…", "learning rates", remedy="check the prefix"
        )
    grouped: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            fitting = sorted((p for p in scales if name.startswith(p)), key=len)
            scale = scales[fitting[-1]] if fitting else 1.0
            grouped.setdefault((scale, _decays(name, parameter)), []).append(parameter)
    return [
        {"params": members, "lr": lr * scale, "weight_decay": weight_decay if decays else 0.0}
        for (scale, decays), members in grouped.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineWarmup:
    """Rises linearly from `start` to `peak`, then falls along half a cosine to `floor`.

    Defaults are the QuakeMetaFormer paper's rates.

    Raises:
        ConfigError: if the warm-up does not end before the run.
    """

    steps: int
    """Length of the run."""
    warmup_steps: int = 0
    """20 of the paper's 150 epochs."""
    peak: float = 5e-5
    floor: float = 5e-6
    start: float = 5e-7

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps < self.steps:
            raise ConfigError(
                "warm-up does not end before the run",
                "warmup",
                expected=f"0 to {self.steps - 1} of {self.steps} steps",
                got=str(self.warmup_steps),
            )

    def scaled(self, batch: int, reference: int = 512) -> "CosineWarmup":
        """Multiplies all rates by batch / reference, as the authors' training does.

        Args:
            batch: samples per update over all workers.
            reference: batch size that the rates are meant for.
        """
        factor = batch / reference
        return replace(
            self, peak=self.peak * factor, floor=self.floor * factor, start=self.start * factor
        )

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0; after the end, the floor."""
        if step < self.warmup_steps:
            return self.start + (self.peak - self.start) * step / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / (self.steps - self.warmup_steps))
        return self.floor + (self.peak - self.floor) * (1 + cos(pi * done)) / 2


def cosine_warmup(
    optimiser: torch.optim.Optimizer, schedule: CosineWarmup
) -> torch.optim.lr_scheduler.LRScheduler:
    """A scheduler for an optimiser whose groups were made with `lr=schedule.peak`."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: schedule.at(step) / schedule.peak
    )


def one_cycle(
    optimiser: torch.optim.Optimizer, *, steps: int, warm: float = 0.2
) -> torch.optim.lr_scheduler.LRScheduler:
    """Rises to each group's rate in the first `warm` share of the run, then falls to 0."""
    peaks: Sequence[float] = [group["lr"] for group in optimiser.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=list(peaks), total_steps=steps + 1, pct_start=warm
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """True for matrices; False for norms and biases, which are vectors, and for class tokens."""
    return parameter.ndim > 1 and not name.endswith(".bias") and "cls_token" not in name
