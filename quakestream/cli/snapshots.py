"""`quakestream snapshots`: published states of a map."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    s3_options,
    stderr,
    stdout,
)
from quakestream.errors import RequestError
from quakestream.outputs.snapshots import (
    Changes,
    Snapshot,
    changes,
    chosen,
    damaged_objects,
    prune,
    snapshots_of,
)
from quakestream.storage import Store, open_store

Action = Literal["list", "show", "verify", "prune"]


def snapshots(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    action: Annotated[Action, typer.Argument(help="What to do.")] = "list",
    snapshot: Annotated[
        str | None, typer.Argument(help="A snapshot, or how its name begins; else the current one.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="`show`: compare with this one, else with the one before.")
    ] = None,
    keep: Annotated[int | None, typer.Option(help="`prune`: how many of the newest stay.")] = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """List the published states of a map, show what changed, verify or prune them.

    `show` says how many verdicts changed since the state before. `verify` compares every product
    with its digest, and ends with exit code 1 if one is damaged. `prune --keep N` deletes the
    oldest ones and says why of each; the current one stays, and those that `verify` needs.

    Example: quakestream snapshots out/ show
    """
    store = open_store(out, s3_options(endpoint_url, anon))
    known = snapshots_of(store)
    match action:
        case "list":
            _list(known, as_json=as_json)
        case "show":
            _show(store, known, chosen(known, snapshot), against, as_json=as_json)
        case "verify":
            _verify(store, [chosen(known, snapshot)] if snapshot else known, as_json=as_json)
        case "prune":
            _prune(store, known, keep, as_json=as_json)


def _list(known: list[Snapshot], *, as_json: bool) -> None:
    if as_json:
        print_json({"snapshots": [one.to_json() for one in known]})
        return
    order = "" if len(known) == 1 else ", the oldest first; the map shows the last"
    stdout.print(f"{counted(len(known), 'state')}{order}")
    for one in known:
        when, numbers, expected, size = _facts(one)
        stdout.print(f"{one.id}  {when}{'  <- current' * one.current}")
        stdout.print(f"  {one.told}; {size} MB")
        stdout.print(f"  {numbers}; expected: {expected}" if expected else f"  {numbers}")


def _facts(one: Snapshot) -> tuple[str, ...]:
    counts, found = one.run.get("counts", {}), one.expected
    return (
        _when(one),
        _verdicts(counts) if one.run.get("bundle") else "no building judged",
        "" if found is None else f"{found.amount} {found.label} ({found.interval})",
        f"{one.bytes / 1e6:,.1f}",
    )


def _verdicts(counts: Mapping[str, Any]) -> str:
    """`430 of 447 assessed: 147 destroyed, 283 intact`, or why none was."""
    assessed = int(counts.get("assessed", 0))
    text = f"{assessed:,} of {counts.get('footprints', 0):,} assessed"
    told = counts.get("damage" if assessed else "reasons", {})
    parts = ", ".join(f"{n:,} {name}" for name, n in told.items())
    return f"{text}: {parts}" if parts else text


def _when(one: Snapshot) -> str:
    """`published 2023-02-10 14:05:12 UTC`, and when it was there for the first time."""
    first, again = re.match(r"(\d{8}T\d{6})Z-", one.id), one.published[:19].replace("T", " ")
    if first is None:
        return f"published {again} UTC"
    began = f"{datetime.strptime(first[1], '%Y%m%dT%H%M%S'):%Y-%m-%d %H:%M:%S}"
    return f"published {began} UTC" if began >= again else f"published {began}, again {again} UTC"


def _show(
    store: Store, known: list[Snapshot], one: Snapshot, against: str | None, *, as_json: bool
) -> None:
    before = known[: known.index(one)]
    older = chosen(known, against) if against else (before[-1] if before else None)
    found = None if older is None else changes(store, older.id, one.id)
    if as_json:
        print_json(one.to_json() | {"changes": None if found is None else found.to_json()})
        return
    when, numbers, expected, size = _facts(one)
    stdout.print(f"{one.id}{' (current)' * one.current}, {when}, {size} MB")
    stdout.print(f"  {one.told}")
    stdout.print(f"  {numbers}")
    if expected:
        stdout.print(f"  expected: {expected}")
    for sentence in one.expected.beside_it if one.expected else ():
        stdout.print(f"  {sentence}")
    stdout.print("  it is the first state" if found is None else _changes_line(found))
    for line in found.model_lines if found else ():
        stdout.print(f"  {line}")
    for a, b, n in found.verdicts if found else ():
        stdout.print(f"    {n:>9,}  {a} -> {b}")


def _changes_line(found: Changes) -> str:
    changed = sum(n for _, _, n in found.verdicts)
    return (
        f"  since {found.older}: {counted(changed, 'verdict')} changed, {found.unchanged:,} did "
        f"not; {found.added:,} buildings added, {found.removed:,} removed"
    )


def _verify(store: Store, wanted: list[Snapshot], *, as_json: bool) -> None:
    damaged = {one.id: damaged_objects(store, one) for one in wanted}
    if as_json:
        print_json({"snapshots": [{"id": k, "damaged": v} for k, v in damaged.items()]})
    else:
        for name, objects in damaged.items():
            stdout.print(f"{name}: {'damaged: ' + ', '.join(objects) if objects else 'whole'}")
    if any(damaged.values()):
        stderr.print("`quakestream map` again writes the current state anew and scores nothing")
        raise typer.Exit(EXIT_ATTENTION)


def _prune(store: Store, known: list[Snapshot], keep: int | None, *, as_json: bool) -> None:
    if keep is None:
        raise RequestError(
            "prune deletes snapshots", "--keep", "how many of the newest stay", "nothing"
        )
    found = prune(store, known, keep)
    gone = [one.snapshot for one in found if not one.kept]
    kept = len(known) - len(gone)
    if as_json:
        states = [one.to_json() for one in found]
        print_json({"deleted": [one.id for one in gone], "kept": kept, "states": states})
        return
    for one in found:
        stdout.print(f"{'kept   ' if one.kept else 'deleted'}  {one.snapshot.id}  {one.why}")
    size = sum(one.bytes for one in gone) / 1e6
    stdout.print(f"{counted(len(gone), 'state')} deleted, {size:,.1f} MB; {kept:,} kept")
