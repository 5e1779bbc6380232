"""`quakestream status`: the progress of a run."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quakestream.cli.common import Json, S3Anon, S3Endpoint, s3_options, warn_of_other_products
from quakestream.outputs.ground import WHOLE_WINDOWS, covered_text
from quakestream.outputs.lease import clock
from quakestream.outputs.progress import Status, read_status
from quakestream.storage import open_store

_MEANING = {
    "running": "running",
    "interrupted": "interrupted{when}: run the same command again, it resumes",
    "failed": "ended with an error{when}: run the same command again, it resumes",
    "stopped": "stopped{when}: run the same command again, it resumes",
    "publishing": "all cells done, writing the map",
    "finished": "finished",
}


def status(
    out: Annotated[str, typer.Argument(help="The run's output: a folder or URI.")],
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Show counts and rates of a running or finished run.

    Example: quakestream status s3://bucket/runs/kahramanmaras
    """
    store = open_store(out, s3_options(endpoint_url, anon))
    progress = read_status(store)
    if progress.state == "finished":
        warn_of_other_products(store)
    if as_json:
        typer.echo(json.dumps(asdict(progress), indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in _rows(progress):
        table.add_row(name, value)
    Console(markup=False, emoji=False).print(table)


def _rows(progress: Status) -> list[tuple[str, str]]:
    when = f" (last sign of life {_moment(progress.last_sign)})" if progress.last_sign else ""
    state = _MEANING[progress.state].format(when=when)
    if not (progress.commits or progress.counts or progress.state == "running"):
        state += "; nothing was committed as yet"
    rows = [("state", state)]
    rows += [("run", progress.run_id)] if progress.run_id else []
    if progress.holder and progress.state in ("running", "publishing"):
        rows.append(("by", progress.holder))
    if progress.models:
        rows.append(("model", progress.models))
    if progress.groups_total:
        rows.append(("committed", f"{progress.groups_done:,} of {progress.groups_total:,} groups"))
    if progress.cells_total:
        share = progress.cells_done / progress.cells_total
        rows += [
            (
                "cells to read",
                f"{progress.cells_done:,} of {progress.cells_total:,} ({share:.0%}), a cell once "
                "for each view and model",
            ),
            *_aoi_row(progress),
            (
                "scored",
                f"{progress.km2_done:,.2f} of {progress.km2_total:,.2f} km² ({WHOLE_WINDOWS})",
            ),
            ("buildings", f"{progress.buildings_done:,} scored"),
            ("failed cells", f"{progress.failed:,}"),
        ]
    if progress.km2_per_h:
        rows.append(
            (
                "rate",
                f"{progress.km2_per_h:,.0f} km²/h scored, over {_clock(progress.map_s)} of mapping",
            )
        )
    if progress.remaining_s is not None:
        rows.append(("remaining", f"about {_clock(progress.remaining_s)}"))
    if progress.counts:
        rows.append(("snapshot", progress.snapshot + (", interim" if progress.interim else "")))
        rows += _coverage_rows(progress.counts.get("coverage"))
        if found := progress.expected:
            rows += [("expected", found.line), *(("", text) for text in found.beside_it)]
        rows.append(("footprints", f"{progress.counts['footprints']:,}"))
        rows += [(f"  {label}", f"{n:,}") for label, n in progress.counts.get("damage", {}).items()]
        rows.append(("  not assessed", f"{progress.counts['not_assessed']:,}"))
        rows += [(f"    {r}", f"{n:,}") for r, n in progress.counts.get("reasons", {}).items()]
        rows += _slide_rows(progress.counts.get("landslides"), progress.left_out)
        rows.append(("quarantined inputs", f"{progress.counts.get('quarantined', 0):,}"))
    return rows


def _aoi_row(progress: Status) -> list[tuple[str, str]]:
    """The area that was asked for; nothing for runs of earlier versions."""
    if progress.aoi_km2 is None or progress.covered_km2 is None:
        return []
    return [("AOI", covered_text(progress.aoi_km2, progress.covered_km2))]


def _coverage_rows(coverage: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Rows of coverage.parquet by status; nothing for maps of earlier versions."""
    if coverage is None:
        return []
    parts = ", ".join(f"{n:,} {status}" for status, n in coverage["status"].items())
    text = f"{coverage['rows']:,} in coverage.parquet, each once for each model: {parts}"
    return [("cells of the area", text)]


def _slide_rows(slides: Mapping[str, Any] | None, left_out: str) -> list[tuple[str, str]]:
    """What the finished map says of landslides; nothing where it looked for none."""
    if slides is None:
        return []
    rows = [("landslides", f"{slides['slides']:,}, {slides['km2']:.3f} km²")]
    if "buildings_touched" in slides:
        near = slides.get("buildings_within_50_m", 0)
        touched = f"{slides['buildings_touched']:,} touched, {near:,} within 50 m"
        rows.append(("  buildings", touched))
    if "road_km" in slides:
        rows.append(("  roads", f"{slides['road_km']:.3f} km"))
    return [*rows, ("  left out", left_out)] if left_out else rows


def _moment(time: str) -> str:
    return clock(datetime.fromisoformat(time))


def _clock(seconds: float) -> str:
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
