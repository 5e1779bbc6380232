"""QuakeMetaFormer and QuakeImageFormer: MetaFormer (MetaFG) on one crop per building.

Convolutions down to an eighth of the side, attention at a sixteenth and a thirty-second
(Diao et al. 2022, arXiv:2203.02751). Hazard values enter both attention stages as tokens, one per
group. QuakeImageFormer is the same network without those tokens. Parameters have the names of the
official checkpoints, see `training.networks.official`.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, ShapeError
from training.networks.attention import AttentionStage, Mlp
from training.networks.inputs import NetworkInputs
from training.networks.mbconv import MBConv
from training.networks.metadata import EncoderKind, metadata_encoder, split_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A size of the network."""

    conv: tuple[int, int, int]
    """Channels of the stem and of stages 1 and 2."""
    attention: tuple[int, int]
    """Widths of the tokens of stages 3 and 4."""
    depths: tuple[int, int, int, int]
    """Blocks of stages 1 to 4."""
    heads: int = 8


VARIANTS = {
    # A size of this project for two CPU cores and for tests, about a million parameters.
    "tiny": Variant(conv=(16, 24, 48), attention=(96, 192), depths=(2, 2, 3, 1), heads=4),
    "0": Variant(conv=(64, 96, 192), attention=(384, 768), depths=(2, 3, 5, 2)),
    "1": Variant(conv=(64, 96, 192), attention=(384, 768), depths=(2, 6, 14, 2)),
    "2": Variant(conv=(128, 128, 256), attention=(512, 1024), depths=(2, 6, 14, 2)),
}
STRIDE = 32
"""The side of a crop must be a multiple of this, pixels."""


