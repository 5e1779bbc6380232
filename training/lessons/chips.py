"""Damage grades of buildings from crops of a store, with or without hazard values."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.config import ChipsConfig
from training.data.crop_augment import CropAugmentation, Crops, augment_crops, plain_crops
from training.data.splits import SplitPart, masks_of_table
from training.data.store import BuildingChips, ChipStore
from training.lessons.base import Figures, Lesson, TrainingBatch
from training.lessons.grading import (
    EpochOrder,
    GradeLoss,
    HazardDropout,
    HazardScale,
    grade_figures,
    groups_of,
)
from training.networks import NetworkInputs, build_network
from training.seeds import torch_rng
from training.worker_group import Share, gather

AT_ONCE = 64
"""Crops that are evaluated in one call."""


class ChipsLesson:
    """QuakeImageFormer or QuakeMetaFormer on the chips of a store.

    Raises:
        RequestError: if the store lacks something that the network takes.
    """

    streams = True

    def __init__(self, config: ChipsConfig, store: ChipStore) -> None:
        self._config, self._store = config, store
        self._with_hazard = config.network.startswith("qmf_")
        _check(config, store, self._with_hazard)
        self._how = CropAugmentation(
            image=config.augmentation,
            jitter_px=config.crops.jitter_px,
            erase_share=config.crops.erase_share,
        )
        self.masks = masks_of_table(store.table, config.rows)
        label_N = store.table["label"].to_numpy(np.int64)
        train_N = self.masks.train_N
        self._loss = GradeLoss(config, label_N[train_N], store.meta.classes)
        self._order = EpochOrder(np.flatnonzero(train_N), config)
        self._dropout = HazardDropout(config, self.examples)
        names = store.meta.hazard_names if self._with_hazard else ()
        values_NM = store.table[list(names)].to_numpy(np.float32).reshape(len(store), len(names))
        self._scale = HazardScale.of(values_NM[train_N], names)

    @property
    def inputs(self) -> NetworkInputs:
        config, meta = self._config, self._store.meta
        groups: tuple[int, ...] = ()
        if self._with_hazard:
            values = len(meta.hazard_names)
            groups = groups_of(config.grades.hazard_groups, meta.hazard_groups, values)
        return NetworkInputs(
            crop_px=config.chip_px,
            bands=6 if config.crops.pair else 3,
            classes=len(meta.classes),
            hazard_groups=groups,
            learned_missing=config.grades.learned_missing,
        )

    @property
    def examples(self) -> int:
        return int(self.masks.train_N.sum())

    def facts(self) -> dict[str, Any]:
        meta = self._store.meta
        columns = meta.hazard if self._with_hazard else ()
        return {
            "classes": list(meta.classes),
            "class_shares": self._loss.share_C,
            "hazard": self._scale.plain([h.unit for h in columns], [h.group for h in columns]),
            "epochs": ["pre", "post"] if self._config.crops.pair else ["post"],
            "gsd_m": meta.gsd_m,
        }

    def network(self) -> nn.Module:
        return build_network(self._config.network, dropout=self._config.dropout, inputs=self.inputs)

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        config = self._config
        share = Share(total=config.schedule.global_batch, rank=rank, world=world)
        chips = self._store.read(self._order.rows(number, share))
        crops = [
            augment_crops(
                _one(chips, i), config.chip_px, self._how, torch_rng(config.run.seed, number, place)
            )
            for i, place in enumerate(share.places)
        ]
        image_NBYX = torch.cat([self._image(crop) for crop in crops])
        tensors = {"image_NBYX": image_NBYX, "label_N": torch.from_numpy(chips.label_N)}
        if self._with_hazard:
            z_NM = self._scale(chips.hazard_NM)
            tensors["hazard_NM"] = self._dropout(z_NM, number, share)
        return TrainingBatch(tensors=tensors, share=share)

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        inputs = [batch["image_NBYX"], *([batch["hazard_NM"]] if self._with_hazard else [])]
        logits_NC = gather(network(*inputs).float(), batch.share)
        return self._loss(logits_NC, gather(batch["label_N"], batch.share))

    def judge(self, network: nn.Module) -> Figures:
        logits_NC, label_N = self.logits(network, "validation")
        return grade_figures(logits_NC, label_N)

    def logits(
        self, network: nn.Module, part: SplitPart, *, masked: bool = False
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """Logits (N, class) and classes of a part's rows, in the order of the table.

        Args:
            network: in evaluation mode.
            part: part of the split.
            masked: hide all hazard values, as where none are known.
        """
        mask_N = self.masks.of(part)
        outputs, labels = [torch.zeros(0, len(self._store.meta.classes))], [np.zeros(0, np.int64)]
        with torch.inference_mode():
            for chips in self._read(np.flatnonzero(mask_N)):
                inputs = [self._image(plain_crops(chips, self._config.chip_px))]
                if self._with_hazard:
                    z_NM = self._scale(chips.hazard_NM)
                    inputs.append(torch.zeros_like(z_NM) if masked else z_NM)
                outputs.append(network(*inputs).float())
                labels.append(chips.label_N)
        return torch.cat(outputs), np.concatenate(labels)

    def _read(self, row_N: NDArray[np.int64]) -> Iterator[BuildingChips]:
        for first in range(0, len(row_N), AT_ONCE):
            yield self._store.read(row_N[first : first + AT_ONCE])

    def _image(self, crops: Crops) -> Tensor:
        """The network's image; pre-event bands come before post-event bands."""
        if not self._config.crops.pair:
            return crops.post_NBYX
        return torch.cat([crops.pre, crops.post_NBYX], dim=1)


def open_chips(config: ChipsConfig) -> ChipsLesson:
    """Opens the stores of a configuration as one.

    Raises:
        RequestError: if a store is missing or cannot be read.
    """
    if not config.source:
        raise RequestError(
            "no training store named",
            config.recipe,
            remedy="add --set source=STORE; python -m training.dataset makes a store",
        )
    return ChipsLesson(config, ChipStore.open(*config.source))


def _check(config: ChipsConfig, store: ChipStore, with_hazard: bool) -> None:
    meta = store.meta
    if with_hazard and not meta.hazard:
        raise RequestError(
            "the store has no hazard values",
            f"network {config.network}",
            remedy="use a qif network",
        )
    if config.crops.pair and "pre" not in meta.epochs:
        raise RequestError(
            "the store has no pre-event chips",
            "crops.pair",
            remedy="make a store of both epochs, or set crops.pair=false",
        )
    if config.chip_px > meta.crop_px:
        raise RequestError(
            "crop is larger than the store's chips",
            "chip_px",
            expected=f"at most {meta.crop_px}",
            got=str(config.chip_px),
            remedy="use smaller crops, or make a store of larger chips",
        )


def _one(chips: BuildingChips, i: int) -> BuildingChips:
    part = slice(i, i + 1)
    return BuildingChips(
        post_NBYX=chips.post_NBYX[part],
        pre_NBYX=None if chips.pre_NBYX is None else chips.pre_NBYX[part],
        inside_NYX=chips.inside_NYX[part],
        statistics_N4B=chips.statistics_N4B[part],
        hazard_NM=chips.hazard_NM[part],
        label_N=chips.label_N[part],
    )


_: type[Lesson] = ChipsLesson
