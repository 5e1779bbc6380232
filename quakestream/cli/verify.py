"""`quakestream verify`: numbers from spot checks, and the map restated by them."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    s3_options,
    stderr,
    warn_of_other_products,
    warn_of_removed,
)
from quakestream.outputs.answers import SHOWN
from quakestream.outputs.lease import held_lease
from quakestream.outputs.readback import current_run
from quakestream.outputs.units import unit_title
from quakestream.outputs.verification import BEYOND, BOUNDS, unseen_sentence
from quakestream.outputs.verify_map import publish_verified, verify_map
from quakestream.redaction import redacted
from quakestream.storage import open_store

DISTRICTS_SHOWN = 20
INTERVALS = "90 % intervals: in 9 of 10 such samples the true number lies inside."


def verify(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    answers: Annotated[
        list[str] | None,
        typer.Argument(help="Files of answers, CSV or GeoJSON; none: those that were kept."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the numbers, publish nothing.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Turn answers of spot checks into numbers with intervals, and restate the map.

    Publishes a new snapshot with corrected probabilities and verdicts, and verification.json; no
    pixel is read. The answers are kept: after the map was made anew, `quakestream verify OUT`
    applies them again. Give the files of all annotators at once. Ends with code 1 where checks
    that could not be told may carry the number out of its interval.

    Example: quakestream verify out/ answers-ayse.csv answers-ben.csv
    """
    options = s3_options(endpoint_url, anon)
    store = open_store(out, options)
    current_run(store)  # refused before anything is written
    warn_of_other_products(store)
    with held_lease(store, lambda text: stderr.print(redacted(text))) as lease:
        done = verify_map(store, answers or [])
        gone: list[str] = []
        snapshot = None if dry_run else publish_verified(store, done, lease.check, gone.extend)
    record = done.result.record
    warn_of_removed(gone, out)
    if as_json:
        print_json({"out": redacted(out), "snapshot": snapshot, **record})
    else:
        _show(record, Console(markup=False, emoji=False, highlight=False, soft_wrap=True))
        if snapshot:
            typer.echo(f"snapshot: {snapshot}; verification.json and answers.csv beside the map")
    if record["bounds"] and record["bounds"][BEYOND]:
        raise typer.Exit(EXIT_ATTENTION)


def _show(record: Mapping[str, Any], console: Console) -> None:
    console.print(_answers_line(record["answers"]))
    console.print(_totals(record))
    console.print(INTERVALS)
    for text in record["warnings"]:
        console.print(text)
    plain = record["by_design_alone"]
    if plain:
        console.print(
            f"Destroyed, by a second estimate that does not rely on the map: {_whole(plain)}. "
            "Where it is far from the first, check more buildings."
        )
    else:
        console.print("No second estimate: in a part of the sample no building has an answer.")
    _show_bounds(record["bounds"], console)
    first = next(iter(record["declared"]))
    console.print(f"How far the map's “{first}” was right, before the answers corrected it:")
    precision = _share(record["precision"], "it declares none")
    recall = _share(record["recall"], "nothing fell in the sample")
    console.print(
        f"  precision {precision}: of the buildings that it named, this part is destroyed"
    )
    console.print(f"  recall {recall}: of the destroyed buildings, it named this part")
    console.print(unseen_sentence(record))
    if len(record["districts"]) > 1:
        console.print(_districts(record["districts"]))
    _show_annotators(record["annotators"], console)
    console.print(_restated_line(record))


def _restated_line(record: Mapping[str, Any]) -> str:
    restated = record["restated"]
    told = ", ".join(f"{name} {number:,}" for name, number in restated["declared"].items())
    alike = ""
    if next(iter(restated["declared"].values())) != record["totals"]["destroyed"]["value"]:
        alike = " Buildings of equal score are declared alike, so the number differs."
    if "damaged" not in restated["declared"] and record["totals"]["damaged"]["high"]:
        alike += " The map has no “damaged”: it counts these as not destroyed."
    return f"Map corrected by the answers: {told} (threshold {restated['threshold']:.3f}).{alike}"


