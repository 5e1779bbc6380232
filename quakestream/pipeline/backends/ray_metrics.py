"""Metrics of a run in Ray's own: every node of a cluster shows them to Prometheus.

Ray puts `ray_` before each name. Without Ray's metrics agent (`ray[default]`), they go nowhere.
"""

from typing import Any

from ray.util.metrics import Counter, Gauge

from quakestream.events import Event
from quakestream.outputs.metrics import RUN, Metric, Pace, RunMetrics, Sample


class RayMetrics:
    """An observer that passes the metrics of a run to Ray, in the driver's process.

    A backend may serve several runs, one after the other.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace, self._metrics = pace or Pace(), RunMetrics()
        self._made: dict[str, Any] = {}
        self._counted: dict[tuple[str, str, str], float] = {}
        """What Ray's counters hold, by run, name and label."""

    def __call__(self, event: Event) -> None:
        self._metrics(event)
        if not self._metrics.run_id:
            self._counted.clear()  # the next run, perhaps of the same id, counts from zero
        elif self._pace.due(event):
            for sample in self._metrics.samples():
                self._show(sample)

    def _show(self, sample: Sample) -> None:
        metric, run = sample.metric, self._metrics.run_id
        tags = {RUN: run} | ({metric.label: sample.label} if metric.label else {})
        if metric.kind == "gauge":
            self._ray(metric).set(sample.value, tags)
            return
        key = (run, metric.name, sample.label)
        more = sample.value - self._counted.get(key, 0.0)
        if more > 0:
            self._ray(metric).inc(more, tags)
            self._counted[key] = sample.value

    def _ray(self, metric: Metric) -> Any:
        """Ray's object for a metric; a process has one of each name."""
        if metric.name not in self._made:
            make = Gauge if metric.kind == "gauge" else Counter
            keys = (RUN, metric.label) if metric.label else (RUN,)
            self._made[metric.name] = make(metric.name, metric.help, keys)
        return self._made[metric.name]
