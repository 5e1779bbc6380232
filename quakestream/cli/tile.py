"""`quakestream tile`: the Zarr tile store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    print_json,
    progress_observer,
    s3_options,
    stdout,
)
from quakestream.cli.map import Quiet, RunArgument, Verbose
from quakestream.config import open_run
from quakestream.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from quakestream.pipeline.tile import TileReport


def tile(
    run_file: RunArgument,
    store: Annotated[
        str | None,
        typer.Option(help="Where the tiles are written; left out: imagery.store of the run file."),
    ] = None,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="References into the scenes; no pixel is copied.")
    ] = False,
    or_stored: Annotated[
        bool, typer.Option("--or-stored", help="Write tiles of scenes that cannot be virtual.")
    ] = False,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make tiles again that exist already.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a Zarr tile store of the scenes of a run. Run it again and it resumes.

    `map` reads from it once the run file says `imagery: {store: URI}`.

    Example: quakestream tile run.yaml --store s3://bucket/tiles.zarr --virtual
    """
    from quakestream.pipeline.tile import TileSettings, report_json, tile_run

    run = open_run(run_file, s3_options(endpoint_url, anon))
    target = store or run.imagery.store
    if target is None:
        raise ConfigError(
            "no tile store", run.source, remedy="give --store URI, or imagery.store in the run file"
        )
    with (
        _scheduler(address) as (scheduler, check_workers),
        progress_observer(quiet=quiet, verbose=verbose) as observers,
    ):
        settings = TileSettings(
            virtual=virtual,
            or_stored=or_stored,
            fresh=fresh,
            scheduler=scheduler,
            check_workers=check_workers,
        )
        report = tile_run(run, target, settings, observers)
    if as_json:
        print_json(report_json(report))
    else:
        _show(report)
    if report.issues:
        raise typer.Exit(EXIT_ATTENTION)


@contextmanager
def _scheduler(address: str | None) -> Iterator[tuple[Any, Any]]:
    """Dask-on-Ray when an address is given or RAY_ADDRESS is set, else this machine's threads.

    Yields:
        The scheduler, and what checks its workers.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        yield "threads", None
        return
    try:
        from quakestream.pipeline.backends.dask_ray import check_nodes, dask_on_ray
    except ImportError as error:
        raise MissingExtraError(
            "Dask on Ray is not installed",
            "--address",
            got=str(error),
            remedy="pip install 'quakestream[ray,tiles]'",
        ) from error
    with dask_on_ray(address, lambda text: typer.echo(f"note: {text}", err=True)) as get:
        yield get, check_nodes


def _show(report: "TileReport") -> None:
    for scene in report.scenes:
        kind = scene.kind or ""
        grids = " ".join(scene.grids)
        exact = "" if scene.exact or not scene.kind else "  (not bit for bit)"
        line = f"  {scene.status:<8}{kind:<8} {scene.scene}  {grids}{exact}"
        stdout.print(line)
        if scene.reason:
            stdout.print(f"           {scene.reason}", style="dim")
    stdout.print(f"tiles: {report.store}; set imagery.store to it to read them")
