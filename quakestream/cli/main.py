"""The command line: one file per command, one table of them, one place for exit codes."""

import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated

import typer

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
        from quakestream import __version__  # reads the metadata of the installation

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
    # rasterio's warning, by its text: scenes without a georeference are quarantined, and naming
    # the class would import rasterio for every command.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
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


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table of commands."""

    target: str
    """`module:name` of a function, or of an app with commands of its own."""
    help: str
    """First line of its docstring, for the list of commands."""

    def load(self) -> Callable[..., None] | typer.Typer:
        """The function or app; its module, and what that needs, is imported now."""
        module, _, name = self.target.partition(":")
        target: Callable[..., None] | typer.Typer = getattr(import_module(module), name)
        return target


_CLI = "quakestream.cli"
COMMANDS = {
    "demo": Command(
        f"{_CLI}.demo:demo",
        "Make a synthetic earthquake, map it, and score the map against the known truth.",
    ),
    "init": Command(f"{_CLI}.init:init", "Write a commented run file."),
    "catalog": Command(
        f"{_CLI}.catalog:catalog",
        "Write a static STAC catalogue of images, and print the path of its catalog.json.",
    ),
    "plan": Command(
        f"{_CLI}.plan:plan",
        "Check a run and show its cells, km², bytes, memory, time and cost, and what is missing.",
    ),
    "map": Command(
        f"{_CLI}.map:map_command",
        "Make the map: one verdict per building. Run it again and it resumes.",
    ),
    "tile": Command(
        f"{_CLI}.tile:tile",
        "Make a Zarr tile store of the scenes of a run. Run it again and it resumes.",
    ),
    "status": Command(
        f"{_CLI}.status:status", "Show counts and rates of a running or finished run."
    ),
    "report": Command(
        f"{_CLI}.report:report",
        "Write report.html next to the map: counts, uncertainty and inputs, on printable pages.",
    ),
    "view": Command(
        f"{_CLI}.view:view", "Serve a finished map on this machine, to this machine only."
    ),
    "score": Command(f"{_CLI}.score:score", "Score a map against reference damage."),
    "bundle": Command(f"{_CLI}.bundle:bundle_app", "List, show and verify models."),
    "engine": Command(
        f"{_CLI}.engine:engine_app", "Compare, time and build the runtimes of a bundle."
    ),
}
"""The table of commands, in the order of `--help`."""


def _register() -> None:
    """Adds all commands to the app, and imports only the one that will run."""
    named = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    for name, row in COMMANDS.items():
        command = row.load() if name == named else _not_run
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif command is _not_run:
            app.command(name, help=row.help)(command)
        else:
            app.command(name)(command)


def _not_run() -> None:
    """Stands for a command in the list of commands."""


def _terminate(signum: int, frame: object) -> None:
    """SIGTERM unwinds like an exit, so that workers are stopped and files are closed."""
    raise SystemExit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
