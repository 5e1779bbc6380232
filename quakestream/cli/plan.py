"""`quakestream plan`: checks everything, reads no pixel."""

from collections import Counter
from typing import Annotated, Any

import psutil
import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    fault_line,
    left_out_hint,
    print_json,
    s3_options,
    stdout,
)
from quakestream.cli.map import RunArgument, outside_aoi
from quakestream.config import open_run
from quakestream.outputs.ground import WHOLE_WINDOWS, covered_text
from quakestream.outputs.viewer_content import REASON_TITLES
from quakestream.pipeline.planning.capacity import Capacity
from quakestream.pipeline.planning.checks import later_problems
from quakestream.pipeline.planning.plan import Plan, make_plan

NOTHING_TO_DO = (
    "nothing can be assessed: no building is covered by the images that the model needs; check "
    "the AOI, the dates and the catalogue"
)
NOTHING_TO_LOOK_AT = (
    "no ground will be looked at for landslides: all of it is flat (the notes say how much), or no "
    "image covers it; check terrain.dem, the AOI, the dates and the catalogue"
)
PROBLEMS_SHOWN = 8
"""Problems of a kind that the console names."""
COVERED = "covered"
"""Key of footprints that imagery covers; the others are counted by their reason."""
COVERED_TEXT = "are covered by imagery and will be looked at"


