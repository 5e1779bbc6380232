"""`quakestream serve`: the HTTP service on this machine."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from quakestream.cli.signals import serves, watch_signals
from quakestream.errors import ClusterError, ConfigError, RequestError
from serving.settings import SETTINGS_VARIABLE, read_settings
from serving.tokens import Permission, new_token

STOP_S = 15.0
"""Time to stop after the last request was answered."""
EXAMPLE = """\
# Settings of the HTTP service. docs/service.md explains each key.
root: service            # jobs and their maps; a folder or URI
tokens: tokens.yaml      # `quakestream serve --new-token NAME >> tokens.yaml`
runs:                    # run files by name; a job maps an area with one of them
  event: run.yaml
# maps:                  # finished maps, shown to every token that reads
#   last-night: s3://bucket/runs/kahramanmaras
bundles: [damage-turkiye-2023]   # of /predict
limits:
  area_km2: 25
"""


def serve(
    settings: Annotated[
        str, typer.Argument(help=f"Settings, a YAML file. Left out: {SETTINGS_VARIABLE}.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    example: Annotated[bool, typer.Option("--example", help="Print example settings.")] = False,
    token: Annotated[
        str | None, typer.Option("--new-token", metavar="NAME", help="Make a token and end.")
    ] = None,
    scope: Annotated[
        list[Permission] | None,
        typer.Option(help="What the new token may do; repeat it."),
    ] = None,
    days: Annotated[int, typer.Option(help="Days that the new token is valid.")] = 90,
) -> None:
    """Serve the HTTP API on this machine: jobs that map areas, and chips to score.

    It speaks plain HTTP: put a proxy with TLS before it where others than this machine send
    requests.

    Example: quakestream serve service.yaml --port 8000
    """
    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    if token is not None:
        _new_token(token, scope or [Permission.READ, Permission.SUBMIT], days)
        return
    _serve(settings, host, port)


def _new_token(name: str, scopes: list[Permission], days: int) -> None:
    """Prints the entry on stdout, for the file, and the token on stderr, for its user.

    Raises:
        RequestError: if the token would have expired already.
    """
    if days < 1:
        raise RequestError("a token is valid for a day at least", "--days", got=str(days))
    secret, entry = new_token(name, scopes, datetime.now(UTC) + timedelta(days=days))
    typer.echo(entry, nl=False)
    typer.echo(f"token of {name}, shown this once: {secret}", err=True)


def _serve(path: str, host: str, port: int) -> None:
    if path and not Path(path).is_file():
        raise ConfigError("no settings", path, remedy="`quakestream serve --example` prints some")
    checked = read_settings(path or None)

    import ray  # a command that only prints does not wait for it

    from serving.app import DRAIN_S
    from serving.running import running

    try:
        with running(checked, host, port) as address:
            serves("the API", "; unfinished jobs go on at the next start", DRAIN_S + STOP_S)
            watch_signals()  # Ray has taken them
            typer.echo(address)
            typer.echo("Press Ctrl-C to stop; unfinished jobs go on at the next start.", err=True)
            wait()
    except ray.exceptions.RayError as error:
        raise ClusterError("the service did not start", got=str(error).splitlines()[-1]) from error


def wait() -> None:
    """Waits for Ctrl-C."""
    threading.Event().wait()
