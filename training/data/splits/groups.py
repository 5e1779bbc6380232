"""Splits by group: whole regions or whole sources are held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from quakestream.errors import RequestError
from training.data.pairs import LabelledPair
from training.data.splits.ground import GroundSplit
from training.data.splits.values import Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSplit:
    """Holds out whole regions: does what was learnt hold in another town?"""

    held_regions: frozenset[str]

    def held_ground(self, pair: LabelledPair) -> BaseGeometry:
        return pair.outline if pair.region in self.held_regions else Polygon()


def group_folds(group_N: Sequence[str] | NDArray[np.object_]) -> dict[str, Fold]:
    """A fold per group, by name: that group is held out and all others are trained on.

    Over regions this is leave-one-domain-out (LODO).

    Raises:
        RequestError: if there are fewer than two groups.
    """
    group = np.asarray(group_N, object).astype(str)
    names = sorted(set(group.tolist()))
    if len(names) < 2:
        raise RequestError(
            "too few groups to leave one out", expected="two or more", got=", ".join(names)
        )
    return {name: Fold(train_N=group != name, held_N=group == name) for name in names}


def chosen_groups(
    group_N: Sequence[str] | NDArray[np.object_], train: Sequence[str], test: Sequence[str]
) -> Fold:
    """Trains on some groups and holds out others; the rest is on neither side.

    Over sources this is the papers' cross-event test (SSDC).

    Raises:
        RequestError: if a group is unknown or on both sides, or a side is empty.
    """
    group = np.asarray(group_N, object).astype(str)
    known = sorted(set(group.tolist()))
    if unknown := sorted({*train, *test} - set(known)):
        raise RequestError(
            "unknown group", "split", expected=f"one of {', '.join(known)}", got=", ".join(unknown)
        )
    if both := sorted({*train} & {*test}):
        raise RequestError(f"group {', '.join(both)} is on both sides", "split")
    if not train or not test:
        raise RequestError(
            "a side has no group",
            "split",
            remedy=f"name groups to train on and groups to hold out, of {', '.join(known)}",
        )
    return Fold(train_N=np.isin(group, list(train)), held_N=np.isin(group, list(test)))


def nearest_groups(
    value_of: Mapping[str, Sequence[float]], target: str, count: int = 1
) -> tuple[str, ...]:
    """The groups whose values are nearest to those of a target, nearest first.

    With the share of destroyed buildings, or the position, as the value, these are the sources that
    Smart Transfer chooses by damage level or by distance.

    Raises:
        RequestError: if the target is unknown, or there are too few other groups.
    """
    others = [name for name in value_of if name != target]
    if target not in value_of or len(others) < count:
        raise RequestError(
            "no sources to choose for a target",
            target,
            expected=f"{count} or more other groups",
            got=", ".join(others),
        )

    def apart(name: str) -> float:
        return float(np.hypot.reduce(np.subtract(value_of[name], value_of[target])))

    return tuple(sorted(others, key=lambda name: (apart(name), name))[:count])


def table_region_folds(table: pd.DataFrame) -> dict[str, Fold]:
    """`group_folds` of the regions of a store's table.

    Raises:
        RequestError: if a scene shows two regions, and so would be on both sides.
    """
    scenes = table[["source", "scene", "region"]].drop_duplicates()
    twice = scenes[scenes.duplicated(["source", "scene"])]
    if len(twice):
        source, scene = twice.iloc[0][["source", "scene"]]
        raise RequestError(
            "scene shows more than one region, and would be on both sides of the split",
            f"scene {scene} of {source}",
            remedy="give its buildings one region",
        )
    return group_folds(table["region"].to_numpy(object))


_: type[GroundSplit] = RegionSplit
