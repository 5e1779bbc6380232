"""`quakestream snapshots`: published states of a map."""

from typing import Annotated, Literal

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
    oldest ones; the current one stays, and so does the one that spot checks were drawn from.

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
    for one in known:
        published, assessed, declared, expected, size = _facts(one)
        stdout.print(f"{one.id}  {published} UTC{'  (current)' * one.current}")
        numbers = f"  {assessed} assessed: {declared}"
        stdout.print(f"{numbers}; expected: {expected}; {size} MB" if expected else numbers)


def _facts(one: Snapshot) -> tuple[str, ...]:
    counts, found = one.run.get("counts", {}), one.expected
    declared = ", ".join(f"{n:,} {label}" for label, n in counts.get("damage", {}).items())
    return (
        str(one.run.get("published", ""))[:16].replace("T", " "),
        f"{counts.get('assessed', 0):,} of {counts.get('footprints', 0):,}",
        declared,
        "" if found is None else f"{found.amount} {found.label} ({found.interval})",
        f"{one.bytes / 1e6:,.1f}",
    )


def _show(
    store: Store, known: list[Snapshot], one: Snapshot, against: str | None, *, as_json: bool
) -> None:
    before = known[: known.index(one)]
    older = chosen(known, against) if against else (before[-1] if before else None)
    found = None if older is None else changes(store, older.id, one.id)
    if as_json:
        print_json(one.to_json() | {"changes": None if found is None else found.to_json()})
        return
    published, assessed, declared, expected, size = _facts(one)
    stdout.print(f"{one.id}{' (current)' * one.current}, published {published} UTC, {size} MB")
    stdout.print(f"  {assessed} buildings assessed: {declared}")
    if expected:
        stdout.print(f"  expected: {expected}")
    stdout.print("  it is the first state" if found is None else _changes_line(found))
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
    gone = prune(store, known, keep)
    if as_json:
        print_json({"deleted": [one.id for one in gone], "kept": len(known) - len(gone)})
    else:
        size = sum(one.bytes for one in gone) / 1e6
        kept = f"{len(known) - len(gone):,} kept"
        stdout.print(f"{counted(len(gone), 'snapshot')} deleted, {size:,.1f} MB; {kept}")
