"""Short tables that stand for a plan, a map or its scores in a notebook."""

import html
from collections.abc import Iterable


def facts_html(title: str, facts: Iterable[tuple[str, object]]) -> str:
    """An HTML table of two columns under a title; texts are escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{_safe(name)}</th>"
        f"<td style='text-align:right'>{_safe(value)}</td></tr>"
        for name, value in facts
    )
    return f"<table><caption>{_safe(title)}</caption>{rows}</table>"


def _safe(value: object) -> str:
    return html.escape(f"{value:,}" if type(value) is int else str(value))
