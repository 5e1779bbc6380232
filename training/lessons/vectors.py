"""Damage grades from hazard values alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.config import VectorsConfig
from training.data.splits import SplitMasks, masks_of_points
from training.data.vectors import FIELD_CLASSES
from training.hazard.points import HazardPoints, read_points
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
from training.worker_group import Share, gather


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """N rows of M hazard values, NaN where missing, and their split."""

    values_NM: NDArray[np.float32]
    label_N: NDArray[np.int64]
    names: tuple[str, ...]
    units: tuple[str, ...]
    classes: tuple[str, ...]
    masks: SplitMasks


class VectorsLesson:
    """Trains a hazard network on rows of a table."""

    streams = False

    def __init__(self, config: VectorsConfig, vectors: Vectors) -> None:
        self._config, self._vectors = config, vectors
        train_N = vectors.masks.train_N
        self._loss = GradeLoss(config, vectors.label_N[train_N], vectors.classes)
        self._scale = HazardScale.of(vectors.values_NM[train_N], vectors.names)
        self._z_NM = self._scale(vectors.values_NM)
        self._order = EpochOrder(np.flatnonzero(train_N), config)
        self._dropout = HazardDropout(config, self.examples)

    @property
    def inputs(self) -> NetworkInputs:
        vectors, how = self._vectors, self._config.grades
        values = len(vectors.names)
        return NetworkInputs(
            classes=len(vectors.classes),
            hazard_groups=groups_of(how.hazard_groups, (values,), values),
            learned_missing=how.learned_missing,
        )

    @property
    def examples(self) -> int:
        return int(self._vectors.masks.train_N.sum())

    def facts(self) -> dict[str, Any]:
        groups = [str(i) for i, size in enumerate(self.inputs.hazard_groups) for _ in range(size)]
        return {
            "classes": list(self._vectors.classes),
            "class_shares": self._loss.share_C,
            "hazard": self._scale.plain(self._vectors.units, groups),
        }

    def network(self) -> nn.Module:
        return build_network(self._config.network, dropout=self._config.dropout, inputs=self.inputs)

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        share = Share(total=self._config.schedule.global_batch, rank=rank, world=world)
        rows = self._order.rows(number, share)
        return TrainingBatch(
            tensors={
                "hazard_NM": self._dropout(self._z_NM[rows], number, share),
                "label_N": torch.from_numpy(self._vectors.label_N[rows]),
            },
            share=share,
        )

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        logits_NC = gather(network(batch["hazard_NM"]).float(), batch.share)
        return self._loss(logits_NC, gather(batch["label_N"], batch.share))

    def judge(self, network: nn.Module) -> Figures:
        chosen_N = self._vectors.masks.validation_N
        with torch.inference_mode():
            logits_NC = network(self._z_NM[chosen_N]).float()
        return grade_figures(logits_NC, self._vectors.label_N[chosen_N])


def open_vectors(config: VectorsConfig) -> VectorsLesson:
    """Opens the points of a configuration.

    Raises:
        RequestError: if the points are missing, or cannot be split as the configuration says.
    """
    points = configured_points(config)
    masks = masks_of_points(points.lon_N, points.lat_N, points.label_N, config.rows)
    return VectorsLesson(
        config,
        Vectors(
            values_NM=points.values_NM,
            label_N=points.label_N,
            names=points.names,
            units=points.units,
            classes=points.classes,
            masks=masks,
        ),
    )


def configured_points(config: VectorsConfig) -> HazardPoints:
    """The points that a configuration names.

    Raises:
        RequestError: if they are missing or not as the configuration says.
    """
    if not config.source:
        raise RequestError(
            "no points named", config.recipe, remedy="add --set source=field, or a file of points"
        )
    return read_points(
        config.source,
        features=config.points.features,
        classes=config.points.classes or FIELD_CLASSES,
    )


_: type[Lesson] = VectorsLesson
