"""`quakestream update`: what is new comes into a finished map."""

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
    result, found = updated(run, where)
    if as_json:
        more = {
            "unchanged": result.unchanged,
            "changes": None if found is None else found.to_json(),
        }
        print_json({"out": result.out, **more, **result.run})
    else:
        report_update(result, found)
    end_of_map(result)


def updated(run: RunFile, where: MapPlace) -> tuple[Result, Changes | None]:
    """The map with what is new, and what changed; None where nothing did.

    Raises:
        RequestError: if there is no finished map.
    """
    target = where.out or run.out
    if target is None:
        raise ConfigError("no output is named", "out", remedy="give `out` in the run file or --out")
    store = open_store(target, run.storage_options)
    if not store.exists(RUN_JSON):
        raise RequestError("no map yet", store.uri, remedy="`quakestream map` makes the first one")
    before = current_run(store)["snapshot"]
    result = where.map(run, only_new=True)
    now = result.run["snapshot"]
    if now == before or not store.exists(f"{SNAPSHOTS}{before}/{RUN_JSON}"):
        return result, None
    return result, changes(store, before, now)


def report_update(result: Result, found: Changes | None) -> None:
    """Prints the map, and what changed in it."""
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
