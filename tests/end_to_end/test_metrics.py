"""Metrics are scraped while a run goes on: from its textfile, and from Ray."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakestream.config import open_run
from quakestream.events import Event, GroupCommitted
from quakestream.outputs.metrics import METRICS, MetricsFile, Pace
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import map_run
from quakestream.testing import make_world, write_stand_in_bundle
from tests.helpers.monitoring import (
    RECORDED,
    dashboard_expressions,
    labels_kept,
    names_in,
    scraped_names,
)
from tests.helpers.ray_heads import Head, ray_head
from tests.helpers.running import CLI, ROOT, quakestream
from tests.helpers.scenes import spoil_block

parser = pytest.importorskip("prometheus_client.parser", reason="ray[default] brings it")

Values = dict[str, float]
Labels = dict[str, set[str]]
EXECUTION = {"runtime": "stand-in", "cell_windows": 1, "group_cells": 2}
PATIENCE_S = 120


def values_of(text: str) -> Values:
    """The sum of each metric's samples, by name."""
    values: Values = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values


def test_the_textfile_follows_a_run(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=21, side_px=300, buildings=30, execution=EXECUTION)
    write_stand_in_bundle(tmp_path / "bundle", window_s=0.02)
    path, scrapes = tmp_path / "quakestream.prom", list[Values]()

    def scrape(event: Event) -> None:
        if isinstance(event, GroupCommitted):
            scrapes.append(values_of(path.read_text()))

    made = map_run(
        open_run(world.run_file),
        backend=LocalBackend(),
        out=str(tmp_path / "out"),
        observers=[MetricsFile(path, Pace(every_s=0)), scrape],
    )
    done = [one["quakestream_cells_done"] for one in scrapes]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] == made.run["counts"]["cells"]
    last = values_of(path.read_text())
    assert last["quakestream_km2_done"] == pytest.approx(made.run["rates"]["km2"], abs=1e-3)
    assert last["quakestream_quarantined_total"] == len(made.issues)
    assert last["quakestream_published_timestamp_seconds"] > 0
    spent = last["quakestream_worker_seconds_total"]
    busy, wait = (last[f"quakestream_{n}_seconds_total"] for n in ("engine_busy", "read_wait"))
    assert 0.02 * made.run["counts"]["cells"] < busy < spent
    assert 0 < wait <= spent - busy
    scenes = list(tmp_path.rglob("*.tif"))
    assert 0 < last["quakestream_fetched_bytes_total"] < 9 * sum(p.stat().st_size for p in scenes)


def test_a_metrics_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=21, side_px=100, buildings=3)
    path = tmp_path / "none" / "a.prom"
    done = quakestream("map", world.run_file, env={"QUAKESTREAM_METRICS_FILE": str(path)})
    assert done.code == 2
    assert done.error == (
        f"error: --metrics-file {path}: cannot be written (No such file or directory); "
        "name a file in a folder that exists and that this user may write to"
    )
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    pytest.importorskip("ray")
    pytest.importorskip("aiohttp_cors", reason="Ray's metrics agent needs ray[default]")
    with ray_head({"RAY_metrics_report_interval_ms": "500"}) as started:
        yield started


def ray_text(head: Head) -> str:
    try:
        with urllib.request.urlopen(head.metrics, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def labels_of(text: str) -> Labels:
    """The labels of each metric's samples, by name."""
    return {
        sample.name: set(sample.labels)
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if "quakestream" in sample.name
    }


@pytest.mark.alone
@pytest.mark.slow
def test_ray_and_the_textfile_show_a_run_what_rules_and_dashboard_read(
    head: Head, tmp_path: Path
) -> None:
    """A scene has a damaged block, so that cells fail and an input is quarantined meanwhile."""
    world = make_world(tmp_path, seed=21, side_px=640, buildings=60, execution=EXECUTION)
    spoil_block(world.post, 1, 3)
    write_stand_in_bundle(tmp_path / "bundle", window_s=0.3)
    file = tmp_path / "quakestream.prom"
    arguments = [*CLI, "map", str(world.run_file), "--address", head.address, "--quiet"]
    scrapes: list[Values] = []
    labels: Labels = {}
    with subprocess.Popen(
        [*arguments, "--metrics-file", str(file)], env=head.env, cwd=ROOT
    ) as process:
        until = time.monotonic() + PATIENCE_S
        left = 10  # Ray shows the last figures of a run for some seconds after it
        while left and time.monotonic() < until:
            left -= process.poll() is not None
            text = ray_text(head)
            scrapes.append(values_of(text))
            labels |= labels_of(text) | labels_of(file.read_text() if file.exists() else "")
            time.sleep(0.5)
        process.kill()
    assert process.returncode == 1, "made, and an input needs attention"
    shown = {f"ray_quakestream_{name}" for name in METRICS}
    assert shown | {name.removeprefix("ray_") for name in shown} == set(labels)
    assert scraped_names() <= set(labels), "what the rules read is in the scrapes"
    assert {n: missing for n in scraped_names() if (missing := labels_kept(n) - labels[n])} == {}
    assert set().union(*map(names_in, dashboard_expressions())) <= RECORDED
    started = shown - {"ray_quakestream_quarantined_total", "ray_quakestream_cells_failed_total"}
    whole = [s for s in scrapes if started <= set(s)]  # Ray shows a counter with its first value
    during = [s for s in whole if s["ray_quakestream_engine_busy_seconds_total"] > 0]
    assert during, f"no scrape saw the engine at work and {started}"
    done = [s["ray_quakestream_cells_done"] for s in during]
    assert done == sorted(done)
    assert done[0] < during[-1]["ray_quakestream_cells_planned"]
    last = during[-1]
    for name in ("fetched_bytes_total", "read_wait_seconds_total", "km2_per_hour"):
        assert last[f"ray_quakestream_{name}"] > 0, name
    for name in ("quarantined_total", "cells_failed_total"):
        assert max(s.get(f"ray_quakestream_{name}", 0.0) for s in scrapes) >= 1, name
