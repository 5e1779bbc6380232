"""The command line: one file per command, one table of them, one place for exit codes."""

import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer
from rasterio.errors import NotGeoreferencedWarning

from quakestream import __version__
from quakestream.cli.failures import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    exit_code,
    report_failure,
    report_interruption,
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


def main() -> None:
    """Runs a command.

    Exit codes: 0 done, 1 needs attention, 2 wrong request, 3 failed, 130 or 143 interrupted.
    """
    # Scenes without a georeference are quarantined; GDAL's warning would say it twice.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run())


def _run() -> int:
    try:
        _register()
        app()
    except KeyboardInterrupt:  # before typer runs a command
        return report_interruption(EXIT_INTERRUPTED)
    except SystemExit as end:  # every way out of typer, Ctrl-C included
        code = exit_code(end.code)
        stopped = code in (EXIT_INTERRUPTED, EXIT_TERMINATED)
        return report_interruption(code) if stopped else code
    except Exception as error:
        return report_failure(error)
    return 0


def commands() -> dict[str, Callable[..., None] | typer.Typer]:
    """The table of commands. A command is a function or an app in a file of its own.

    Modules are imported here, so that `--version` needs none of them.
    """
    from quakestream.cli import (
        bundle,
        catalog,
        demo,
        engine,
        init,
        map,
        plan,
        report,
        score,
        status,
        tile,
        view,
    )

    return {
        "demo": demo.demo,
        "init": init.init,
        "catalog": catalog.catalog,
        "plan": plan.plan,
        "map": map.map_command,
        "tile": tile.tile,
        "status": status.status,
        "report": report.report,
        "view": view.view,
        "score": score.score,
        "bundle": bundle.bundle_app,
        "engine": engine.engine_app,
    }


def _register() -> None:
    for name, command in commands().items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)


def _terminate(signum: int, frame: object) -> None:
    """SIGTERM unwinds like an exit, so that workers are stopped and files are closed."""
    raise SystemExit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
