"""Segmentation of image pairs, trained where a building is known to be destroyed or intact."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quakestream.tiling.lattice import Lattice
from training.config import ImagePairsConfig, PairsConfig
from training.data.augment import Chips, augment
from training.data.chips import ChipSource, RawChips
from training.data.pairs import LabelledPair, in_squares, outlined_by_bounds
from training.data.splits import buildings_on
from training.lessons.base import Figures, Lesson, TrainingBatch
from training.losses import bce_loss, damage_loss, dice_loss, iou_loss
from training.metrics import PixelCounts, arrays, figures
from training.networks import NetworkInputs, build_network
from training.scoring import BuildingLogits, score_buildings
from training.seeds import torch_rng
from training.worker_group import Share, gather


class PairsLesson:
    """Trains on chips around labelled buildings of image pairs."""

    streams = False

    def __init__(self, config: PairsConfig, pairs: Sequence[LabelledPair]) -> None:
        self._config, self._pairs = config, pairs
        self._chips = PairChips(config, pairs)

    @property
    def inputs(self) -> NetworkInputs:
        return NetworkInputs()

    @property
    def examples(self) -> int:
        return self._chips.buildings

    def facts(self) -> dict[str, Any]:
        return {"destroyed_intact": list(self._chips.counts)}

    def network(self) -> nn.Module:
        return build_network(self._config.network, dropout=self._config.dropout)

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        share = Share(total=self._config.schedule.global_batch, rank=rank, world=world)
        chips = self._chips.share(number, share)
        return TrainingBatch(
            tensors={
                "pre_NBYX": chips.pre_NBYX,
                "post_NBYX": chips.post_NBYX,
                "owner_NYX": chips.owner_NYX,
            },
            share=share,
        )

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        part_N1YX = network(batch["pre_NBYX"], batch["post_NBYX"])
        logits_N1YX = gather(part_N1YX.float(), batch.share)
        owner_NYX = gather(batch["owner_NYX"], batch.share)
        return pixel_loss(self._config, logits_N1YX, owner_NYX)

    def judge(self, network: nn.Module) -> Figures:
        scored = held_out_logits(self._config, self._pairs, network)
        return {**asdict(figures(*arrays(scored))), **_pixel_figures(scored)}


class PairChips:
    """Augmented training chips, each a function of seed, batch and place in the batch."""

    def __init__(self, config: ImagePairsConfig, pairs: Sequence[LabelledPair]) -> None:
        self._config = config
        self._source = ChipSource(
            [outlined_by_bounds(pair) for pair in pairs] if config.label_bounds else pairs,
            config.ground,
            raw_px=config.raw_px,
            jitter_px=config.chip_px // 3,
            buffer_m=config.split.buffer_m,
            seed=config.run.seed,
        )
        self.counts = self._source.counts()
        """Number of destroyed and of intact buildings."""
        self.buildings = sum(self.counts)

    def share(self, number: int, share: Share) -> Chips:
        """Chips of one worker. A chip is the same whichever worker makes it."""
        config = self._config
        raw = self._source.draw(number, share.places, of=share.total)
        chips = [
            augment(
                _one(raw, i),
                config.chip_px,
                config.augmentation,
                torch_rng(config.run.seed, number, place),
            )
            for i, place in enumerate(share.places)
        ]
        return Chips(
            pre_NBYX=torch.cat([chip.pre_NBYX for chip in chips]),
            post_NBYX=torch.cat([chip.post_NBYX for chip in chips]),
            owner_NYX=torch.cat([chip.owner_NYX for chip in chips]),
        )


def _one(raw: RawChips, i: int) -> RawChips:
    part = slice(i, i + 1)
    return RawChips(
        pre_NBYX=raw.pre_NBYX[part],
        post_NBYX=raw.post_NBYX[part],
        owner_NYX=raw.owner_NYX[part],
        statistics_N4B=raw.statistics_N4B[part],
    )


def pixel_loss(config: PairsConfig, logits_N1YX: Tensor, owner_NYX: Tensor) -> Tensor:
    """The configuration's loss on a whole batch. Unlabelled ground does not count."""
    if config.objective == "buildings":
        return damage_loss(logits_N1YX, owner_NYX, config.loss)
    if config.objective == "nnpu":
        return damage_loss(logits_N1YX, owner_NYX, config.loss, config.unlabelled)
    maps = (logits_N1YX[:, 0], owner_NYX > 0, owner_NYX != 0)
    if config.objective == "bce":
        return bce_loss(*maps)
    return dice_loss(*maps) if config.objective == "dice" else iou_loss(*maps)


def _pixel_figures(scored: Sequence[BuildingLogits]) -> Figures:
    """F1 and IoU of "destroyed" over the pixels inside labelled buildings, all pairs together.

    Studies that count every pixel of a tile give other figures: roads, trees and buildings without
    a label, of which nobody knows the state, count as negatives there.
    """
    counts = PixelCounts()
    for item in scored:
        truth_P = np.full(len(item.logit_P), item.building.destroyed)
        counts += PixelCounts.of(item.logit_P > 0, truth_P)
    pooled = counts.figures()
    return {"labelled_pixel_f1": pooled["f1"], "labelled_pixel_iou": pooled["iou"]}


def halo_of(config: PairsConfig, network: nn.Module) -> int:
    """Margin of the windows that a network is judged and shipped with."""
    return max(config.windows.halo_px, int(getattr(network, "halo_px", 0)))


def held_out_logits(
    config: PairsConfig, pairs: Sequence[LabelledPair], network: nn.Module
) -> list[BuildingLogits]:
    """Held-out buildings of all pairs, scored as inference scores them."""
    scored: list[BuildingLogits] = []
    for original in pairs:
        pair = outlined_by_bounds(original) if config.windows.judge_bounds else original
        lattice = Lattice(
            grid=pair.grid,
            window_px=config.windows.window_px,
            halo_px=halo_of(config, network),
            cell_windows=1,
        )
        held = config.ground.held_ground(pair)
        chosen = buildings_on("held", pair, held, buffer_m=config.split.buffer_m)
        if config.windows.judge_square_m > 0:  # of the same buildings
            squares = in_squares(replace(pair, buildings=chosen), config.windows.judge_square_m)
            chosen = squares.buildings
        scored += score_buildings(network, pair, chosen, lattice)
    return scored


_: type[Lesson] = PairsLesson
