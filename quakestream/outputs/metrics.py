"""Metrics of a run while it goes on, and the file in which Prometheus finds them.

One observer adds up what the events say. The file and Ray's own metrics show the same names.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from quakestream.errors import ConfigError
from quakestream.events import (
    Event,
    GroupCommitted,
    InputQuarantined,
    MapClock,
    MapPublished,
    PlanReady,
    StageStarted,
)

PREFIX = "quakestream_"
EVERY_S = 3.0
"""Seconds between two states that are shown, but for those at which a stage begins."""
STAGES = ("plan", "prepare", "map", "reduce", "publish", "done")
QUARANTINED = ("item", "scene", "pair", "block", "read_error", "model_error", "footprint", "hazard")
"""Kinds of quarantined inputs that are shown from the start, at zero; others as they come."""
RUN = "run"
"""The label that every sample carries: the run's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name that a run shows."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str = ""
    """The label beside `run`, if it has one."""


def _counter(name: str, text: str, label: str = "") -> Metric:
    return Metric(name=PREFIX + name, kind="counter", help=text, label=label)


def _gauge(name: str, text: str, label: str = "") -> Metric:
    """A gauge. Its text is ASCII: Ray refuses other letters."""
    return Metric(name=PREFIX + name, kind="gauge", help=text, label=label)


METRICS = {
    metric.name.removeprefix(PREFIX): metric
    for metric in (
        _gauge("cells_planned", "Cells of the run, once for each view and job."),
        _gauge("cells_done", "Cells that are committed, by this run and those before it."),
        _gauge("groups_planned", "Commit groups of the run."),
        _gauge("groups_done", "Commit groups that are committed."),
        _gauge(
            "km2_planned", "Ground to score, square kilometres: whole windows, once for each view."
        ),
        _gauge("km2_done", "Ground of it that is scored, by this run and those before it."),
        _gauge("buildings_planned", "Footprints that some cell judges."),
        _gauge("buildings_done", "Footprints that are answered."),
        _gauge("km2_per_hour", "Ground scored in an hour of mapping, by this run."),
        _gauge("engine_busy_ratio", "Share of the workers' time in which an engine scored."),
        _gauge("stage", "1 for the stage that the run is in, else 0.", "stage"),
        _gauge("updated_timestamp_seconds", "When these figures were written."),
        _gauge("published_timestamp_seconds", "When the map was published; 0 before that."),
        _counter("scored_km2_total", "Ground that this run scored, square kilometres."),
        _counter("cells_failed_total", "Cells with a window that could not be read or scored."),
        _counter("quarantined_total", "Inputs that cannot be used.", "kind"),
        _counter("read_megapixels_total", "Megapixels read, over all epochs."),
        _counter("read_seconds_total", "Time of the threads that read, added up."),
        _counter("fetched_bytes_total", "Bytes fetched, without what GDAL reads by itself."),
        _counter("worker_seconds_total", "Time of the workers; its rate is their number."),
        _counter("engine_busy_seconds_total", "Time in which a worker's engine scored."),
        _counter("read_wait_seconds_total", "Time in which a worker only waited for pixels."),
    )
}
"""Every metric, by its name without the prefix."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of a metric now."""

    metric: Metric
    value: float
    label: str = ""
    """The value of the metric's own label."""


