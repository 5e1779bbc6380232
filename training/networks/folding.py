"""Networks as they ship: what is constant after training is computed once.

Adapters are merged into the weights, and modules that make their weights from other weights
become plain ones. The graph then holds convolutions and products alone.
"""

import copy
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

from training.networks.lora import merge_lora

Network = TypeVar("Network", bound=nn.Module)


@runtime_checkable
class Foldable(Protocol):
    """A module that makes its weights from other weights."""

    def folded(self) -> nn.Module:
        """A module with constant weights that computes the same."""
        ...


def folded(network: Network) -> Network:
    """A copy for export, in evaluation mode; it computes the same and cannot be trained on."""
    copied = copy.deepcopy(network).eval()
    merge_lora(copied)
    for name, module in list(copied.named_modules()):
        if name and isinstance(module, Foldable):
            parent, _, last = name.rpartition(".")
            setattr(copied.get_submodule(parent), last, module.folded())
    return copied.requires_grad_(False)