class MetaFormer(nn.Module):
    """Damage grade of the building in the middle of a crop.

    Args:
        variant: the size.
        inputs: crop, bands, classes; with hazard groups it is QuakeMetaFormer.
        encoder: what turns a group of hazard values into a token.
        drop_path: share of samples whose deepest block is skipped in training, rising linearly
            from 0 at the first block of stage 1. The paper's is 0.1.

    Raises:
        ConfigError: if the crop's side is no multiple of 32.
    """

    def __init__(
        self,
        variant: Variant,
        inputs: NetworkInputs,
        *,
        encoder: EncoderKind = "mlp",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if inputs.crop_px % STRIDE:
            raise ConfigError(
                "crop does not fit the network",
                "crop_px",
                expected=f"a multiple of {STRIDE}",
                got=str(inputs.crop_px),
            )
        self.inputs = inputs
        (c0, c1, c2), (d3, d4) = variant.conv, variant.attention
        drops = [drop_path * i / (sum(variant.depths) - 1) for i in range(sum(variant.depths))]
        ends = [sum(variant.depths[:i]) for i in range(5)]
        drops1, drops2, drops3, drops4 = (drops[a:b] for a, b in pairwise(ends))
        extra = 1 + len(inputs.hazard_groups)
        self.stage_0, self.bn1 = _stem(inputs.bands, c0), nn.BatchNorm2d(c0)
        self.stage_1 = _conv_stage(c0, c1, drops1, stride=1)
        self.stage_2 = _conv_stage(c1, c2, drops2, stride=2)
        self.cls_token_1 = nn.Parameter(torch.empty(1, 1, d3))
        self.cls_token_2 = nn.Parameter(torch.empty(1, 1, d4))
        self.stage_3 = AttentionStage(
            c2, d3, side=inputs.crop_px // 16, extra=extra, heads=variant.heads, drops=drops3
        )
        self.stage_4 = AttentionStage(
            d3, d4, side=inputs.crop_px // 32, extra=extra, heads=variant.heads, drops=drops4
        )
        self.norm_1, self.norm_2, self.norm = nn.LayerNorm(d3), nn.LayerNorm(d4), nn.LayerNorm(d4)
        self.cl_1_fc = nn.Sequential(Mlp(d3, d3, d4), nn.LayerNorm(d4))
        self.aggregate = nn.Conv1d(2, 1, 1)
        self.head = nn.Linear(d4, inputs.classes)
        self.apply(_start)
        nn.init.trunc_normal_(self.cls_token_1, std=0.02)
        nn.init.trunc_normal_(self.cls_token_2, std=0.02)
        self._add_encoders(encoder, (d3, d4))

    def forward(self, image_NBYX: Tensor, hazard_NM: Tensor | None = None) -> Tensor:
        """Logits (N, class).

        Args:
            image_NBYX: normalised crops, both sides `crop_px`.
            hazard_NM: z-scored hazard values, group after group, 0 where missing; None for a
                network without hazard groups.

        Raises:
            ShapeError: if an input is not what the network was built for.
        """
        logits: Tensor = self.head(self.features(image_NBYX, hazard_NM))
        return logits

    def features(self, image_NBYX: Tensor, hazard_NM: Tensor | None = None) -> Tensor:
        """Features that the head takes, (N, width of stage 4)."""
        self._check(image_NBYX, hazard_NM)
        extra_3, extra_4 = self._extra_tokens(image_NBYX, hazard_NM)
        x = nn.functional.relu(self.bn1(self.stage_0(image_NBYX)))
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        x = self.stage_2(self.stage_1(x))
        class_3, x = self.stage_3(x, extra_3)
        class_4, _ = self.stage_4(x, extra_4)  # Extra tokens of stage 3 are replaced by new ones.
        both = torch.cat([self.cl_1_fc(self.norm_1(class_3)), self.norm_2(class_4)], dim=1)
        features: Tensor = self.norm(self.aggregate(both).squeeze(1))
        return features

    def _add_encoders(self, kind: EncoderKind, widths: tuple[int, int]) -> None:
        for group, values in enumerate(self.inputs.hazard_groups, 1):
            for stage, width in enumerate(widths, 1):
                encoder = metadata_encoder(
                    kind, values, width, learned_missing=self.inputs.learned_missing
                )
                self.add_module(f"meta_{group}_head_{stage}", encoder)

    def _extra_tokens(self, image_NBYX: Tensor, hazard_NM: Tensor | None) -> tuple[Tensor, Tensor]:
        """Class and metadata tokens (N, 1 + group, width) for stages 3 and 4."""
        groups = () if hazard_NM is None else split_groups(hazard_NM, self.inputs.hazard_groups)
        stages = []
        for stage, class_token in enumerate((self.cls_token_1, self.cls_token_2), 1):
            tokens = [class_token.expand(image_NBYX.shape[0], -1, -1)]
            for group, values_Nm in enumerate(groups, 1):
                encode = self.get_submodule(f"meta_{group}_head_{stage}")
                tokens.append(encode(values_Nm)[:, None])
            stages.append(torch.cat(tokens, dim=1))
        return stages[0], stages[1]

    def _check(self, image_NBYX: Tensor, hazard_NM: Tensor | None) -> None:
        expected = (self.inputs.bands, self.inputs.crop_px, self.inputs.crop_px)
        if tuple(image_NBYX.shape[1:]) != expected:
            raise ShapeError(
                "image does not fit the network",
                "network input",
                expected=f"(N, {', '.join(map(str, expected))})",
                got=str(tuple(image_NBYX.shape)),
            )
        if (hazard_NM is None) != (not self.inputs.hazard_groups):
            raise ShapeError(
                "hazard values do not fit the network",
                "network input",
                expected=f"hazard groups {self.inputs.hazard_groups}",
                got="no hazard values" if hazard_NM is None else str(tuple(hazard_NM.shape)),
            )


def _stem(bands: int, width: int) -> nn.Sequential:
    """The stem, which halves the side. Norm and activation of its last convolution lie outside."""
    narrow = 3 * (width // 4)
    return nn.Sequential(
        nn.Conv2d(bands, narrow, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(),
        nn.Conv2d(narrow, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
    )


def _conv_stage(c_in: int, c_out: int, drops: list[float], *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        MBConv(c_in, c_out, stride=stride, drop_path=drops[0]),
        *(MBConv(c_out, c_out, drop_path=drop) for drop in drops[1:]),
    )


def _start(module: nn.Module) -> None:
    """Initialises weights; norms keep torch's defaults."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
