"""What lessons on damage grades have in common: order of examples, hazard values, loss, figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quakestream.errors import ConfigError, RequestError
from training.config import GradesConfig, TrainConfig
from training.lessons.base import Figures
from training.losses import balanced_weights, modified_focal
from training.metrics import class_figures
from training.schedules import masked_rows, masked_share
from training.seeds import rng, torch_rng
from training.worker_group import Share

_ORDER, _MASKS = 1, 2
"""Streams of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardScale:
    """Turns hazard values into the z-scores that a network takes.

    Raises:
        RequestError: if a value is missing in every training row.
    """

    names: tuple[str, ...]
    mean_M: NDArray[np.float32]
    """Means over the training rows, in the units of the values."""
    std_M: NDArray[np.float32]

    @staticmethod
    def of(values_NM: NDArray[np.floating[Any]], names: Sequence[str]) -> "HazardScale":
        """The scale of training rows; missing values do not count."""
        known_NM = np.isfinite(values_NM)
        absent = [n for n, known in zip(names, known_NM.any(axis=0), strict=True) if not known]
        if absent:
            raise RequestError(
                "missing in every training row",
                f"hazard values {', '.join(absent)}",
                remedy="leave them out",
            )
        clean_NM = np.where(known_NM, values_NM, np.nan).astype(np.float64)
        std_M = np.nanstd(clean_NM, axis=0)
        return HazardScale(
            names=tuple(names),
            mean_M=np.nanmean(clean_NM, axis=0).astype(np.float32),
            std_M=np.where(std_M > 0, std_M, 1.0).astype(np.float32),
        )

    def __call__(self, values_NM: NDArray[np.floating[Any]]) -> Tensor:
        """z-scores, 0 where missing."""
        z_NM = (values_NM - self.mean_M) / self.std_M
        return torch.from_numpy(np.where(np.isfinite(z_NM), z_NM, 0.0).astype(np.float32))

    def plain(self, units: Sequence[str], groups: Sequence[str]) -> list[dict[str, Any]]:
        """A record per value, in order, for the checkpoint."""
        rows = zip(self.names, units, groups, self.mean_M, self.std_M, strict=True)
        return [
            {"name": n, "unit": u, "group": g, "mean": float(m), "std": float(s)}
            for n, u, g, m, s in rows
        ]


class EpochOrder:
    """Shuffles the rows anew in every epoch, so that each row comes once per epoch."""

    def __init__(self, row_N: NDArray[np.int64], config: TrainConfig) -> None:
        self._row_N, self._config = row_N, config
        self._epoch, self._order_N = -1, row_N

    def rows(self, number: int, share: Share) -> NDArray[np.int64]:
        """The rows of one worker's share of a batch."""
        return np.array([self._at(number * share.total + place) for place in share.places])

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, len(self._row_N))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order_N = rng(self._config.run.seed, _ORDER, epoch).permutation(self._row_N)
        return int(self._order_N[place])


class HazardDropout:
    """Hides the hazard values of whole rows: most at the start of a run, fewest at its end."""

    def __init__(self, config: GradesConfig, examples: int) -> None:
        self._config = config
        self._batches = config.schedule.run_steps(examples) * config.schedule.accumulate

    def __call__(self, hazard_NM: Tensor, number: int, share: Share) -> Tensor:
        """One worker's rows of the batch, hidden rows set to 0."""
        if self._config.grades.hazard_dropout == "none":
            return hazard_NM
        hidden_share = max(masked_share(number, self._batches), self._config.grades.hazard_least)
        generator = torch_rng(self._config.run.seed, _MASKS, number)
        hidden_N = masked_rows(share.total, hidden_share, generator)
        places = share.places
        return hazard_NM.masked_fill(hidden_N[places.start : places.stop, None], 0)


class GradeLoss:
    """Modified focal loss, weighted by the class counts of the training rows."""

    def __init__(
        self, config: GradesConfig, label_N: NDArray[np.int64], classes: Sequence[str]
    ) -> None:
        counts = np.bincount(label_N, minlength=len(classes))
        absent = [c for c, count in zip(classes, counts, strict=True) if not count]
        if absent:
            raise RequestError(
                "no training example",
                f"classes {', '.join(absent)}",
                remedy="leave them out, or merge them with a neighbour",
            )
        self.share_C = [float(v) for v in counts / counts.sum()]
        """Share of each class among the training rows."""
        self._how = config.grades
        self._weight_C = balanced_weights([int(c) for c in counts])

    def __call__(self, logits_NC: Tensor, label_N: Tensor) -> Tensor:
        return modified_focal(
            logits_NC,
            label_N,
            self._weight_C if self._how.balanced else None,
            gamma=self._how.gamma,
            reduction=self._how.reduction,
        )


def grade_figures(logits_NC: Tensor, label_N: NDArray[np.int64]) -> Figures:
    """Figures of logits against classes; figures that are lists are left out."""
    p_NC = torch.softmax(logits_NC.double(), dim=1).numpy()
    values = asdict(class_figures(p_NC, label_N))
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float)}


def groups_of(sizes: tuple[int, ...], default: tuple[int, ...], values: int) -> tuple[int, ...]:
    """The configured sizes of groups, or the default.

    Raises:
        ConfigError: if they do not add up to the number of values.
    """
    groups = sizes or default
    if sum(groups) != values or min(groups) < 1:
        raise ConfigError(
            "group sizes do not add up to the number of hazard values",
            "grades.hazard_groups",
            expected=f"sizes of 1 or more that add up to {values}",
            got=", ".join(map(str, groups)),
        )
    return groups
