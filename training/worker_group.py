"""The workers of a run, and what they compute together.

Each worker takes a part of every batch. Batch statistics and losses are computed over the parts
of all workers, so that the number of workers changes the speed of a run and nothing else.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One worker's consecutive part of `total` items."""

    total: int
    rank: int = 0
    world: int = 1

    @property
    def places(self) -> range:
        """Indices of the part among 0 … total - 1."""
        return range(
            self.total * self.rank // self.world, self.total * (self.rank + 1) // self.world
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGroup:
    """This worker's rank in its group, and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def all_agree(self, here: bool) -> bool:
        """True if `here` is true on every worker."""
        if self.world == 1:
            return here
        flag = torch.tensor(int(here), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag)

    def from_leader(self, value: float) -> float:
        """The leader's value, on every worker."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)


def gather(part_N: Tensor, share: Share) -> Tensor:
    """Gathers the parts of all workers, in order. Parts may differ in size.

    Every worker computes the same loss L from the gathered batch. Gradients flow back to the part
    that each worker contributed, summed over the workers. Averaged over workers, as data-parallel
    training does, they are the gradients of L.
    """
    if share.world == 1:
        return part_N
    gathered: Tensor = _Gather.apply(part_N, share)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part_N: Tensor, share: Share) -> Tensor:
        places = share.places
        ctx.places = slice(places.start, places.stop)
        whole_N = part_N.new_zeros((share.total, *part_N.shape[1:]))
        whole_N[ctx.places] = part_N
        dist.all_reduce(whole_N)
        return whole_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient_N = gradients[0].contiguous().clone()
        dist.all_reduce(gradient_N)
        return gradient_N[ctx.places], None


class _GroupBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the parts of all workers. Torch's own, SyncBatchNorm, needs a GPU."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training or dist.get_world_size() == 1:
            return super().forward(input)
        x_NCYX = input.float()
        var_C, mean_C = torch.var_mean(x_NCYX, (0, 2, 3), correction=0)
        count = x_NCYX.numel() // x_NCYX.shape[1]
        mean_C, var_C, total = _pooled(mean_C, var_C, count)
        self._update_running(mean_C.detach(), var_C.detach() * total / max(total - 1, 1))
        scale_C = torch.rsqrt(var_C + self.eps) * self.weight
        shift_C = self.bias - mean_C * scale_C
        return (x_NCYX * scale_C[:, None, None] + shift_C[:, None, None]).to(input.dtype)

    def _update_running(self, mean_C: Tensor, var_C: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(var_C, self.momentum)


def _pooled(mean_C: Tensor, var_C: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """Mean and variance over the values of all workers, from each worker's (Chan et al. 1979)."""
    row = torch.cat([mean_C, var_C, mean_C.new_tensor([float(count)])])[None]
    world = dist.get_world_size()
    rows = gather(row, Share(total=world, rank=dist.get_rank(), world=world))
    means_WC, vars_WC = rows[:, :-1].chunk(2, dim=1)
    counts_W = rows[:, -1:].detach()
    total = counts_W.sum()
    mean = (means_WC * counts_W).sum(0) / total
    var = ((vars_WC + (means_WC - mean) ** 2) * counts_W).sum(0) / total
    return mean, var, int(total)


def with_group_norms(network: nn.Module) -> nn.Module:
    """Replaces every batch norm by one over all workers; names and weights stay the same."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, _group_norm(module))
    return network


def _group_norm(norm: nn.BatchNorm2d) -> _GroupBatchNorm2d:
    new = _GroupBatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    new.load_state_dict(norm.state_dict())
    return new
