"""Low-rank adapters (Hu et al. 2022, arXiv:2106.09685) for the linear layers of any network.

An adapter adds (alpha / rank) · B A x to a frozen layer. B starts at zero, so that a network
computes the same before and after adapters are put in. For export they are merged into the
weights and leave no trace in the graph.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Size of the adapters and the layers that get one.

    Raises:
        ConfigError: if a number is out of range.
    """

    patterns: tuple[str, ...]
    """Shell patterns of module names, such as `*.attn.qkv`."""
    rank: int = 8
    alpha: float = 8.0
    """The adapter is scaled by alpha / rank."""
    dropout: float = 0.1
    """Share of an adapter's inputs that are dropped in training."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "adapter is impossible",
                "lora",
                expected="a rank of at least 1 and a dropout of at least 0 and below 1",
                got=f"rank {self.rank}, dropout {self.dropout:g}",
            )


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter beside it."""

    def __init__(self, base: nn.Linear, config: LoraConfig) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        like = base.weight
        self.lora_a = nn.Parameter(like.new_empty(config.rank, base.in_features))
        self.lora_b = nn.Parameter(like.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.scale = config.alpha / config.rank

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        low = nn.functional.linear(self.dropout(x), self.lora_a)
        mapped: Tensor = self.base(x) + self.scale * nn.functional.linear(low, self.lora_b)
        return mapped

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same in evaluation mode."""
        with torch.no_grad():
            self.base.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.base.requires_grad_(True)


def add_lora(network: nn.Module, config: LoraConfig) -> tuple[str, ...]:
    """Puts adapters into a network, in place, and freezes the layers under them.

    Returns:
        Names of the layers that got one.

    Raises:
        ConfigError: if a pattern matches no linear layer, or a layer has an adapter already.
    """
    linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    chosen = [n for n in linear if any(fnmatch.fnmatchcase(n, p) for p in config.patterns)]
    unused = [p for p in config.patterns if not fnmatch.filter(chosen, p)]
    if unused or any(name.endswith(".base") for name in chosen):
        raise ConfigError(
            "no linear layer without an adapter has such a name",
            f"lora patterns {', '.join(unused or config.patterns)}",
            remedy="name layers as the network does, such as *.attn.qkv",
        )
    for name in chosen:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        _replace(network, name, LoraLinear(layer, config).train(layer.training))
    return tuple(chosen)


def merge_lora(network: nn.Module) -> tuple[str, ...]:
    """Merges all adapters into the weights, in place.

    The network then has the names of weights that it had before adapters were put in.

    Returns:
        Names of the layers that had one.
    """
    adapted = [(n, m) for n, m in network.named_modules() if isinstance(m, LoraLinear)]
    for name, module in adapted:
        _replace(network, name, module.merged())
    return tuple(name for name, _ in adapted)


def lora_parameters(network: nn.Module) -> Sequence[nn.Parameter]:
    """The weights of the adapters."""
    return [p for name, p in network.named_parameters() if "lora_" in name]


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
