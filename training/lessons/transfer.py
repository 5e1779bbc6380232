"""Damage per pixel on a frozen encoder, by Smart Transfer (arXiv:2604.02627).

Features of all tiles are computed once, because the encoder never changes. The published training
scales the coordinates of DINOv3 at random in every step, which features that are kept do not see.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.config import TransferConfig
from training.data.post_tiles import PostTiles, joined, load_domain
from training.lessons.base import Figures, Lesson, TrainingBatch
from training.lessons.grading import EpochOrder
from training.losses import (
    distance_triplet_loss,
    draw_triplets,
    focal_loss,
    patch_labels,
    prototype_loss,
)
from training.metrics import PixelCounts, figures
from training.networks import NetworkInputs, TransferDecoder, build_network
from training.networks.frozen import open_encoder
from training.networks.transfer import PER_CLASS
from training.prototypes import prototypes
from training.seeds import rng, torch_rng
from training.worker_group import Share, gather

AT_ONCE = 32
"""Tiles that are evaluated in one call."""
PER_TILE = 256
"""Most pixels of a tile that are clustered, half of them damaged where there are enough."""
_FEW, _PIXELS, _TRIPLETS = 21, 22, 23
"""Streams of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureTiles:
    """Tiles and their features, (N, channels, side / 16, side / 16)."""

    tiles: PostTiles
    map_NDYX: Tensor


