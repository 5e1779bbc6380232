"""What the training loop asks of a kind of training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.crew import Share
from training.networks import NetworkInputs

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One worker's part of the examples of a step."""

    tensors: Mapping[str, Tensor]
    """By the name of their axes, such as `post_NBYX`; the first axis is the example."""
    share: Share
    """Which examples of the step's these are."""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def on(self, device: torch.device) -> "Batch":
        """The batch where it is computed with; images with their bands innermost."""
        moved = {k: inner_bands(v.to(device, non_blocking=True)) for k, v in self.tensors.items()}
        return Batch(tensors=moved, share=self.share)


def inner_bands(array: Tensor) -> Tensor:
    """The memory layout convolutions are fastest in."""
    return array.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else array


class Lesson(Protocol):
    """One kind of training, opened on the worker from the configuration alone."""

    streams: bool
    """Whether batches are better read by processes of their own than by a thread."""

    @property
    def inputs(self) -> NetworkInputs:
        """What the network is built for."""
        ...

    @property
    def examples(self) -> int:
        """How many there are to train on; an epoch is that many chips."""
        ...

    def facts(self) -> dict[str, Any]:
        """Plain values that belong to the weights, such as classes and means; kept with them."""
        ...

    def network(self) -> nn.Module:
        """The untrained network, its weights drawn from torch's generator."""
        ...

    def batch(self, number: int, rank: int, world: int) -> Batch:
        """One worker's share of the batch of that number: a pure function of seed and number."""
        ...

    def loss(self, network: nn.Module, batch: Batch, number: int) -> Tensor:
        """The loss of the whole batch, the same on every worker; float32."""
        ...

    def judge(self, network: nn.Module) -> Figures:
        """Figures on validation data, never on test data."""
        ...


class OnDevice(nn.Module):
    """A network on any device for callers whose arrays are on the CPU."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network, self._device = network.to(device), device

    def forward(self, *inputs: Tensor) -> Any:
        out = self.network(*(i.to(self._device) for i in inputs))
        return tuple(part.cpu() for part in out) if isinstance(out, tuple) else out.cpu()