@dataclass(slots=True)
class RunMetrics:
    """Adds up the events of one run."""

    run_id: str = ""
    values: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """Values by name (without the prefix) and label."""
    stage: str = "plan"
    clock: MapClock = field(default_factory=MapClock)

    def __call__(self, event: Event) -> None:
        self.clock(event)
        if isinstance(event, PlanReady):
            self._plan(event)
        elif isinstance(event, GroupCommitted):
            self._group(event)
        elif isinstance(event, InputQuarantined):
            self.values["quarantined_total", event.kind] += 1
        elif isinstance(event, StageStarted):
            self._begin(event.name)
        elif isinstance(event, MapPublished):
            self.values["published_timestamp_seconds", ""] = time.time()
            self._begin("done")

    def samples(self) -> Iterator[Sample]:
        """All values, in the order of `METRICS`. Counters only grow."""
        found: dict[tuple[str, str], float] = {(name, ""): 0.0 for name in METRICS}
        found |= {("stage", stage): float(stage == self.stage) for stage in STAGES}
        found |= {("quarantined_total", kind): 0.0 for kind in QUARANTINED}
        found |= self.values
        found["updated_timestamp_seconds", ""] = time.time()
        mapping_s, worker_s = self.clock.seconds, found["worker_seconds_total", ""]
        scored = found["scored_km2_total", ""]
        busy = found["engine_busy_seconds_total", ""]
        found["km2_per_hour", ""] = scored / mapping_s * 3600 if mapping_s else 0.0
        found["engine_busy_ratio", ""] = busy / worker_s if worker_s else 0.0
        for name, metric in METRICS.items():
            for (other, label), value in found.items():
                if other == name and bool(label) == bool(metric.label):
                    yield Sample(metric, value, label)

    def _plan(self, event: PlanReady) -> None:
        self.run_id = event.run_id
        for name, value in (
            ("cells_planned", event.cells),
            ("cells_done", event.cells_done),
            ("groups_planned", event.groups),
            ("groups_done", event.groups_done),
            ("km2_planned", event.km2),
            ("km2_done", event.km2_done),
            ("buildings_planned", event.buildings),
            ("buildings_done", event.buildings_done),
        ):
            self.values[name, ""] = value

    def _group(self, event: GroupCommitted) -> None:
        for name, value in (
            ("cells_done", event.cells),
            ("groups_done", 1),
            ("km2_done", event.km2),
            ("buildings_done", event.buildings),
            ("scored_km2_total", event.km2),
            ("cells_failed_total", event.cells_failed),
            ("read_megapixels_total", event.mpx),
            ("read_seconds_total", event.read_s),
            ("fetched_bytes_total", event.spent.fetched_bytes),
            ("worker_seconds_total", event.spent.worker_s),
            ("engine_busy_seconds_total", event.spent.busy_s),
            ("read_wait_seconds_total", event.spent.wait_s),
        ):
            self.values[name, ""] += value

    def _begin(self, stage: str) -> None:
        if stage == "plan":  # a run begins
            self.run_id = ""
            self.values.clear()
        self.stage = stage


@dataclass(slots=True)
class Pace:
    """Says when the next state is worth showing."""

    every_s: float = EVERY_S
    shown: float = float("-inf")

    def due(self, event: Event) -> bool:
        """True where a stage begins, and else every few seconds."""
        now = time.monotonic()
        turning = isinstance(event, PlanReady | StageStarted | MapPublished)
        if not turning and now - self.shown < self.every_s:
            return False
        self.shown = now
        return True


class MetricsFile:
    """An observer that keeps a file of metrics up to date, as Prometheus reads it.

    The node exporter's textfile collector takes files whose name ends with `.prom`. A state
    replaces the one before in one step. The last one stays when the run ends.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: str | Path, pace: Pace | None = None) -> None:
        self._path, self._pace, self._metrics = Path(path), pace or Pace(), RunMetrics()
        try:
            self._write()
        except OSError as error:
            raise ConfigError(
                f"cannot be written ({error.strerror or error})",
                f"--metrics-file {path}",
                remedy="name a file in a folder that exists and that this user may write to",
            ) from error

    def __call__(self, event: Event) -> None:
        self._metrics(event)
        if self._pace.due(event):
            with suppress(OSError):  # a full disk must not end the run
                self._write()

    def _write(self) -> None:
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        part.write_text(exposition(self._metrics), "utf-8")
        part.replace(self._path)


def exposition(metrics: RunMetrics) -> str:
    """The text format of Prometheus.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    lines, described = [], set()
    for sample in metrics.samples():
        metric = sample.metric
        if metric.name not in described:
            described.add(metric.name)
            lines.append(f"# HELP {metric.name} {metric.help}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
        labels = f'{RUN}="{_escaped(metrics.run_id)}"'
        if metric.label:
            labels += f',{metric.label}="{_escaped(sample.label)}"'
        lines.append(f"{metric.name}{{{labels}}} {sample.value:.15g}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
