"""Trains a SAM on outlines, and judges it: boxes, jittered boxes, and points in the middle.

The loss is Dice on the single-mask answer, as in the study of permafrost (arXiv:2401.08787). That
study tunes all weights at a rate of 8e-4 with a decay of 0.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.networks.sam import Sam
from training.networks.sam_prompts import POSITIVE, Prompts
from training.sam.prepare import OutlineCrops

PromptKind = Literal["box", "jittered box", "point"]
KINDS: tuple[PromptKind, ...] = ("box", "jittered box", "point")
JITTER = 0.1
"""Standard deviation of a jittered edge, as a share of the side of the box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSettings:
    """How a network is trained."""

    steps: int = 300
    lr: float = 8e-4
    weight_decay: float = 0.1
    images: int = 8
    """Images a step; each with all its objects."""
    seed: int = 0


def dice_loss(logits_NYX: Tensor, truth_NYX: Tensor) -> Tensor:
    """1 - (2 · overlap + 1) / (sum of both + 1), mean over objects."""
    p, g = torch.sigmoid(logits_NYX.float()).flatten(1), truth_NYX.float().flatten(1)
    overlap = (p * g).sum(dim=1)
    loss: Tensor = 1.0 - (2.0 * overlap + 1.0) / (p.sum(dim=1) + g.sum(dim=1) + 1.0)
    return loss.mean()


def prompts_for(
    crops: OutlineCrops, kind: PromptKind, generator: torch.Generator | None = None
) -> Prompts:
    """A prompt for each object."""
    box_N4 = crops.box_N4()
    if kind == "point":
        middle_N2 = (box_N4[:, :2] + box_N4[:, 2:]) / 2
        positive = torch.full((len(box_N4), 1), POSITIVE)
        return Prompts(point_N2=middle_N2[:, None], kind_N=positive)
    if kind == "jittered box":
        side_N4 = (box_N4[:, 2:] - box_N4[:, :2]).repeat(1, 2)
        box_N4 = box_N4 + JITTER * side_N4 * torch.randn(box_N4.shape, generator=generator)
    return Prompts(box_N4=box_N4)


def mask_logits(network: Sam, crops: OutlineCrops, prompts: Prompts) -> Tensor:
    """Logits of the single-mask answers at the side of the crops."""
    embedding = network.embed(crops.pixels_NBYX)
    logits, _ = network.masks(embedding, prompts, crops.image_N)
    return enlarged(logits[:, :1], crops.pixels_NBYX.shape[-1])[:, 0]


def enlarged(logits: Tensor, side: int) -> Tensor:
    """Masks of the decoder at the side of the image."""
    large: Tensor = nn.functional.interpolate(logits, size=(side, side), mode="bilinear")
    return large


def tune(
    network: Sam,
    crops: OutlineCrops,
    settings: TuneSettings,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Trains all weights in place, half of the steps with jittered boxes and half with points."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings.lr, total_steps=settings.steps, pct_start=0.1
    )
    network.train()
    for step in range(settings.steps):
        count = min(settings.images, len(crops.pixels_NBYX))
        chosen = torch.randperm(len(crops.pixels_NBYX), generator=generator)[:count]
        batch = turned(crops.of_images(chosen), generator)
        kind: PromptKind = "jittered box" if step % 2 == 0 else "point"
        prompts = prompts_for(batch, kind, generator)
        loss = dice_loss(mask_logits(network, batch, prompts), batch.mask_NYX)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            report(f"step {step}: {loss.item():.3f} ({kind})")
    network.eval()


def turned(crops: OutlineCrops, generator: torch.Generator) -> OutlineCrops:
    """A batch turned by a quarter, a half or not at all, and mirrored or not."""
    quarters, mirror = torch.randint(0, 4, (2,), generator=generator).tolist()
    pixels, mask = crops.pixels_NBYX, crops.mask_NYX
    pixels, mask = (torch.rot90(t, quarters, dims=(-2, -1)) for t in (pixels, mask))
    if mirror % 2:
        pixels, mask = pixels.flip(-1), mask.flip(-1)
    return OutlineCrops(pixels_NBYX=pixels, image_N=crops.image_N, mask_NYX=mask)


def overlap(found_NYX: Tensor, truth_NYX: Tensor) -> Tensor:
    """Intersection over union of each object; 0 where both are empty."""
    both = (found_NYX & truth_NYX).flatten(1).sum(dim=1)
    either = (found_NYX | truth_NYX).flatten(1).sum(dim=1)
    share: Tensor = both / either.clamp(min=1)
    return share


def filled(crops: OutlineCrops, box_N4: Tensor) -> Tensor:
    """Boxes as masks, what a network must beat."""
    place = torch.arange(crops.mask_NYX.shape[-1])
    left, top, right, bottom = box_N4.round().T[:, :, None]
    across = (place >= left) & (place <= right)
    down = (place >= top) & (place <= bottom)
    inside: Tensor = down[:, :, None] & across[:, None, :]
    return inside


@torch.inference_mode()
def judged(network: Sam, crops: OutlineCrops, *, seed: int = 0) -> dict[str, Tensor]:
    """IoU of each object by kind of prompt."""
    found: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, len(crops.pixels_NBYX), 16):
        last = min(first + 16, len(crops.pixels_NBYX))
        batch = crops.of_images(torch.arange(first, last))
        for kind in KINDS:
            prompts = prompts_for(batch, kind, generator)
            mask_NYX = mask_logits(network, batch, prompts) > 0
            found[kind].append(overlap(mask_NYX, batch.mask_NYX))
    return {kind: torch.cat(parts) for kind, parts in found.items()}
