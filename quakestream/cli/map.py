"""`quakestream map`: the main job."""

from typing import Annotated, Any

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    progress_observer,
    s3_options,
    stdout,
)
from quakestream.config import open_run
from quakestream.pipeline.backends import open_backend
from quakestream.pipeline.run import Result, map_run

RunArgument = Annotated[str, typer.Argument(help="The run file, a path or URI.")]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also list quarantined inputs.")]


def map_command(
    run_file: RunArgument,
    out: Annotated[
        str | None, typer.Option(help="Where the map is written, a path or URI.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="local or ray.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard what earlier runs committed.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the map: one verdict per building. Run it again and it resumes.

    Example: quakestream map run.yaml --out s3://bucket/runs/kahramanmaras --backend ray
    """
    run = open_run(run_file, s3_options(endpoint_url, anon))
    with (
        open_backend(run, backend, address) as opened,
        progress_observer(quiet=quiet, verbose=verbose) as observers,
    ):
        result = map_run(run, backend=opened, out=out, fresh=fresh, observers=observers)
    report_result(result, as_json=as_json)
    if result.issues:
        raise typer.Exit(EXIT_ATTENTION)


def report_result(result: Result, *, as_json: bool) -> None:
    """Prints counts and the path of the map."""
    if as_json:
        print_json({"out": result.out, **result.run})
        return
    counts: dict[str, Any] = result.run["counts"]
    stdout.print(
        f"{counted(counts['footprints'], 'footprint')}: {counts['assessed']:,} assessed, "
        f"{counts['not_assessed']:,} not assessed"
    )
    for label, number in counts["damage"].items():
        stdout.print(f"  {label:<20}{number:>9,}")
    for reason, number in counts["reasons"].items():
        stdout.print(f"  not assessed: {reason:<20}{number:>9,}", style="dim")
    if result.issues:
        number = len(result.issues)
        needs = f"{counted(number, 'input')} {'needs' if number == 1 else 'need'} attention"
        stdout.print(f"{needs}: see quarantine.parquet")
    stdout.print(f"map: {result.out.rstrip('/')}/index.html")