class TransferLesson:
    """Trains the decoder of Smart Transfer on tiles of some domains.

    Args:
        config: encoder, losses and schedule.
        train: tiles that are trained on.
        held: tiles that are judged.

    Raises:
        RequestError: if no destroyed or no intact building is among the training tiles.
    """

    streams = False

    def __init__(self, config: TransferConfig, train: FeatureTiles, held: FeatureTiles) -> None:
        self._config, self._train, self.held = config, train, held
        row_N = _rows(config, train.tiles)
        self._state_NYX = torch.from_numpy(train.tiles.state_NYX)
        self._order = EpochOrder(row_N, config)
        self._row_N = row_N

    @property
    def inputs(self) -> NetworkInputs:
        return NetworkInputs(bands=self._train.map_NDYX.shape[1])

    @property
    def examples(self) -> int:
        return len(self._row_N)

    def facts(self) -> dict[str, Any]:
        table = self._train.tiles.buildings
        return {
            "encoder": self._config.encoder,
            "buildings": len(table),
            "destroyed": int(table["destroyed"].sum()),
            "tiles": self.examples,
        }

    def network(self) -> nn.Module:
        """The decoder, with the prototypes of the training tiles."""
        network = build_network(self._config.network, inputs=self.inputs)
        if isinstance(network, TransferDecoder) and self._config.transfer_loss.prototype_weight:
            self._cluster(network)
        return network

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        share = Share(total=self._config.schedule.global_batch, rank=rank, world=world)
        row_N = torch.from_numpy(self._order.rows(number, share))
        return TrainingBatch(
            tensors={
                "map_NDYX": self._train.map_NDYX[row_N],
                "state_NYX": self._state_NYX[row_N],
            },
            share=share,
        )

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        how = self._config.transfer_loss
        outputs = network(batch["map_NDYX"])
        logits_N1YX, feature_NDYX, looks_NYX = (gather(o, batch.share) for o in outputs)
        logits_NYX, state_NYX = logits_N1YX[:, 0].float(), gather(batch["state_NYX"], batch.share)
        damaged_NYX, known_NYX = state_NYX == 1, state_NYX >= 0
        total = focal_loss(logits_NYX, damaged_NYX, known_NYX, alpha=how.alpha, gamma=how.gamma)
        if how.prototype_weight:
            part = prototype_loss(logits_NYX, damaged_NYX, looks_NYX > 0, known_NYX)
            total = total + how.prototype_weight * part
        if how.triplet_weight:
            label_NG = patch_labels(damaged_NYX, known_NYX).cpu()
            draw = torch_rng(self._config.run.seed, _TRIPLETS, number)
            triplets = draw_triplets(label_NG, draw, unsure=how.unsure_negatives)
            total = total + how.triplet_weight * distance_triplet_loss(feature_NDYX, triplets)
        return total

    def judge(self, network: nn.Module) -> Figures:
        answers, counts = building_scores(network, self.held)
        values = figures(answers["p"].to_numpy(), answers["destroyed"].to_numpy(bool))
        return {
            "auc": values.auc,
            "average_precision": values.average_precision,
            **pixel_figures(counts),
        }

    def _cluster(self, network: TransferDecoder) -> None:
        """Sets the prototypes: groups of damaged pixels, and as many of others."""
        projected = network.projected(self._train.map_NDYX).movedim(1, -1)
        seed = self._config.run.seed
        for damaged, first in ((True, 0), (False, PER_CLASS)):
            cells = [projected[row].flatten(0, 1)[self._cells(row, damaged)] for row in self._row_N]
            centres = prototypes(torch.cat(cells), PER_CLASS, seed + first)
            network.prototype_KD[first : first + PER_CLASS] = centres

    def _cells(self, row: int, damaged: bool) -> Tensor:
        """Cells of the map under some pixels of a class."""
        state_YX = self._train.tiles.state_NYX[row]
        pixel_P = np.flatnonzero(state_YX.ravel() == int(damaged))
        draw = rng(self._config.run.seed, _PIXELS, int(row), int(damaged))
        pixel_P = draw.permutation(pixel_P)[: PER_TILE // 2]
        y_P, x_P = np.divmod(pixel_P, state_YX.shape[1])
        return torch.from_numpy((y_P // 16) * (state_YX.shape[1] // 16) + x_P // 16)


def building_scores(network: nn.Module, held: FeatureTiles) -> tuple[pd.DataFrame, PixelCounts]:
    """Mean probability of each building that a tile shows, and counts of pixels at 0.5.

    Returns:
        The rows of the tiles' table that are shown, with the column `p`; and the counts.
    """
    tiles = held.tiles
    count = len(tiles.buildings) + 1
    sum_K, pixels_K, counts = np.zeros(count), np.zeros(count), PixelCounts()
    for first in range(0, len(tiles), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        with torch.inference_mode():
            logits_NYX = network(held.map_NDYX[part])[0][:, 0].float()
        p_P = torch.sigmoid(logits_NYX).numpy().ravel().astype(np.float64)
        owner_P, state_NYX = tiles.owner_NYX[part].ravel(), tiles.state_NYX[part]
        sum_K += np.bincount(owner_P, weights=p_P, minlength=count)
        pixels_K += np.bincount(owner_P, minlength=count)
        declared_NYX = p_P.reshape(state_NYX.shape) >= 0.5
        counts += PixelCounts.of(declared_NYX, state_NYX == 1, state_NYX >= 0)
    shown_K = pixels_K[1:] > 0
    answers = tiles.buildings[shown_K].copy()
    answers["p"] = sum_K[1:][shown_K] / pixels_K[1:][shown_K]
    return answers, counts


def pixel_figures(counts: PixelCounts) -> Figures:
    """F1 of damaged pixels and the mean IoU of both classes, over pixels of known state."""
    pooled = counts.figures(undefined=0.0)
    wrong = counts.false_positive + counts.false_negative
    rest = counts.true_negative / max(counts.true_negative + wrong, 1)
    return {"pixel_f1": pooled["f1"], "pixel_miou": (pooled["iou"] + rest) / 2}


@lru_cache(maxsize=16)
def domain_features(domain: str, encoder: str, weights: str) -> FeatureTiles:
    """Tiles of a domain and their features; kept, because an experiment reads them many times.

    Raises:
        RequestError: if the domain or the weights are missing.
    """
    tiles = load_domain(domain)
    return FeatureTiles(tiles=tiles, map_NDYX=features_of(tiles.pixels_NBYX, encoder, weights))


def features_of(pixels_NBYX: NDArray[np.uint8], encoder: str, weights: str) -> Tensor:
    """Features of images, in half precision."""
    network = open_encoder(encoder, weights, side_px=pixels_NBYX.shape[-1])
    parts = [
        network(torch.from_numpy(pixels_NBYX[first : first + AT_ONCE])).half()
        for first in range(0, len(pixels_NBYX), AT_ONCE)
    ]
    return torch.cat(parts).float()


def open_transfer(config: TransferConfig) -> TransferLesson:
    """Opens the domains of a configuration.

    Raises:
        RequestError: if a domain is on both sides, a side has none, or data are missing.
    """
    both = sorted(set(config.domains) & set(config.held))
    if both or not config.domains or not config.held:
        raise RequestError(
            f"domain {', '.join(both)} is on both sides" if both else "a side has no domain",
            "domains and held",
            remedy="name domains to train on, and others to judge",
        )
    sides = [
        _together([domain_features(d, config.encoder, config.weights) for d in names])
        for names in (config.domains, config.held)
    ]
    return TransferLesson(config, *sides)


def _together(parts: list[FeatureTiles]) -> FeatureTiles:
    return FeatureTiles(
        tiles=joined([p.tiles for p in parts]),
        map_NDYX=torch.cat([p.map_NDYX for p in parts]),
    )


def _rows(config: TransferConfig, tiles: PostTiles) -> NDArray[np.int64]:
    """Tiles that are trained on."""
    row_N = np.arange(len(tiles))
    if config.tiles:
        row_N = np.sort(rng(config.run.seed, _FEW).permutation(row_N)[: config.tiles])
    states = set(np.unique(tiles.state_NYX[row_N])) - {-1}
    if len(states) < 2:
        raise RequestError(
            "training tiles show one state alone",
            f"domains {', '.join(config.domains)}",
            expected="destroyed and intact buildings",
            remedy="use more tiles, or another seed",
        )
    return row_N


_: type[Lesson] = TransferLesson
