"""What a kind of training has to provide to the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.networks import NetworkInputs
from training.worker_group import Share

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingBatch:
    """One worker's part of the examples of a batch."""

    tensors: Mapping[str, Tensor]
    """Arrays by name, such as `post_NBYX`; the first axis is the example."""
    share: Share
    """Which examples of the whole batch these are."""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def on(self, device: torch.device) -> "TrainingBatch":
        """The batch on a device; images with their bands innermost."""
        moved = {k: inner_bands(v.to(device, non_blocking=True)) for k, v in self.tensors.items()}
        return TrainingBatch(tensors=moved, share=self.share)


def inner_bands(array: Tensor) -> Tensor:
    """The array in the memory layout that is fastest for convolutions."""
    return array.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else array


class Lesson(Protocol):
    """One kind of training, opened on the worker from the configuration alone."""

    streams: bool
    """True if batches are better read by other processes than by a thread."""

    @property
    def inputs(self) -> NetworkInputs:
        """Sizes that the network is built for."""
        ...

    @property
    def examples(self) -> int:
        """Number of training examples, which is the length of an epoch."""
        ...

    def facts(self) -> dict[str, Any]:
        """Plain values that are stored with the weights, such as classes and means."""
        ...

    def network(self) -> nn.Module:
        """The untrained network, its weights drawn from torch's generator."""
        ...

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        """One worker's share of a batch: a pure function of the seed and the batch's number."""
        ...

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        """The loss of the whole batch, the same on every worker; float32."""
        ...

    def judge(self, network: nn.Module) -> Figures:
        """Figures on validation data, never on test data.

        Args:
            network: in evaluation mode; takes and gives arrays on the CPU.
        """
        ...


class OnDevice(nn.Module):
    """A network on any device, for callers whose arrays are on the CPU."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network, self._device = network.to(device), device

    def forward(self, *inputs: Tensor) -> Any:
        out = self.network(*(i.to(self._device) for i in inputs))
        return tuple(part.cpu() for part in out) if isinstance(out, tuple) else out.cpu()
