"""Landslide graphs that also say how sure they are: Monte Carlo dropout in one batched graph.

Dropout masks are drawn once and baked in. Results are then the same in every run and at every
place, which masks drawn anew would not be. What comes before the first dropout runs once where
the network allows it: the encoder of a U-Net, and all up to the head of an FPN.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from quakestream.errors import ConfigError
from training.graphs import LandslideGraph, normalised
from training.networks import PixelNetwork
from training.networks.unet import UNet

PASSES = 8
"""Masks per graph. The Clay study draws 20; each costs one pass through the decoder."""
LARGEST_LOGIT = 15.0
"""Bound of the logit of the mean, a probability of 3e-7 from 0 or 1."""


class FixedDropout(nn.Module):
    """Drops the same channels in every run: a batch holds the passes of each image in turn.

    Args:
        kept: factor of each channel in each pass (pass, channel), 0 drops it, for each number of
            channels that the network sends here. Maps of one size share their masks.
        alone: it is the network's only dropout: it takes each image once and gives all passes.
    """

    def __init__(self, kept: Mapping[int, Tensor], *, alone: bool) -> None:
        super().__init__()
        for channels, kept_TD in kept.items():
            self.register_buffer(f"kept_{channels}", kept_TD)
        self.passes, self.alone = len(next(iter(kept.values()))), alone

    def kept_for(self, channels: int) -> Tensor:
        """The factors of maps with so many channels, (pass, channel)."""
        kept_TD: Tensor = self.get_buffer(f"kept_{channels}")
        return kept_TD

    def forward(self, map_NDYX: Tensor) -> Tensor:
        _, channels, height, width = map_NDYX.shape
        passes = 1 if self.alone else self.passes
        each = map_NDYX.reshape(-1, passes, channels, height, width)
        factor = self.kept_for(channels)[None, :, :, None, None]
        return (each * factor).reshape(-1, channels, height, width)


class UncertainLandslideGraph(LandslideGraph):
    """Turns one window into a logit and a deviation per pixel, (N, 2, Y, X).

    The first channel is the logit of the mean probability over the passes, the second the
    standard deviation of the probability.

    Args:
        network: was trained with dropout of whole channels (`nn.Dropout2d`).
        passes: number of baked masks.
        seed: of the masks.
        others: as for `LandslideGraph`.

    Raises:
        ConfigError: if the network has no dropout, or there are fewer than two passes.
    """

    def __init__(
        self,
        network: PixelNetwork,
        *,
        window_px: int,
        mean_B: Sequence[float],
        std_B: Sequence[float],
        dtype: Literal["uint8", "float32"] = "float32",
        platt: tuple[float, float] = (1.0, 0.0),
        passes: int = PASSES,
        seed: int = 0,
    ) -> None:
        fixed = with_fixed_masks(network, passes, seed)
        super().__init__(
            fixed, window_px=window_px, mean_B=mean_B, std_B=std_B, dtype=dtype, platt=platt
        )
        self.passes = passes

    def forward(self, post: Tensor) -> Tensor:
        z_NBYX = normalised(post, self.mean_B[None], self.std_B[None])
        logits_NTYX = pass_logits(self.network, z_NBYX, self.passes)
        slope, offset = self.platt
        scores_NTYX = slope * logits_NTYX + offset
        p_NTYX = torch.sigmoid(scores_NTYX)
        mean_N1YX = p_NTYX.mean(dim=1, keepdim=True)
        variance_N1YX = ((p_NTYX - mean_N1YX) ** 2).sum(dim=1, keepdim=True) / (self.passes - 1)
        # In logarithms: runtimes compute a sigmoid near 0 with few digits.
        logit_N1YX = _log_mean(_log_sigmoid(scores_NTYX)) - _log_mean(_log_sigmoid(-scores_NTYX))
        bounded = logit_N1YX.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        return torch.cat([bounded, torch.sqrt(variance_N1YX)], dim=1)


def _log_sigmoid(scores: Tensor) -> Tensor:
    return scores.clamp(max=0.0) - torch.log(1.0 + torch.exp(-scores.abs()))


def _log_mean(logs_NTYX: Tensor) -> Tensor:
    """Logarithm of the mean over passes of numbers that are given by their logarithms."""
    top_N1YX = logs_NTYX.amax(dim=1, keepdim=True)
    return top_N1YX + torch.log(torch.exp(logs_NTYX - top_N1YX).mean(dim=1, keepdim=True))


def pass_logits(network: nn.Module, z_NBYX: Tensor, passes: int) -> Tensor:
    """Logits (N, pass, y, x) of a network with fixed masks."""
    dropouts = [m for m in network.modules() if isinstance(m, FixedDropout)]
    if not dropouts or dropouts[0].alone:
        logits = network(z_NBYX)
    elif isinstance(network, UNet):
        bottom, skips = network.encode(z_NBYX)
        logits = network.decode(_repeated(bottom, passes), [_repeated(s, passes) for s in skips])
    else:
        logits = network(_repeated(z_NBYX, passes))
    height, width = logits.shape[2:]
    each: Tensor = logits.reshape(-1, passes, height, width)
    return each


def with_fixed_masks(network: PixelNetwork, passes: int, seed: int) -> PixelNetwork:
    """A copy in evaluation mode whose dropouts are fixed masks.

    Raises:
        ConfigError: if there is no dropout of channels to fix, or there are fewer than two passes.
    """
    fixed = copy.deepcopy(network).eval()
    dropouts = {n: m for n, m in fixed.named_modules() if isinstance(m, nn.Dropout2d) and m.p > 0}
    if not dropouts or passes < 2:
        raise ConfigError(
            "no Monte Carlo dropout without dropped channels",
            "network",
            expected="a network trained with dropout above 0, and two passes or more",
            got=f"{len(dropouts)} dropouts, {passes} passes",
        )
    seen = _channels_at(fixed, dropouts)
    alone = sum(len(calls) for calls in seen.values()) == 1
    generator = torch.Generator().manual_seed(seed)
    for name, module in dropouts.items():
        kept = {}
        for channels in dict.fromkeys(seen[name]):
            kept_TD = torch.rand(passes, channels, generator=generator) >= module.p
            kept[channels] = kept_TD.float() / (1.0 - module.p)
        parent, _, last = name.rpartition(".")
        if kept:
            setattr(fixed.get_submodule(parent), last, FixedDropout(kept, alone=alone))
    return fixed


def _channels_at(network: PixelNetwork, modules: dict[str, nn.Dropout2d]) -> dict[str, list[int]]:
    """Number of channels of each map that reaches each module, in the order of the calls."""
    seen: dict[str, list[int]] = {name: [] for name in modules}

    def note(name: str) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name].append(inputs[0].shape[1])

        return modules[name].register_forward_pre_hook(hook)

    hooks = [note(name) for name in modules]
    side = network.inputs.crop_px
    with torch.inference_mode():
        network(torch.zeros(1, network.inputs.bands, side, side))
    for hook in hooks:
        hook.remove()
    return seen


def _repeated(map_NDYX: Tensor, passes: int) -> Tensor:
    """Each image `passes` times, one after the other."""
    _, channels, height, width = map_NDYX.shape
    wide = map_NDYX.unsqueeze(1).expand(-1, passes, channels, height, width)
    return wide.reshape(-1, channels, height, width)
