"""`python -m benchmarks.tables`: results/*.json as the tables of README.md, and one figure.

Nothing is typed by hand: what the README shows of a benchmark is what its result file holds.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
FIGURE = "rates.svg"
PUBLISHED = ("aegean.ai, one A4000 (published)", 1241.0)
_WIDTH, _LABEL, _BAR, _STEP = 760, 300, 16, 26


def main() -> None:
    """Rewrites what lies between the markers of README.md."""
    results = {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))}
    (RESULTS / FIGURE).write_text(_figure(list(_bars(results))))
    parts = [f"![Ground a hour, by system](results/{FIGURE})", ""]
    for name, result in results.items():
        parts += [f"### {name}", "", _origin(result), "", *_tables(result["metrics"])]
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")


def _origin(result: dict[str, Any]) -> str:
    machine = result["machine"]
    quick = ", quick" if result["settings"].get("quick") else ""
    return (
        f"Commit {result['commit']}{quick}; {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gb']:.0f} GB; load before {machine.get('load_before', 'not noted')}."
    )


def _tables(metrics: dict[str, Any]) -> Iterator[str]:
    """Single figures first, then every list of rows as a table."""
    singles = {k: v for k, v in metrics.items() if _is_plain(v)}
    if singles:
        yield from _table([{"figure": k.replace("_", " "), "": v} for k, v in singles.items()])
    for name, value in metrics.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from (f"**{name.replace('_', ' ')}**", "", *_table(value))
        elif isinstance(value, dict) and value:
            flat = {k: v for k, v in value.items() if isinstance(v, dict)}
            rows = [{"": k, **v} for k, v in flat.items()] or [
                {"figure": k, "": v} for k, v in value.items()
            ]
            yield from (f"**{name.replace('_', ' ')}**", "", *_table(rows))


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    shown = [{k: v for k, v in row.items() if _is_plain(v) or isinstance(v, list)} for row in rows]
    names = list(dict.fromkeys(k for row in shown for k in row))
    yield "| " + " | ".join(n.replace("_", " ") for n in names) + " |"
    yield "|" + "---|" * len(names)
    for row in shown:
        yield "| " + " | ".join(_told(row.get(n)) for n in names) + " |"
    yield ""


def _told(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_told(v) for v in value)
    return str(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _bars(results: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """km² an hour, whole commands, of everything that was measured so."""
    yield PUBLISHED
    if "end_to_end" in results:
        for row in results["end_to_end"]["metrics"]["rows"]:
            yield f"end to end, {row['name'].replace('_', ' ')}, 0.3 m", row["km2_per_h"]
    if "peers" in results:
        for row in results["peers"]["metrics"]["rows"]:
            yield f"{row['name'].replace('_', ' ')}, 0.5 m", row["km2_per_h"]


def _figure(bars: list[tuple[str, float]]) -> str:
    """Horizontal bars. SVG by hand: no plotting library."""
    height = _STEP * len(bars) + 40
    longest = max(value for _, value in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<text x="10" y="20">km² an hour, whole command (0.3 m and 0.5 m pixels differ 2.8 times'
        " in ground)</text>",
    ]
    for n, (name, value) in enumerate(bars):
        top = 34 + n * _STEP
        length = (_WIDTH - _LABEL - 70) * value / longest
        colour = "#888888" if n == 0 else "#2b6cb0"
        lines += [
            f'<text x="{_LABEL - 8}" y="{top + 13}" text-anchor="end">{name}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_LABEL + length + 6:.1f}" y="{top + 13}">{value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
