"""Encoders that turn a group of hazard values into one token.

The paper also tried two transformer encoders, which are left out on purpose. As published, they
feed one token per sample to layers that take the first axis as the sequence. Attention then runs
across the batch, and a building's grade depends on its neighbours in the batch. They scored worst.

Linear layers keep torch's default initialisation. With the small initialisation of the trunk, the
values would nearly vanish before the last norm.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from quakestream.errors import ShapeError

EncoderKind = Literal["mlp", "resnorm", "deepmlp"]
ENCODERS: tuple[EncoderKind, ...] = get_args(EncoderKind)


def metadata_encoder(
    kind: EncoderKind, values: int, width: int, *, learned_missing: bool = False
) -> nn.Module:
    """An encoder of (N, values) into (N, width).

    Args:
        kind: `mlp` is the paper's best, `resnorm` that of the original MetaFormer.
        values: size of the group.
        width: width of the token.
        learned_missing: turn a row of zeros into a learned token.
    """
    encoder = _BUILDERS[kind](values, width)
    return OrMissing(encoder, width) if learned_missing else encoder


def split_groups(hazard_NM: Tensor, groups: Sequence[int]) -> tuple[Tensor, ...]:
    """The values of each group, (N, m).

    Raises:
        ShapeError: if the columns are not those of the groups.
    """
    if hazard_NM.ndim != 2 or hazard_NM.shape[1] != sum(groups):
        raise ShapeError(
            "hazard values do not fit the network",
            "network input",
            expected=f"(N, {sum(groups)}) for groups {tuple(groups)}",
            got=str(tuple(hazard_NM.shape)),
        )
    return torch.split(hazard_NM, list(groups), dim=1)


class OrMissing(nn.Module):
    """An encoder with a learned token for groups without any value.

    Values are z-scores, 0 where missing, so a group of zeros has no value.
    """

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.missing_token = nn.Parameter(torch.zeros(width))
        nn.init.trunc_normal_(self.missing_token, std=0.02)

    def forward(self, values_Nm: Tensor) -> Tensor:
        """Tokens (N, width)."""
        absent_N1 = (values_Nm == 0).all(dim=1, keepdim=True)
        token_ND: Tensor = self.encoder(values_Nm)
        return torch.where(absent_N1, self.missing_token.to(token_ND.dtype), token_ND)


class _ResidualNorm(nn.Module):
    """x + LN(ReLU(W2 LN(ReLU(W1 x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.norm1 = nn.Linear(width, width), nn.LayerNorm(width)
        self.w2, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm1(torch.relu(self.w1(x)))
        mapped: Tensor = x + self.norm2(torch.relu(self.w2(inner)))
        return mapped


def _mlp(values: int, width: int) -> nn.Module:
    # As published, there is no activation between the first two layers.
    return nn.Sequential(
        nn.Linear(values, width),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
    )


def _resnorm(values: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(values, width), nn.ReLU(), nn.LayerNorm(width), _ResidualNorm(width)
    )


def _deepmlp(values: int, width: int) -> nn.Module:
    steps = ([nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1)] for _ in range(4))
    return nn.Sequential(nn.Linear(values, width), *chain.from_iterable(steps), nn.LayerNorm(width))


_BUILDERS = {"mlp": _mlp, "resnorm": _resnorm, "deepmlp": _deepmlp}
