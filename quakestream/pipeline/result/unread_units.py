"""Units that a run has not read yet, while it goes on."""

from collections.abc import Iterable

import numpy as np

from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.planning.tasks import KeyedGroup, KeyedUnit
from quakestream.pipeline.result.context import Unread, ViewFailures


class UnreadUnits:
    """Units that a run has not read yet. Units of views that cannot be used are never read.

    Args:
        groups: what the run has left to do.
        failures: views that cannot be used.
    """

    def __init__(self, groups: Iterable[KeyedGroup], failures: ViewFailures) -> None:
        parts = (part for group in groups for cell in group for part in cell)
        self._left: dict[str, KeyedUnit] = {
            part.key: part
            for part in parts
            if (part.unit.view, part.unit.cell.epsg) not in failures
        }

    def read(self, keys: Iterable[str]) -> None:
        """Notes that units are read and committed."""
        for key in keys:
            self._left.pop(key, None)

    def __len__(self) -> int:
        return len(self._left)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def of_job(self, plan: Plan, job: int) -> Unread:
        """What is left of a job, for its products."""
        footprint_N = np.zeros(len(plan.footprints.table), np.bool_)
        for part in self._left.values():
            if part.job == 0:
                footprint_N[part.unit.footprint_F] = True
        cells = frozenset(p.unit.cell.id for p in self._left.values() if p.job == job)
        return Unread(footprint_N=footprint_N, cells=cells)

    def copy(self) -> "UnreadUnits":
        """The same, unchanged by what is read from now on."""
        other = UnreadUnits((), {})
        other._left = dict(self._left)
        return other
