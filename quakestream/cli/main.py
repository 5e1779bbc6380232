"""The command line: one file per command, one table of them, one place for exit codes."""

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated

import typer

from quakestream.cli.failures import exit_code, report_failure
from quakestream.cli.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, leave, watch_signals
from quakestream.errors import MissingExtraError

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
    sys.exit(_run())


def _run() -> int:
    try:
        _register()
        watch_signals()
        app()
    except KeyboardInterrupt:  # before typer runs a command
        leave(EXIT_INTERRUPTED)
    except SystemExit as end:  # every way out of typer, Ctrl-C included
        code = exit_code(end.code)
        if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            leave(code)
        return code
    except BaseException as error:  # libraries in Rust panic with an exception that is no Exception
        return report_failure(error)
    return 0


HELP = {
    "demo": "Make a synthetic earthquake, map it, and score the map against the known truth.",
    "init": "Write a commented run file.",
    "catalog": "Write a static STAC catalogue of images, and print the path of its catalog.json.",
    "plan": "Check a run: its cells, km², bytes, memory, time and cost, and what is missing.",
    "map": "Make the map: one verdict per building. Run it again and it resumes.",
    "update": "Add what is new to a finished map: scenes, a ShakeMap version, footprints.",
    "watch": "Keep a map up to date while scenes come in: `map` once, then `update` each time.",
    "tile": "Make a Zarr tile store of the scenes of a run. Run it again and it resumes.",
    "status": "Show counts and rates of a running or finished run.",
    "report": "Write report.html next to the map anew, with scores: figures and inputs, to print.",
    "export": "Write a finished map as files for other programs: GeoPackage, KMZ, PMTiles, PDF.",
    "snapshots": "List the published states of a map, show what changed, verify or prune them.",
    "view": "Serve a finished map on this machine, to this machine only.",
    "prior": "Write the landslide prior of an earthquake: the share of ground that slides.",
    "serve": "Serve the HTTP API on this machine: jobs that map areas, and chips to score.",
    "score": "Score a map against reference damage, or its landslides against known outlines.",
    "compare": "Compare a map with damage maps of others, per building and per square.",
    "adapt": "Make a bundle of this event out of 50 to 500 labels of its buildings, in minutes.",
    "suggest": "Choose the buildings to label next: uncertain ones, spread over the map.",
    "sample": "Draw buildings for spot checks, and write an answer sheet that works offline.",
    "verify": "Turn answers of spot checks into numbers with intervals, and restate the map.",
    "bundle": "List, show and verify models.",
    "engine": "Compare, time and build the runtimes of a bundle.",
}
"""The table of commands, in the order of `--help`, each with the first line of its docstring."""


def load(name: str) -> Callable[..., None] | typer.Typer | None:
    """The function of a command, or an app with commands of its own; None for another name.

    Its module, and what that needs, is imported now, so that no command pays for another.
    """
    command = _making_maps(name) or _reading_maps(name)
    return _from_outside(name) if command is None and name in HELP else command


def _making_maps(name: str) -> Callable[..., None] | typer.Typer | None:
    """Commands that make maps, and what maps are made of."""
    match name:
        case "demo":
            from quakestream.cli.demo import demo

            return demo
        case "init":
            from quakestream.cli.init import init

            return init
        case "catalog":
            from quakestream.cli.catalog import catalog

            return catalog
        case "plan":
            from quakestream.cli.plan import plan

            return plan
        case "map":
            from quakestream.cli.map import map_command

            return map_command
        case "update":
            from quakestream.cli.update import update

            return update
        case "watch":
            from quakestream.cli.watch import watch

            return watch
        case "tile":
            from quakestream.cli.tile import tile

            return tile
        case "prior":
            from quakestream.cli.prior import prior

            return prior
        case "compare":
            from quakestream.cli.compare import compare

            return compare
        case "bundle":
            from quakestream.cli.bundle import bundle_app

            return bundle_app
        case "engine":
            from quakestream.cli.engine import engine_app

            return engine_app
    return None


def _reading_maps(name: str) -> Callable[..., None] | typer.Typer | None:
    """Commands that take a finished map."""
    match name:
        case "status":
            from quakestream.cli.status import status

            return status
        case "report":
            from quakestream.cli.report import report

            return report
        case "export":
            from quakestream.cli.export import export

            return export
        case "snapshots":
            from quakestream.cli.snapshots import snapshots

            return snapshots
        case "view":
            from quakestream.cli.view import view

            return view
        case "score":
            from quakestream.cli.score import score

            return score
        case "sample":
            from quakestream.cli.sample import sample

            return sample
        case "verify":
            from quakestream.cli.verify import verify

            return verify
    return None


def _from_outside(name: str) -> Callable[..., None]:
    """A command of a package that uses this library, found by its entry point.

    Raises:
        MissingExtraError: the package or what it needs is not installed.
    """
    found = entry_points(group="quakestream.commands", name=name)
    try:
        command: Callable[..., None] = next(iter(found)).load()
    except (StopIteration, ImportError) as error:
        raise MissingExtraError(
            "needs a package that is not installed",
            f"quakestream {name}",
            got=str(error),
            remedy=f"pip install 'quakestream[{name}]'",
        ) from error
    return command


def _register() -> None:
    """Adds all commands to the app, and imports only the one that will run."""
    named = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    command = load(named)
    for name, line in HELP.items():
        if name != named or command is None:
            app.command(name, help=line)(_not_run)
        elif isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)


def _not_run() -> None:
    """Stands for a command in the list of commands."""


if __name__ == "__main__":
    main()
