"""The progress file of a running run, for `quakestream status`."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from quakestream.events import Event, GroupCommitted, MapClock, PlanReady
from quakestream.outputs.layout import PROGRESS
from quakestream.outputs.numerals import models_with_profile
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.result.record import run_id
from quakestream.storage import Store

EVERY_S = 3.0


@dataclass(slots=True)
class ProgressFile:
    """An observer that writes the progress of a run every few seconds."""

    store: Store
    plan: Plan
    commits: int
    """Commit objects of the first job that are stored."""
    groups: int = 0
    groups_done: int = 0
    cells_done: int = 0
    km2_done: float = 0.0
    km2_resumed: float = 0.0
    buildings_done: int = 0
    failed: int = 0
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    written: float = 0.0
    km2_total: float = field(init=False)
    clock: MapClock = field(default_factory=MapClock)

    def __post_init__(self) -> None:
        self.km2_total = self.plan.km2  # adds up every unit: not every few seconds

    def __call__(self, event: Event) -> None:
        self.clock(event)
        if isinstance(event, PlanReady):
            self.cells_done = event.cells_done
            self.groups, self.groups_done = event.groups, event.groups_done
            self.km2_done = self.km2_resumed = event.km2_done
            self.buildings_done = event.buildings_done
        elif isinstance(event, GroupCommitted):
            self.cells_done += event.cells
            self.groups_done += 1
            self.commits += event.name.count(self.plan.first.kind.commits)
            self.km2_done += event.km2
            self.buildings_done += event.buildings
            self.failed += event.cells_failed
        else:
            return
        whole = self.cells_done >= len(self.plan.units)
        if time.monotonic() - self.written >= EVERY_S or whole or isinstance(event, PlanReady):
            self.written = time.monotonic()
            self._write()

    def _write(self) -> None:
        state = {
            "run_id": run_id(self.plan),
            "started": self.started,
            "map_s": round(self.clock.seconds, 3),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "cells_total": len(self.plan.units),
            "cells_done": self.cells_done,
            "models": models_with_profile(
                [job.bundle.spec.name for job in self.plan.jobs],
                self.plan.run.named_profile,
            ),
            "aoi_km2": round(self.plan.aoi_km2, 4),
            "covered_km2": round(self.plan.covered_km2, 4),
            "km2_total": round(self.km2_total, 4),
            "km2_done": round(self.km2_done, 4),
            "buildings_done": self.buildings_done,
            "km2_resumed": round(self.km2_resumed, 4),
            "failed": self.failed,
            "groups_total": self.groups,
            "groups_done": self.groups_done,
            "commits": self.commits,
        }
        self.store.put(PROGRESS, json.dumps(state).encode())
