"""`quakestream update`: what is new comes into a finished map."""

from collections.abc import Sequence

from quakestream.cli.common import (
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    s3_options,
    stdout,
)
from quakestream.cli.map import (
    Address,
    BackendName,
    MapPlace,
    MetricsPath,
    Out,
    Quiet,
    RunArgument,
    Verbose,
    end_of_map,
    report_result,
)
from quakestream.config import RunFile, open_run
from quakestream.errors import ConfigError, RequestError
from quakestream.outputs.layout import RUN_JSON, SNAPSHOTS
from quakestream.outputs.readback import current_run
from quakestream.outputs.snapshots import Changes, changes
from quakestream.pipeline.run import Result
from quakestream.redaction import redacted
from quakestream.storage import open_store


def update(
    run_file: RunArgument,
    out: Out = None,
    backend: BackendName = None,
    address: Address = None,
    metrics_file: MetricsPath = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add what is new to a finished map: scenes, a ShakeMap version, footprints.

    Only cells that the news change are read again, and the map is the one that a fresh run would
    give. Without news it is left as it is. What changed is counted at the end.

    Example: quakestream update run.yaml --out s3://bucket/runs/kahramanmaras
    """
    run = open_run(run_file, s3_options(endpoint_url, anon))
    where = MapPlace(
        out=out,
        backend=backend,
        address=address,
        metrics=metrics_file,
        quiet=quiet,
        verbose=verbose,
    )
    result, found, new = updated(run, where)
    if as_json:
        more = {
            "unchanged": result.unchanged,
            "new_not_used": list(new),
            "changes": None if found is None else found.to_json(),
        }
        print_json({"out": result.out, **more, **result.run})
    else:
        report_update(result, found, new)
    end_of_map(result)


def updated(run: RunFile, where: MapPlace) -> tuple[Result, Changes | None, tuple[str, ...]]:
    """The map with what is new, what changed, None where nothing did, and new images without use.

    Raises:
        RequestError: if there is no finished map.
    """
    target = where.out or run.out
    if target is None:
        raise ConfigError("no output is named", "out", remedy="give `out` in the run file or --out")
    store = open_store(target, run.storage_options)
    if not store.exists(RUN_JSON):
        raise RequestError("no map yet", store.uri, remedy="`quakestream map` makes the first one")
    run_before = current_run(store)
    before = run_before["snapshot"]
    result = where.map(run, only_new=True)
    known = {scene["id"] for scene in (run_before.get("inputs") or {}).get("scenes", ())}
    known |= set(run_before.get("scenes_not_used", ()))
    new = tuple(name for name in result.not_used if name not in known)
    now = result.run["snapshot"]
    if now == before or not store.exists(f"{SNAPSHOTS}{before}/{RUN_JSON}"):
        return result, None, new
    return result, changes(store, before, now), new


def report_update(result: Result, found: Changes | None, new: Sequence[str]) -> None:
    """Prints the map, and what changed in it.

    Args:
        new: new images after the event that are used for no building.
    """
    for name in new:
        stdout.print(redacted(f"{name}: new, shows no building better, not used"))
    if result.unchanged:
        stdout.print(f"nothing new: the map of {result.run['published']} stays as it is")
        return
    report_result(result, as_json=False)
    if found is None:
        stdout.print("no verdict changed")
        return
    changed = sum(number for _, _, number in found.verdicts)
    stdout.print(
        f"since {found.older}: {counted(changed, 'verdict')} changed, {found.added:,} buildings "
        f"added, {found.removed:,} removed"
    )
    for line in found.model_lines:
        stdout.print(line)
    for before, after, number in found.verdicts:
        stdout.print(f"  {number:>9,}  {before} -> {after}")
