"""`quakestream watch`: a map that follows its catalogue."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    S3Anon,
    S3Endpoint,
    s3_options,
    stderr,
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
    needs_attention,
    report_result,
    tell_of_map,
)
from quakestream.cli.update import report_update, updated
from quakestream.config import RunFile, open_run
from quakestream.errors import (
    ConfigError,
    NoImageryError,
    NoPairError,
    NothingReadError,
    QuakestreamError,
    RequestError,
    StorageError,
)
from quakestream.outputs.layout import RUN_JSON
from quakestream.redaction import redacted
from quakestream.storage import open_store

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LEAST_S = 1.0
"""Shortest time between two looks."""


def watch(
    run_file: RunArgument,
    out: Out = None,
    every: Annotated[str, typer.Option(help="Time between two looks: 30s, 10m, 2h, 1d.")] = "10m",
    until: Annotated[
        str | None, typer.Option(help="When to stop: a time (ISO 8601) or a duration such as 5d.")
    ] = None,
    backend: BackendName = None,
    address: Address = None,
    metrics_file: MetricsPath = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    quiet: Quiet = False,
) -> None:
    """Keep a map up to date while scenes come in: `map` once, then `update` each time.

    Each look reads the run file again. A look that fails, such as one at a catalogue that does not
    answer, is named, and the next one comes in its time. Ctrl-C ends it; what is committed stays.
    At the time of `--until` it ends with code 1 if the last look needs attention.

    Example: quakestream watch run.yaml --out s3://bucket/runs/kahramanmaras --every 10m --until 5d
    """
    pause_s = max(duration_s(every, "--every"), LEAST_S)
    end = _end(until)
    options = s3_options(endpoint_url, anon)
    run = open_run(run_file, options)
    where = MapPlace(out=out, backend=backend, address=address, metrics=metrics_file, quiet=quiet)
    if (out or run.out) is None:
        raise ConfigError("no output is named", "out", remedy="give `out` in the run file or --out")
    passing = (NothingReadError, NoPairError, StorageError)
    attention = _look(lambda: run, where, passing)  # a request that is wrong at first stays wrong
    while True:
        left_s = float("inf") if end is None else (end - datetime.now(UTC)).total_seconds()
        if left_s < pause_s:
            break
        time.sleep(pause_s)
        attention = _look(lambda: open_run(run_file, options), where, (*passing, RequestError))
    if attention:
        raise typer.Exit(EXIT_ATTENTION)


def _look(
    read: Callable[[], RunFile], where: MapPlace, passing: tuple[type[QuakestreamError], ...]
) -> bool:
    """Makes the map, or brings it up to date, and says what became of it.

    Returns True if the map needs attention, or could not be made.

    Args:
        read: reads the run file.
        passing: errors that the next look may not meet any more.
    """
    stdout.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", style="bold")
    try:
        run = read()
        if not open_store(str(where.out or run.out), run.storage_options).exists(RUN_JSON):
            result = where.map(run)
            report_result(result, as_json=False)
        else:
            result, found, new = updated(run, where)
            report_update(result, found, new)
    except NoImageryError:
        stdout.print("no image after the event yet")
        return False
    except passing as error:
        stderr.print(redacted(f"error: {error}"), style="red")
        return True
    tell_of_map(result)
    return needs_attention(result)


def duration_s(text: str, where: str) -> float:
    """Seconds of `90s`, `10m`, `2h` or `5d`.

    Raises:
        RequestError: if it is no duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) <= 0:
        raise RequestError("not a duration", where, "30s, 10m, 2h or 1d", text)
    return float(found[1]) * _UNITS_S[found[2]]


def _end(until: str | None) -> datetime | None:
    if until is None:
        return None
    if re.fullmatch(r"[\d.]+[smhd]", until.strip()):
        return datetime.now(UTC) + timedelta(seconds=duration_s(until, "--until"))
    try:
        end = datetime.fromisoformat(until)
    except ValueError as error:
        raise RequestError(
            "neither a time nor a duration", "--until", "2026-03-19T00:00Z, 12h or 5d", until
        ) from error
    return end if end.tzinfo else end.replace(tzinfo=UTC)
