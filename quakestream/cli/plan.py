"""`quakestream plan`: checks everything, reads no pixel."""

from collections import Counter
from typing import Annotated, Any

import psutil
import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    s3_options,
    stdout,
)
from quakestream.cli.map import Json, RunArgument
from quakestream.config import open_run
from quakestream.pipeline.planning.capacity import Capacity
from quakestream.pipeline.planning.plan import Plan, make_plan


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
    if planned.problems or not statement["fits"]:
        raise typer.Exit(EXIT_ATTENTION)


def plan_statement(plan: Plan, price_per_hour: float | None = None) -> dict[str, Any]:
    """The plan as a JSON object."""
    memory = plan.memory()
    available_mb = psutil.virtual_memory().available / 1e6
    reasons = Counter(r or "to_be_scored" for r in plan.assignment.reason_N)
    capacity = plan.capacity(price_per_hour=price_per_hour)
    return {
        "event": plan.run.event.id,
        "bundle": plan.bundle.spec.name,
        "hazard_bundle": plan.hazard_model.bundle.spec.name if plan.hazard_model else None,
        "footprints": len(plan.footprints.table),
        "coverage": dict(sorted(reasons.items())),
        "cells": len(plan.units),
        "area_cells": len(plan.area_cells),
        "windows": plan.windows,
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
            {"subject": p.subject, "kind": p.kind, "cause": p.cause} for p in plan.problems
        ],
    }


def _stages(plan: Plan, capacity: Capacity) -> dict[str, Any]:
    """Time of each stage, and the rates it is estimated from."""
    rates = plan.rates
    return {
        "read_s": round(capacity.read_s, 1),
        "score_s": round(capacity.score_s, 1),
        "driver_s": round(capacity.driver_s, 1),
        "km2_per_h": round(capacity.km2_per_h, 1),
        "read_mpx_per_s_per_core": rates.read_mpx_per_s,
        "score_windows_per_s": round(1 / rates.score_s, 2) if rates.score_s else None,
        "readers_wanted": plan.readers_wanted,
    }


def _show(statement: dict[str, Any]) -> None:
    hazard = statement["hazard_bundle"]
    models = statement["bundle"] + (f" and hazard evidence of {hazard}" if hazard else "")
    stdout.print(f"{statement['event']} with {models}")
    for reason, number in statement["coverage"].items():
        stdout.print(f"  {number:>9,} {'footprint' if number == 1 else 'footprints'}: {reason}")
    stdout.print(
        f"  {counted(statement['cells'], 'cell')}, {counted(statement['windows'], 'window')}, "
        f"{statement['km2']:.2f} km², {statement['mpx']:,.0f} Mpx in "
        f"{counted(statement['views'], 'view')} of "
        f"{counted(statement['acquisitions'], 'acquisition')} in "
        f"{counted(statement['scenes'], 'file')}, "
        f"{statement['read_bytes'] / 1e9:.2f} GB decoded"
    )
    cost = "" if statement["cost"] is None else f", cost {statement['cost']}"
    stdout.print(
        f"  about {statement['seconds']:,.0f} s on this machine{cost}, limited by "
        f"{statement['limited_by']}; peak memory {statement['peak_mb']:,} MB "
        f"(on Ray, on this machine, {statement['peak_mb_ray']:,} MB)"
    )
    capacity = statement["capacity"]
    stdout.print(
        f"  {capacity['km2_per_h']:,.0f} km²/h: reading {capacity['read_s']:,.0f} s (assumed "
        f"{capacity['read_mpx_per_s_per_core']:g} Mpx/s per core), scoring "
        f"{capacity['score_s']:,.0f} s (measured here); an engine of this speed on a device of "
        f"its own needs readers on {counted(capacity['readers_wanted'], 'core')}"
    )
    for note in statement["notes"]:
        stdout.print(f"  note: {note}", style="dim")
    for problem in statement["problems"]:
        stdout.print(f"  {problem['kind']} {problem['subject']}: {problem['cause']}")
    if not statement["fits"]:
        stdout.print(
            f"  memory: {statement['peak_mb']:,} MB needed, "
            f"{statement['memory']['available_mb']:,} MB free: set fewer execution.readers or "
            "smaller execution.cell_windows"
        )
