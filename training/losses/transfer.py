"""The two losses of Smart Transfer (arXiv:2604.02627): prototypes and distances.

Axis legend: N tiles, G patches of a tile, row by row.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BUILDING, INTACT, DAMAGED, GROUND, UNSURE = 0.02, 0, 1, 2, -1
"""Least share of building pixels of a patch that counts as built, and labels of patches."""
CLEARLY_INTACT, CLEARLY_DAMAGED = 0.02, 0.10
"""Shares of damaged pixels among those of buildings, up to and from which a patch has a label."""


def prototype_loss(
    logits_NYX: Tensor, damaged_NYX: Tensor, looks_damaged_NYX: Tensor, known_NYX: Tensor
) -> Tensor:
    """Cross-entropy of known pixels whose nearest prototype agrees with their label.

    Args:
        logits_NYX: logits of "damaged".
        damaged_NYX: the label, bool.
        looks_damaged_NYX: True where the nearest prototype is one of damaged pixels.
        known_NYX: True where the label is known.
    """
    agreed = (looks_damaged_NYX == damaged_NYX) & known_NYX
    each = nn.functional.binary_cross_entropy_with_logits(
        logits_NYX.float(), damaged_NYX.float(), reduction="none"
    )
    return (each * agreed).sum() / agreed.sum().clamp(min=1)


def patch_labels(damaged_NYX: Tensor, building_NYX: Tensor, grid: int = 4) -> Tensor:
    """Label of each patch of a square grid, (N, grid²).

    It is `GROUND` where hardly a pixel is of a building, `INTACT` or `DAMAGED` where the share of
    damaged pixels among those of buildings is clear, and `UNSURE` between.
    """
    side = damaged_NYX.shape[-1] // grid
    built_NG = _patch_means(building_NYX.float(), side)
    damaged_NG = _patch_means((damaged_NYX & building_NYX).float(), side)
    share_NG = damaged_NG / built_NG.clamp(min=1e-9)
    label_NG = torch.full(share_NG.shape, UNSURE, device=share_NG.device)
    label_NG[share_NG <= CLEARLY_INTACT] = INTACT
    label_NG[share_NG >= CLEARLY_DAMAGED] = DAMAGED
    label_NG[built_NG < BUILDING] = GROUND
    return label_NG


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Triplets:
    """Patches of a tile that are compared: T anchors, others of their label, and others not."""

    tile_T: Tensor
    anchor_T: Tensor
    positive_T: Tensor
    negative_T: Tensor


def draw_triplets(
    label_NG: Tensor, generator: torch.Generator, *, anchors: int = 16, unsure: bool = False
) -> Triplets:
    """Draws triplets within tiles; an anchor is an intact or a damaged patch.

    Args:
        label_NG: labels of patches, on the CPU.
        generator: draws them.
        anchors: most anchors of a tile.
        unsure: let patches of unsure label be negatives, as the published code does.
    """
    rows: list[tuple[int, int, int, int]] = []
    for tile, label_G in enumerate(label_NG.tolist()):
        places = torch.randperm(len(label_G), generator=generator).tolist()
        for anchor in [p for p in places if label_G[p] in (INTACT, DAMAGED)][:anchors]:
            own = label_G[anchor]
            alike = [p for p in range(len(label_G)) if label_G[p] == own and p != anchor]
            others = [
                p
                for p in range(len(label_G))
                if label_G[p] != own and (unsure or label_G[p] != UNSURE)
            ]
            if alike and others:
                rows.append((tile, anchor, _one(alike, generator), _one(others, generator)))
    columns = torch.tensor(rows, dtype=torch.long).reshape(-1, 4).unbind(1)
    return Triplets(
        tile_T=columns[0], anchor_T=columns[1], positive_T=columns[2], negative_T=columns[3]
    )


def distance_triplet_loss(
    feature_NDYX: Tensor, triplets: Triplets, *, grid: int = 4, margin: float = 0.2
) -> Tensor:
    """Mean over tiles of max(0, |a - p|² - |a - n|² + penalty + margin).

    Features are the mean of a patch, of length 1. The penalty is what the way from positive to
    negative over the anchor is longer than the direct one, with tiles of side 1, over √2.
    """
    if not len(triplets.tile_T):
        return feature_NDYX.sum() * 0.0
    mean_NDYX = nn.functional.avg_pool2d(feature_NDYX.float(), feature_NDYX.shape[-1] // grid)
    patch_NGD = nn.functional.normalize(mean_NDYX.flatten(2).transpose(1, 2), dim=2)
    anchor, positive, negative = (
        patch_NGD[triplets.tile_T, place]
        for place in (triplets.anchor_T, triplets.positive_T, triplets.negative_T)
    )
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor - negative).square().sum(dim=1)
    each_T = torch.relu(near - far + _penalty(triplets, grid).to(near) + margin)
    tile_T, tiles = triplets.tile_T.to(each_T.device), len(feature_NDYX)
    count_N = torch.bincount(tile_T, minlength=tiles)
    total_N = each_T.new_zeros(tiles).index_add(0, tile_T, each_T)
    return (total_N / count_N.clamp(min=1)).sum() / (count_N > 0).sum()


def _penalty(triplets: Triplets, grid: int) -> Tensor:
    """How far a detour over the anchor is, from 0 up; 2 at most."""

    def centre(place_T: Tensor) -> Tensor:
        return torch.stack([place_T // grid, place_T % grid], dim=1).float().add(0.5) / grid

    anchor, positive, negative = (
        centre(place) for place in (triplets.anchor_T, triplets.positive_T, triplets.negative_T)
    )
    first, second = _length(anchor - positive), _length(anchor - negative)
    return (first + second - _length(positive - negative)).clamp(min=0) / math.sqrt(2)


def _length(way_T2: Tensor) -> Tensor:
    return way_T2.square().sum(dim=1).sqrt()


def _patch_means(value_NYX: Tensor, side: int) -> Tensor:
    return nn.functional.avg_pool2d(value_NYX[:, None], side).flatten(1)


def _one(places: list[int], generator: torch.Generator) -> int:
    return places[int(torch.randint(len(places), (1,), generator=generator))]
