"""Episodes: an event, a damage scale of its own, a few labels per grade, and items to grade.

Axis legend: N items of an event or of a support, n queries, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quakestream.errors import RequestError, ShapeError
from training.seeds import rng

DamageScale = tuple[int, ...]
"""Grade of an agency for each grade of the survey, mildest first: (0, 0, 1, 1, 2)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradedEvent:
    """Items of one event with the finest grades that are known.

    Raises:
        ShapeError: if features and grades differ in number, or a grade is out of range.
    """

    name: str
    feature_ND: NDArray[np.float32]
    grade_N: NDArray[np.int64]
    """0 to `grades` - 1, mildest first."""
    grades: int

    def __post_init__(self) -> None:
        same = len(self.feature_ND) == len(self.grade_N)
        if not same or not 0 <= self.grade_N.min() <= self.grade_N.max() < self.grades:
            raise ShapeError(
                "grades do not fit",
                f"event {self.name}",
                expected=f"{len(self.feature_ND)} grades of 0 to {self.grades - 1}",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """The labels of an event and what is to be graded."""

    event: str
    scale: DamageScale
    support_ND: Tensor
    support_label_N: Tensor
    query_nD: Tensor
    query_label_n: Tensor
    query_grade_n: Tensor
    """Grade of the survey, which the second head learns."""

    @property
    def ways(self) -> int:
        return max(self.scale) + 1


def damage_scales(grades: int, ways: int) -> tuple[DamageScale, ...]:
    """Every way to merge neighbouring grades to so many.

    Five grades make four scales of two, six of three, four of four, and one of five.
    """
    scales = []
    for cuts in combinations(range(1, grades), ways - 1):
        bounds = np.array(cuts)
        scales.append(tuple(int((bounds <= grade).sum()) for grade in range(grades)))
    return tuple(scales)


class EpisodeSampler:
    """Draws episodes; each is a function of the seed and its number alone.

    Args:
        events: where items are drawn from.
        ways: numbers of grades.
        shots: labels per grade.
        queries: items per grade that are graded.
        seed: seed of all episodes.

    Raises:
        RequestError: if no event has enough items for any of the ways.
    """

    def __init__(
        self,
        events: Sequence[GradedEvent],
        ways: Sequence[int],
        *,
        shots: int = 5,
        queries: int = 15,
        seed: int = 0,
    ) -> None:
        self.events, self.seed = tuple(events), seed
        self._shots, self._items = shots, shots + queries
        self._choices = [
            (event, scale)
            for event in events
            for count in ways
            if count <= event.grades
            for scale in damage_scales(event.grades, count)
            if _least(event, scale) >= self._items
        ]
        if not self._choices:
            raise RequestError(
                "no event has enough items of every grade",
                ", ".join(e.name for e in events),
                expected=f"{self._items} per grade, for {', '.join(map(str, ways))} grades",
            )

    def __call__(self, number: int) -> Episode:
        """The episode of that number: ways are equally likely, then events and scales."""
        draw = rng(self.seed, number)
        ways = sorted({max(scale) + 1 for _, scale in self._choices})
        chosen = ways[draw.integers(len(ways))]
        fitting = [c for c in self._choices if max(c[1]) + 1 == chosen]
        event, scale = fitting[draw.integers(len(fitting))]
        label_N = np.array(scale)[event.grade_N]
        rows = [
            draw.permutation(np.flatnonzero(label_N == label))[: self._items]
            for label in range(chosen)
        ]
        support = np.concatenate([r[: self._shots] for r in rows])
        query = np.concatenate([r[self._shots :] for r in rows])
        return Episode(
            event=event.name,
            scale=scale,
            support_ND=torch.from_numpy(event.feature_ND[support]),
            support_label_N=torch.from_numpy(label_N[support]),
            query_nD=torch.from_numpy(event.feature_ND[query]),
            query_label_n=torch.from_numpy(label_N[query]),
            query_grade_n=torch.from_numpy(event.grade_N[query]),
        )


def in_blocks(
    event: GradedEvent, block_N: Sequence[int] | NDArray[np.int64], name: str
) -> tuple[GradedEvent, ...]:
    """The items of an event as one event per block of ground."""
    block = np.asarray(block_N)
    return tuple(
        GradedEvent(
            name=f"{name}-{number}",
            feature_ND=event.feature_ND[block == number],
            grade_N=event.grade_N[block == number],
            grades=event.grades,
        )
        for number in np.unique(block)
    )


def _least(event: GradedEvent, scale: DamageScale) -> int:
    count = np.bincount(np.array(scale)[event.grade_N], minlength=max(scale) + 1)
    return int(count.min())
