"""The command line: one file per command, one place for exit codes."""

import sys
import warnings
from typing import Annotated

import typer
from rasterio.errors import NotGeoreferencedWarning

from quakestream import __version__
from quakestream.cli.common import EXIT_FAILED, EXIT_REQUEST, console_error
from quakestream.errors import (
    ClusterError,
    MissingExtraError,
    QuakestreamError,
    RequestError,
    StorageError,
)

app = typer.Typer(
    name="quakestream",
    help="Damage mapping after earthquakes: from satellite scenes to one verdict per building.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Damage mapping after earthquakes: from satellite scenes to one verdict per building."""


def _register() -> None:
    from quakestream.cli.bundle import bundle_app
    from quakestream.cli.catalog import catalog
    from quakestream.cli.demo import demo
    from quakestream.cli.engine import engine_app
    from quakestream.cli.init import init
    from quakestream.cli.map import map_command
    from quakestream.cli.plan import plan
    from quakestream.cli.report import report
    from quakestream.cli.score import score
    from quakestream.cli.status import status
    from quakestream.cli.tile import tile
    from quakestream.cli.view import view

    app.command("demo")(demo)
    app.command("init")(init)
    app.command("catalog")(catalog)
    app.command("plan")(plan)
    app.command("map")(map_command)
    app.command("tile")(tile)
    app.command("status")(status)
    app.command("report")(report)
    app.command("view")(view)
    app.command("score")(score)
    app.add_typer(bundle_app, name="bundle")
    app.add_typer(engine_app, name="engine")


def main() -> None:
    """Runs a command; 0 done, 1 needs attention, 2 wrong request, 3 failed."""
    _register()
    # What is wrong with a scene stands in the quarantine; GDAL's bindings need not say it too.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    try:
        app()
    except RequestError as error:
        console_error(str(error))
        sys.exit(EXIT_REQUEST)
    except (ClusterError, MissingExtraError, StorageError) as error:
        console_error(str(error))
        sys.exit(EXIT_FAILED)
    except QuakestreamError as error:
        console_error(f"{type(error).__name__}: {error}")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        console_error("interrupted; what was committed is kept, run the same command to resume")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
