"""Damage from hazard values alone: metadata encoders with their own head."""

import torch
from torch import Tensor, nn

from training.networks.inputs import NetworkInputs
from training.networks.metadata import EncoderKind, metadata_encoder, split_groups


class HazardNet(nn.Module):
    """Concatenates one token per group of values and applies two layers.

    It serves footprints without imagery, and shows what the values predict by themselves.
    """

    def __init__(
        self,
        inputs: NetworkInputs,
        encoder: EncoderKind,
        *,
        width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.groups = inputs.hazard_groups
        self.encoders = nn.ModuleList(
            metadata_encoder(encoder, values, width, learned_missing=inputs.learned_missing)
            for values in self.groups
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(width * len(self.groups), width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, inputs.classes),
        )

    def forward(self, hazard_NM: Tensor) -> Tensor:
        """Logits (N, class) of z-scored values, 0 where missing.

        Raises:
            ShapeError: if the columns are not those of the groups.
        """
        groups = split_groups(hazard_NM, self.groups)
        tokens = [encode(values) for encode, values in zip(self.encoders, groups, strict=True)]
        logits: Tensor = self.head(torch.cat(tokens, dim=1))
        return logits
