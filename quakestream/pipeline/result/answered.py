"""Counts footprints as they are answered, each once however many cells and views show it."""

from collections.abc import Iterable

import numpy as np

from quakestream.pipeline.planning.places import place_km2
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.planning.tasks import Pending


class AnsweredFootprints:
    """Footprints whose units are all done; progress is counted in them.

    Args:
        pending: what the run has left to do.
    """

    def __init__(self, plan: Plan, pending: Pending) -> None:
        judged = [unit.footprint_F for unit in plan.first.units]
        self._left_N = np.zeros(len(plan.footprints.table), np.int32)
        """Units of each footprint that are not done."""
        parts = [p for group in pending.groups for cell in group for p in cell if p.job == 0]
        self._footprints = {part.key: part.unit.footprint_F for part in parts}
        for footprint_F in self._footprints.values():
            self._left_N[footprint_F] += 1
        self.total = len(np.unique(np.concatenate(judged))) if judged else 0
        """Footprints that some unit judges."""
        self.done = self.total - int(np.count_nonzero(self._left_N))
        """Footprints that earlier runs answered."""
        self.km2_done = plan.km2 - sum(
            place_km2((plan.jobs[part.job], part.unit) for part in cell)
            for group in pending.groups
            for cell in group
        )
        """Ground that earlier runs scored, km²."""

    def newly(self, keys: Iterable[str]) -> int:
        """Footprints that are answered now that the units with these keys are done."""
        count = 0
        for key in keys:
            footprint_F = self._footprints.pop(key, None)
            if footprint_F is not None:
                self._left_N[footprint_F] -= 1
                count += int(np.count_nonzero(self._left_N[footprint_F] == 0))
        return count
