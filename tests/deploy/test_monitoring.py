"""Rules and dashboard of Prometheus and Grafana name metrics that exist.

That a scrape of a run shows those metrics is tested in `tests/end_to_end/test_metrics.py`.
"""

from typing import Any

import pytest

from quakestream.outputs.metrics import METRICS
from tests.helpers.deploying import DEPLOY
from tests.helpers.monitoring import (
    DASHBOARD,
    RECORDED,
    RULES,
    dashboard_expressions,
    names_in,
)

SHOWN = {f"{ray}{metric.name}" for ray in ("", "ray_") for metric in METRICS.values()}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: str(r.get("record", r.get("alert"))))
def test_rules_read_metrics_that_exist(rule: dict[str, Any]) -> None:
    names = names_in(rule["expr"])
    assert names
    assert names <= SHOWN | RECORDED
    for name in names & SHOWN:  # one name for Ray's metrics and for textfiles
        assert {name.removeprefix("ray_"), f"ray_{name.removeprefix('ray_')}"} <= names
    if "alert" in rule:
        said = rule["annotations"]["runbook"].split('"')[1]
        assert f"| {said} |" in (DEPLOY / "README.md").read_text(), "the runbook has no such line"


def test_the_dashboard_reads_recorded_metrics() -> None:
    read = set().union(*map(names_in, dashboard_expressions()))
    assert read
    assert read <= RECORDED


def test_what_is_recorded_is_used() -> None:
    alerts = [r["expr"] for r in RULES]
    used = set().union(*map(names_in, [*dashboard_expressions(), *alerts]))
    assert used >= RECORDED


def test_planted_mistakes_are_found() -> None:
    assert names_in("rate(quakestream_cell_done[5m])") - SHOWN == {"quakestream_cell_done"}
    with pytest.raises(ValueError, match=r"unexpected|invalid|parse"):
        names_in("sum by run (quakestream:cells_done)")


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
