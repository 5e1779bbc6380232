"""`quakestream compare`: a map beside the damage maps of others."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from quakestream.cli.common import (
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    s3_options,
    warn_of_other_products,
)
from quakestream.errors import RequestError
from quakestream.outputs.agreement import (
    CompareOptions,
    Comparison,
    MapAgreement,
    compare_stored,
    written,
)
from quakestream.outputs.others import OtherRequest
from quakestream.outputs.readback import current_run
from quakestream.redaction import redacted
from quakestream.storage import open_store

ANY_WIDTH = 10_000
"""Wider than any table, characters."""
_HOW_MANY = {
    "all": "all maps that looked say destroyed (two or more)",
    "most": "more than half of them",
    "some": "two or more, but not most",
    "one": "one",
    "none": "none",
    "unsure": "a map looked, and none could tell",
    "nobody_looked": "nobody looked",
}


def compare(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    others: Annotated[
        list[str],
        typer.Option(
            "--with",
            help="A map of others: FILE, or FILE:layer=NAME:column=NAME:destroyed=A|B:name=NAME, "
            "or the output of another run. Give it several times.",
        ),
    ],
    layer: Annotated[
        str | None, typer.Option(help="Layer of every --with that names none.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Damage column of every --with that names none.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder or URI for compare.parquet and .geojson, and the cells."
        ),
    ] = None,
    cell: Annotated[int, typer.Option(help="Side of the squares, metres.")] = 500,
    distance: Annotated[
        float, typer.Option(help="Largest distance of a point to its footprint, metres.")
    ] = 5.0,
    severe: Annotated[
        bool, typer.Option("--severe", help="Count major damage (Damaged), too, as `score` does.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Compare a map with damage maps of others, per building and per square.

    Reads Copernicus EMS, UNOSAT, Microsoft, xBD, OpenStreetMap and other runs by their columns.
    Maps are compared one by one and never added up. A building without an item of a map was not
    looked at by it, and never counts as undamaged.

    Example: quakestream compare out/ --with builtUpP.json --with unosat.gpkg:layer=sites -o agree/
    """
    store = open_store(out, s3_options(endpoint_url, anon))
    warn_of_other_products(store)
    requests = [
        replace(r, layer=r.layer or layer, column=r.column or column)
        for r in map(OtherRequest.parse, others)
    ]
    options = CompareOptions(distance_m=distance, cell_m=cell, severe=severe)
    result = compare_stored(store, requests, options)
    files = _write(result, to, endpoint_url, anon) if to else []
    if as_json:
        head = {"out": redacted(out), "snapshot": current_run(store)["snapshot"], "files": files}
        typer.echo(json.dumps(head | result.to_json(), indent=2))
        return
    console = Console(markup=False, emoji=False, highlight=False)
    _show(result, console)
    for name in files:
        console.print(name, soft_wrap=True)
    if not files:
        console.print("-o FOLDER writes the answers per building and per square.")


def _write(result: Comparison, to: str, endpoint_url: str | None, anon: bool) -> list[str]:
    store = open_store(to, s3_options(endpoint_url, anon))
    if store.exists("run.json"):
        raise RequestError(
            "is the output of a run",
            to,
            expected="a folder of its own",
            remedy="write the comparison elsewhere: a run publishes only its own products",
        )
    names = []
    for name, data in written(result).items():
        store.put(name, data)
        names.append(redacted(store.uri_of(name)))
    return names


def _show(result: Comparison, console: Console) -> None:
    plain = result.to_json()
    console.print(
        f"{counted(plain['buildings'], 'building')} of this map, {plain['assessed']:,} assessed."
    )
    console.print(result.rule)
    names = [one.name for one in result.maps]
    table = _maps_table(result, names)
    wide = console.options.update_width(ANY_WIDTH)
    numbered = console.measure(table, options=wide).maximum > console.width
    if numbered:  # rather than names that are broken over lines
        names = [str(number) for number in range(1, len(names) + 1)]
        table = _maps_table(result, names)
    console.print(table)
    for number, one in zip(names, result.maps, strict=True):
        _show_map(one, console, f"{number}. " if numbered else "")
    console.print(_tally_table(plain["buildings_by_maps_destroyed"], len(result.maps) + 1))


def _maps_table(result: Comparison, names: Sequence[str]) -> Table:
    """One row a map, under the name given for it."""
    table = Table(
        title="Buildings that both maps judged, and which map alone calls them destroyed",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption="Intervals of 95 %: bootstrap over blocks of 200 m. Rows are not to be added: maps "
        "see different buildings on different days.",
    )
    table.add_column("map", no_wrap=True)
    for heading in ("judged", "both", "ours", "theirs", "neither", "agreement", "kappa"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, one in zip(names, result.maps, strict=True):
        figures = (
            one.judged_by_both,
            one.both_destroyed,
            one.only_ours,
            one.only_theirs,
            one.neither,
        )
        table.add_row(
            name + "*" * one.damage_only,
            *(f"{v:,}" for v in figures),
            _interval(one),
            _figure(one.kappa),
        )
    return table


def _show_map(one: MapAgreement, console: Console, number: str) -> None:
    """What the table does not say of a map: what was read, and what was left out."""
    parts = [
        f"{number}{one.name}: {one.origin}, column {one.column}, "
        f"{counted(one.items, 'item')}; {one.how}.",
        f"{counted(one.items_unmatched, 'item')} without a footprint of this map, "
        f"{counted(one.without_item, 'building')} without an item.",
    ]
    left_out = {
        "unsure": one.unsure,
        "not analysed": one.not_analysed,
        "contradictory": one.contradictory,
        "not assessed by this map": one.not_assessed_by_us,
    }
    said = ", ".join(f"{number:,} {name}" for name, number in left_out.items() if number)
    if said:
        parts.append(f"Left out: {said}.")
    if one.items_without_claim:
        parts.append(f"{counted(one.items_without_claim, 'item')} without a value.")
    if one.damage_only:
        parts.append(
            "* It maps damage only: a building that is not in it may be intact or not looked at, "
            "so its row says nothing about false alarms."
        )
    parts += [f"{note[0].upper()}{note[1:]}." for note in one.notes]
    console.print(" ".join(parts))


def _tally_table(tally: Mapping[str, int], maps: int) -> Table:
    table = Table(
        title=f"Of the {maps} maps, ours among them, how many say destroyed",
        caption="A map that did not look, or was not sure, has no say.",
    )
    table.add_column("class")
    table.add_column("meaning")
    table.add_column("buildings", justify="right")
    for name, number in tally.items():
        table.add_row(name, _HOW_MANY[name], f"{number:,}")
    return table


def _interval(one: MapAgreement) -> str:
    value = one.agreement
    if math.isnan(value.low):
        return _figure(value.value)
    return f"{value.value:.2f} ({value.low:.2f}–{value.high:.2f})"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
