"""What the rules of Prometheus and the dashboard of Grafana read, by Prometheus's own grammar."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.helpers.deploying import DEPLOY

promql = pytest.importorskip("promql_parser", reason="promql-parser, of the `dev` extra")

RULES = [
    r
    for g in yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
    for r in g["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def names_in(expression: str) -> set[str]:
    """Metrics that an expression reads."""
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.add(node.name)
        return True

    promql.walk(promql.parse(expression), visit)
    return found


def scraped_names() -> set[str]:
    """Metrics that the rules read from a scrape, and not from other rules."""
    return set().union(*(names_in(rule["expr"]) for rule in RULES)) - RECORDED


def labels_kept(name: str) -> set[str]:
    """Labels of a metric by which some rule adds it up."""
    clauses = [
        clause
        for rule in RULES
        if name in names_in(rule["expr"])
        for clause in re.findall(r"\bby\s*\(([^)]*)\)", rule["expr"])
    ]
    return {label.strip() for clause in clauses for label in clause.split(",")}


def dashboard_expressions() -> Iterator[str]:
    """Queries of the dashboard, with values for its variables."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$price", "0.4")
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            inside = variable["query"].removeprefix("label_values(").removesuffix(")")
            yield inside.split(",")[0]