def plan(
    run_file: RunArgument,
    price_per_hour: Annotated[
        float | None, typer.Option("--price", help="Price of this machine per hour.")
    ] = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Check a run: its cells, km², bytes, memory, time and cost, and what is missing.

    Example: quakestream plan run.yaml --price 0.40
    """
    planned = make_plan(open_run(run_file, s3_options(endpoint_url, anon)))
    statement = plan_statement(planned, price_per_hour)
    if as_json:
        print_json(statement)
    else:
        _show(statement)
    if statement["problems"] or not statement["fits"] or not statement["cells"]:
        raise typer.Exit(EXIT_ATTENTION)


def plan_statement(plan: Plan, price_per_hour: float | None = None) -> dict[str, Any]:
    """The plan as a JSON object."""
    memory = plan.memory()
    available_mb = psutil.virtual_memory().available / 1e6
    reasons = Counter(r or COVERED for r in plan.assignment.reason_N)
    capacity = plan.capacity(price_per_hour=price_per_hour)
    return {
        "event": plan.run.event.id,
        "profile": plan.run.named_profile,
        "bundle": plan.bundle.spec.name if plan.judges else None,
        "landslide_bundle": _landslide_bundle(plan),
        "hazard_bundle": plan.hazard_model.bundle.spec.name if plan.hazard_model else None,
        "footprints": len(plan.footprints.table),
        "outside_aoi": plan.footprints.outside_aoi,
        "coverage": dict(sorted(reasons.items())),
        "cells": len(plan.units),
        "area_cells": len(plan.area_cells),
        "windows": plan.windows,
        "aoi_km2": round(plan.aoi_km2, 4),
        "covered_km2": round(plan.covered_km2, 4),
        "km2": round(plan.km2, 4),
        "views": len(plan.views),
        "acquisitions": plan.acquisitions,
        "scenes": plan.scenes,
        "mpx": round(plan.mpx, 1),
        "read_bytes": plan.read_bytes,
        "seconds": round(capacity.seconds, 1),
        "limited_by": capacity.limited_by,
        "capacity": _stages(plan, capacity),
        "cost": None if capacity.cost is None else round(capacity.cost, 2),
        "peak_mb": round(memory.peak_mb),
        "peak_mb_ray": round(plan.memory("ray").peak_mb),
        "memory": {
            "base_mb": round(memory.base_mb),
            "engine_mb": round(memory.engine_mb),
            "pixels_mb": round(memory.pixels_mb),
            "tables_mb": round(memory.tables_mb),
            "available_mb": round(available_mb),
        },
        "fits": memory.peak_mb <= available_mb,
        "notes": list(plan.notes),
        "problems": [
            {"subject": p.subject, "kind": p.kind, "cause": p.cause}
            for p in [*later_problems(plan.run), *plan.problems]
        ],
    }


def _landslide_bundle(plan: Plan) -> str | None:
    names = [j.bundle.spec.name for j in plan.jobs if j.bundle.spec.task == "landslide"]
    return names[0] if names else None


def _stages(plan: Plan, capacity: Capacity) -> dict[str, Any]:
    """Time of each stage, and the rates it is estimated from."""
    rates = plan.rates
    return {
        "read_s": round(capacity.read_s, 1),
        "score_s": round(capacity.score_s, 1),
        "driver_s": round(capacity.driver_s, 1),
        "around_s": round(capacity.startup_s, 1),
        "km2_per_h": round(capacity.map_km2_per_h, 1),
        "command_km2_per_h": round(capacity.km2_per_h, 1),
        "read_mpx_per_s_per_core": rates.read_mpx_per_s,
        "score_windows_per_s": round(1 / rates.score_s, 2) if rates.score_s else None,
        "readers_wanted": plan.readers_wanted,
    }


def _show(statement: dict[str, Any]) -> None:
    hazard = statement["hazard_bundle"]
    models = [m for m in (statement["bundle"], statement["landslide_bundle"]) if m]
    models += [f"hazard evidence of {hazard}"] if hazard else []
    profile = f", profile {statement['profile']}" if statement["profile"] else ""
    stdout.print(f"{statement['event']} with {' and '.join(models)}{profile}")
    if statement["footprints"]:
        buildings = counted(statement["footprints"], "building")
        stdout.print(f"  {buildings}, of which")
    for reason, number in statement["coverage"].items():
        meaning = COVERED_TEXT if reason == COVERED else f"{reason}: {REASON_TITLES[reason]}"
        hint = left_out_hint(reason, (p["kind"] for p in statement["problems"]))
        stdout.print(f"  {number:>9,} {meaning}{hint}")
    _show_ground(statement)
    if statement["outside_aoi"]:
        stdout.print(f"  {outside_aoi(statement['outside_aoi'])}", style="dim")
    _show_time(statement)
    _show_memory(statement)
    for note in statement["notes"]:
        stdout.print(f"  note: {note}", style="dim")
    _show_problems(statement["problems"])
    if not statement["cells"]:
        stdout.print(f"  {_nothing(statement)}")


def _show_ground(statement: dict[str, Any]) -> None:
    """The area that was asked for, and the work that it makes."""
    covered = covered_text(statement["aoi_km2"], statement["covered_km2"])
    stdout.print(f"  AOI: {covered}")
    stdout.print(
        f"  to score: {statement['km2']:,.2f} km² in {counted(statement['views'], 'view')} "
        f"({WHOLE_WINDOWS})"
    )
    stdout.print(
        f"  to read: {counted(statement['cells'], 'cell')}, once for each view and model: "
        f"{statement['mpx']:,.1f} megapixels of all images, with the margins of windows "
        f"({statement['read_bytes'] / 1e9:.2f} GB decoded)"
    )


def _show_problems(problems: list[dict[str, Any]]) -> None:
    """The first problems of each kind, and how many more there are."""
    for kind in dict.fromkeys(problem["kind"] for problem in problems):
        alike = [problem for problem in problems if problem["kind"] == kind]
        for problem in alike[:PROBLEMS_SHOWN]:
            stdout.print(f"  {fault_line(kind, problem['subject'], problem['cause'])}")
        if len(alike) > PROBLEMS_SHOWN:
            more = f"{len(alike) - PROBLEMS_SHOWN:,} more of kind {kind}: --json lists all"
            stdout.print(f"  and {more}")


def _nothing(statement: dict[str, Any]) -> str:
    """Why there is nothing to do, and what to do about it."""
    if not statement["footprints"]:
        return NOTHING_TO_LOOK_AT
    lost = sum(problem["kind"] in ("item", "scene") for problem in statement["problems"])
    if lost:
        return f"nothing can be assessed: {counted(lost, 'image')} left out for the causes above"
    return NOTHING_TO_DO


def _show_time(statement: dict[str, Any]) -> None:
    capacity = statement["capacity"]
    cost = "" if statement["cost"] is None else f", cost {statement['cost']}"
    stdout.print(
        f"  time: about {statement['seconds']:,.0f} s on this machine{cost}: "
        f"{capacity['around_s']:,.0f} s to start, prepare and publish, "
        f"{capacity['read_s']:,.0f} s to read (a usual speed is assumed), "
        f"{capacity['score_s']:,.0f} s to score (timed here)"
    )


def _show_memory(statement: dict[str, Any]) -> None:
    free_mb = statement["memory"]["available_mb"]
    stdout.print(
        f"  memory: at most {statement['peak_mb']:,} MB (on Ray on this machine "
        f"{statement['peak_mb_ray']:,} MB), small runs take less; {free_mb:,} MB are free"
    )
    if not statement["fits"]:
        stdout.print(
            "  this does not fit: set fewer execution.readers or smaller execution.cell_windows"
        )
