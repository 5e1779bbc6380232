"""Metrics of a run: what Prometheus reads is what the events said."""

from pathlib import Path

import pytest

from quakestream.errors import ConfigError
from quakestream.events import (
    GroupCommitted,
    InputQuarantined,
    MapPublished,
    PlanReady,
    StageStarted,
    WorkerTime,
)
from quakestream.outputs.metrics import METRICS, MetricsFile, Pace, RunMetrics, exposition

parser = pytest.importorskip("prometheus_client.parser", reason="ray[default] brings it")

Values = dict[str, dict[str, float]]
RUN_ID = 'a "quake"\\ \n2026'


def read(text: str) -> Values:
    """Values by name and own label, as Prometheus's own parser reads them."""
    values: Values = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            own = sample.labels.get("kind", sample.labels.get("stage", ""))
            values.setdefault(sample.name, {})[own] = sample.value
    return values


def test_help_is_ascii() -> None:
    """Ray takes nothing else, and ends a run over a square metre sign."""
    assert [m.name for m in METRICS.values() if not m.help.isascii()] == []


PLAN = PlanReady(
    run_id=RUN_ID,
    cells=10,
    cells_done=4,
    km2=20.0,
    footprints=500,
    km2_done=8.0,
    buildings=447,
    buildings_done=180,
    groups=5,
    groups_done=2,
)
GROUP = GroupCommitted(
    name="g",
    cells=2,
    km2=4.0,
    buildings=80,
    cells_failed=1,
    mpx=1.5,
    read_s=0.5,
    score_s=0.4,
    spent=WorkerTime(worker_s=2.0, busy_s=1.5, wait_s=0.25, fetched_bytes=3_000_000_000_001),
)


def test_the_events_add_up() -> None:
    metrics = RunMetrics()
    for event in (StageStarted(name="plan"), PLAN, StageStarted(name="map"), GROUP, GROUP):
        metrics(event)
    metrics(InputQuarantined(subject="a.tif", kind="scene", cause="cut"))
    values = read(exposition(metrics))
    assert values["quakestream_cells_done"] == {"": 8}
    assert values["quakestream_cells_planned"] == {"": 10}
    assert values["quakestream_km2_done"] == {"": 16}
    assert values["quakestream_scored_km2_total"] == {"": 8}
    assert values["quakestream_groups_done"] == {"": 4}
    assert values["quakestream_buildings_done"] == {"": 340}
    assert values["quakestream_cells_failed_total"] == {"": 2}
    assert values["quakestream_engine_busy_ratio"] == {"": 0.75}
    assert values["quakestream_read_wait_seconds_total"] == {"": 0.5}
    assert values["quakestream_fetched_bytes_total"] == {"": 6_000_000_000_002}
    quarantined = values["quakestream_quarantined_total"]
    assert quarantined["scene"] == sum(quarantined.values()) == 1
    stages = values["quakestream_stage"]
    assert stages["map"] == 1
    assert sum(stages.values()) == 1
    assert values["quakestream_km2_per_hour"][""] > 0
    named = {f"quakestream_{name}" for name in METRICS}
    assert set(values) == named


def test_the_id_of_the_run_comes_back_whole() -> None:
    metrics = RunMetrics()
    metrics(PLAN)
    for family in parser.text_string_to_metric_families(exposition(metrics)):
        assert {sample.labels["run"] for sample in family.samples} <= {RUN_ID}


def test_the_next_run_begins_at_zero() -> None:
    metrics = RunMetrics()
    for event in (PLAN, GROUP, MapPublished(out="o", snapshot="s"), StageStarted(name="plan")):
        metrics(event)
    values = read(exposition(metrics))
    assert values["quakestream_cells_done"] == {"": 0}
    assert values["quakestream_published_timestamp_seconds"] == {"": 0}
    assert values["quakestream_stage"]["plan"] == 1


def test_the_file_is_whole_and_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "quakestream.prom"
    file = MetricsFile(path, Pace(every_s=0))
    for event in (StageStarted(name="plan"), PLAN, GROUP):
        file(event)
        read(path.read_text())
    assert read(path.read_text())["quakestream_cells_done"] == {"": 6}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_stage_is_shown_at_once_and_a_group_in_its_time(tmp_path: Path) -> None:
    path = tmp_path / "quakestream.prom"
    file = MetricsFile(path, Pace(every_s=3600))
    for event in (PLAN, GROUP, GROUP):
        file(event)
    assert read(path.read_text())["quakestream_cells_done"] == {"": 4}
    file(StageStarted(name="reduce"))
    assert read(path.read_text())["quakestream_cells_done"] == {"": 8}


def test_a_path_that_cannot_be_written_is_named_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--metrics-file .*missing"):
        MetricsFile(tmp_path / "missing" / "a.prom")


def test_a_folder_that_vanishes_does_not_end_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "textfiles"
    folder.mkdir()
    file = MetricsFile(folder / "a.prom", Pace(every_s=0))
    (folder / "a.prom").unlink()
    folder.rmdir()
    file(PLAN)


def test_helps_are_ascii_since_ray_refuses_other_letters() -> None:
    assert all(metric.help.isascii() for metric in METRICS.values())
