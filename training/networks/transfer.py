"""The decoder of Smart Transfer (arXiv:2604.02627): pixels from the map of a frozen encoder.

Four times convolution, norm, ReLU and doubling, then one logit per pixel. Names of the weights are
those of the published decoder.
"""

import torch
from torch import Tensor, nn

PROJECTED = 50
"""Features that pixels are clustered by."""
PER_CLASS = 32
"""Prototypes of damaged pixels, and as many of others."""


class TransferDecoder(nn.Module):
    """Logits and features per pixel from an encoder's map at one sixteenth of the side.

    Args:
        channels: features of the encoder.
        width: channels of the decoder, 256 as published.

    The random projection and the prototypes are stored with the weights, because few-shot training
    on another town needs the same ones.
    """

    prototype_KD: Tensor
    prototype_damaged_K: Tensor

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.channels = channels
        for number in range(1, 5):
            block = nn.Sequential(
                nn.Conv2d(channels if number == 1 else width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            self.add_module(f"block{number}", block)
        self.head = nn.Conv2d(width, 1, 1)
        self.projection = nn.Conv2d(channels, PROJECTED, 1).requires_grad_(False)
        self.register_buffer("prototype_KD", torch.zeros(2 * PER_CLASS, PROJECTED))
        self.register_buffer("prototype_damaged_K", torch.arange(2 * PER_CLASS) < PER_CLASS)

    def forward(self, map_NDYX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, features, and what the nearest prototype says of each pixel.

        Returns:
            Logits (N, 1, y, x); features (N, width, y, x); 1 where the nearest prototype is one of
            damaged pixels, else 0, (N, y, x). The sides are 16 times those of the map.
        """
        x = map_NDYX
        for number in range(1, 5):
            block = self.get_submodule(f"block{number}")
            x = nn.functional.interpolate(block(x), scale_factor=2.0, mode="nearest")
        return self.head(x), x, self.looks_damaged(map_NDYX)

    def projected(self, map_NDYX: Tensor) -> Tensor:
        """Features that are clustered, (N, 50, y, x), of length 1."""
        with torch.no_grad():
            return nn.functional.normalize(self.projection(map_NDYX), dim=1)

    def looks_damaged(self, map_NDYX: Tensor) -> Tensor:
        """1 where the nearest prototype is one of damaged pixels, else 0, (N, 16 y, 16 x)."""
        feature_NYXD = self.projected(map_NDYX).movedim(1, -1)
        nearest_NYX = (feature_NYXD @ self.prototype_KD.T.to(feature_NYXD)).argmax(dim=-1)
        damaged_NYX = self.prototype_damaged_K[nearest_NYX].float()
        return damaged_NYX.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