def _answers_line(count: Mapping[str, Any]) -> str:
    text = (
        f"{counted(count['sampled'], 'building')} in the sample: {count['answered']} answered, "
        f"{count['cannot_tell']} “cannot tell”, {count['missing']} without an answer."
    )
    for key, words in (
        ("outside_sample", "not in the sample, set aside"),
        ("gone", "not in the map any more"),
    ):
        if names := count[key]:
            more = " …" if len(names) > SHOWN else ""
            text += f" {len(names)} {words}: {', '.join(names[:SHOWN])}{more}."
    if count["saw_verdict"]:
        text += f" {counted(count['saw_verdict'], 'answer')} with the map's verdict in view."
    return text


def _totals(record: Mapping[str, Any]) -> Table:
    table = Table(title=f"{record['buildings']:,} assessed buildings")
    for name in ("", "estimate", "interval", "map declared"):
        table.add_column(name, justify="left" if not name else "right")
    for name, one in record["totals"].items():
        declared = record["declared"].get(name)
        table.add_row(
            name,
            f"{one['value']:,}",
            f"{one['low']:,} to {one['high']:,}",
            "" if declared is None else f"{declared:,}",
        )
    return table


def _districts(districts: list[dict[str, Any]]) -> Table:
    shown = sorted(districts, key=lambda d: -d["destroyed"]["value"])[:DISTRICTS_SHOWN]
    left = len(districts) - len(shown)
    table = Table(
        title="Destroyed by district",
        caption=f"verification.json lists {left:,} more" if left else None,
    )
    for name in ("district", "buildings", "checks", "destroyed", "interval", "map declared"):
        side: Any = "left" if name == "district" else "right"
        table.add_column(name, justify=side, no_wrap=name == "district")
    for one in shown:
        told = one["destroyed"]
        table.add_row(
            unit_title(one["district"], one.get("name")),
            f"{one['buildings']:,}",
            f"{one['checks']:,}",
            f"{told['value']:,}",
            f"{told['low']:,} to {told['high']:,}",
            f"{one['declared']:,}",
        )
    return table


def _show_bounds(bounds: Mapping[str, Any] | None, console: Console) -> None:
    if not bounds:
        return
    parts = [f"{_whole(bounds[text])} {text}" for text in BOUNDS.values()]
    told = counted(bounds["buildings"], "sampled building")
    console.print(f"{told} without a clear answer. Destroyed in all: {'; '.join(parts)}.")


def _show_annotators(annotators: Mapping[str, Any], console: Console) -> None:
    for one in annotators["agreement"]:
        kappa = "–" if one["kappa"] is None else f"{one['kappa']:.2f}"
        agree = "–" if one["agree"] is None else f"{100 * one['agree']:.0f} %"
        names = " and ".join(one["annotators"])
        told = counted(one["buildings"], "building")
        console.print(f"{names}: agree on {agree} of {told}, Cohen's kappa {kappa}.")
    if annotators["conflicts"]:
        many = counted(len(annotators["conflicts"]), "conflict")
        console.print(f"{many}: the answer of most counts, and a tie counts as cannot tell.")
    for name, said in list(annotators["conflicts"].items())[:SHOWN]:
        console.print(f"  {name}: {', '.join(said)}")
    left = len(annotators["conflicts"]) - SHOWN
    if left > 0:
        console.print(f"  and {left} more conflicts: all are in verification.json")


def _whole(one: Mapping[str, float]) -> str:
    return f"{one['value']:,.0f} ({one['low']:,.0f} to {one['high']:,.0f})"


def _share(one: Mapping[str, float | None], why_not: str) -> str:
    if one["value"] is None:
        return f"– ({why_not})"
    return f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
