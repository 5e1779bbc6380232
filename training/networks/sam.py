"""Segment Anything (Kirillov et al. 2023): masks from points and boxes, under published names.

Sizes `b`, `l` and `h` are the published ones. `tiny` has the same parts and names at a size that
trains on a CPU; there are no published weights for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, ShapeError
from training.networks.importing import ImportReport, Layout, load_weights, read_weights
from training.networks.sam_decoder import MaskDecoder
from training.networks.sam_encoder import (
    ImageEncoder,
    SamEncoderSize,
    resized_position,
    resized_table,
)
from training.networks.sam_prompts import PromptEncoder, Prompts

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Scale of red, green and blue counts of the published weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamSize:
    """A size of the whole network."""

    encoder: SamEncoderSize
    channels: int = 256
    """Width of the image embedding, of the prompts and of the decoder."""
    mlp: int = 2048
    """Hidden width of the decoder's MLPs."""
    heads: int = 8
    """Heads of the decoder."""


_B = SamEncoderSize(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))
SIZES = {
    "b": SamSize(encoder=_B),
    "l": SamSize(
        encoder=replace(_B, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
    ),
    "h": SamSize(
        encoder=replace(_B, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))
    ),
    "tiny": SamSize(
        encoder=SamEncoderSize(
            width=96, depth=4, heads=4, global_blocks=(1, 3), image_px=128, patch_px=8, window=7
        ),
        channels=64,
        mlp=256,
        heads=4,
    ),
}


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Args:
        size: the sizes of all parts.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, size: SamSize) -> None:
        super().__init__()
        self.size = size
        side = size.encoder.side
        self.image_encoder = ImageEncoder(size.encoder, size.channels)
        self.prompt_encoder = PromptEncoder(size.channels, side, size.encoder.image_px)
        self.mask_decoder = MaskDecoder(size.channels, size.heads, size.mlp)
        for name, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def image_px(self) -> int:
        """Side of the images that it takes."""
        return self.size.encoder.image_px

    def embed(self, counts_NBYX: Tensor) -> Tensor:
        """Embeddings of images, once for any number of prompts.

        Args:
            counts_NBYX: red, green and blue from 0 to 255, of side `image_px`. Ground that is
                padded has the mean colour, `PIXEL_MEAN`, which is 0 after scaling.
        """
        embedding: Tensor = self.image_encoder(self.scaled(counts_NBYX))
        return embedding

    def scaled(self, counts_NBYX: Tensor) -> Tensor:
        """Counts as z-scores."""
        return (counts_NBYX.float() - self.pixel_mean) / self.pixel_std

    def masks(
        self, embedding_NDYX: Tensor, prompts: Prompts, image_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mask logits and predicted IoU of each prompt.

        Args:
            embedding_NDYX: embeddings of the images.
            prompts: one entry per mask.
            image_N: image of each prompt; None if there is one image.

        Returns:
            Logits (prompt, 4, y, x) at four times the side of the embedding, and IoU (prompt, 4).
            The first of four is the single-mask answer, the others whole, part and subpart.
        """
        count = len(prompts)
        if image_N is None:
            if len(embedding_NDYX) != 1:
                raise ShapeError("several images and no image per prompt", "prompts")
            image_N = torch.zeros(count, dtype=torch.int64, device=embedding_NDYX.device)
        sparse, dense = self.prompt_encoder(prompts)
        place = self.prompt_encoder.grid_code()
        answers: tuple[Tensor, Tensor] = self.mask_decoder(
            embedding_NDYX[image_N] + dense, place, sparse
        )
        return answers

    def load_published(self, path: Path) -> ImportReport:
        """Loads a published file (`sam_vit_b_01ec64.pth` and its like); strict, by name and shape.

        Position codes and tables of relative positions are resized if this network was built for
        another image side. Nothing is dropped and nothing may lack. After an error the network is
        unchanged.

        Raises:
            RequestError: if the file holds pickled code, or weights of another network.
        """
        layout = Layout(network="a SAM of this size", fit=_fitted)
        return load_weights(self, read_weights(path), layout, str(path))


def build_sam(name: str, *, image_px: int | None = None) -> Sam:
    """An untrained SAM.

    Args:
        name: `b`, `l`, `h` or `tiny`.
        image_px: side of its images; None for that of the size. Small sides are cheaper.

    Raises:
        ConfigError: if there is no such size, or the side is no multiple of the patch.
    """
    if name not in SIZES:
        raise ConfigError("unknown SAM", expected=f"one of {', '.join(SIZES)}", got=repr(name))
    size = SIZES[name]
    if image_px is not None:
        patch = size.encoder.patch_px
        if image_px % patch or image_px <= 0:
            raise ConfigError(
                "side does not fit the patches", name, f"a multiple of {patch}", str(image_px)
            )
        size = replace(size, encoder=replace(size.encoder, image_px=image_px))
    return Sam(size)


def _fitted(own: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
    wanted = own[name].shape
    if value.shape == wanted:
        return value
    if name == "image_encoder.pos_embed" and value.ndim == 4 and value.shape[3] == wanted[3]:
        return resized_position(value, wanted[1])
    if ".attn.rel_pos_" in name and value.ndim == 2 and value.shape[1] == wanted[1]:
        return resized_table(value, wanted[0])
    return value
