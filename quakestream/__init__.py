"""Damage mapping after earthquakes: from satellite scenes to one verdict per building.

    import quakestream as qs
    run = qs.open_run("run.yaml")          # validated, nothing read
    plan = qs.plan(run)                    # plan.cells, plan.km2, plan.problems
    result = qs.map(run, backend="local")  # result.buildings -> GeoDataFrame

Heavy modules are imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quakestream.errors import QuakestreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike
    from typing import Any

    from quakestream.config import RunFile
    from quakestream.events import Observer
    from quakestream.outputs.progress import Status
    from quakestream.outputs.scores import Score
    from quakestream.outputs.slide_scores import SlideScore
    from quakestream.pipeline.planning.plan import Plan
    from quakestream.pipeline.run import Result
    from quakestream.storage import Store

    Storage = Mapping[str, Mapping[str, Any]]

__all__ = [
    "QuakestreamError",
    "__version__",
    "map",
    "open_run",
    "plan",
    "report",
    "score",
    "status",
]

__version__: str
"""The installed version, or `0+unknown` in a checkout that was never installed."""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("quakestream")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)


def open_run(run: str | PathLike[str] | Mapping[str, Any]) -> RunFile:
    """Reads and validates a run file. No file that it names is opened.

    Args:
        run: path or URI of the file, or its content as a dictionary, whose paths are relative to
            the current folder.

    Raises:
        ConfigError: with every problem of the file.
    """
    from quakestream.config import open_run as read_run

    return read_run(run)


def plan(run: RunFile) -> Plan:
    """Checks all inputs of a run and plans it; no pixel is read.

    Raises:
        RequestError: if the request is wrong.
    """
    from quakestream.pipeline.planning.plan import make_plan

    return make_plan(run)


def map(
    run: RunFile,
    *,
    backend: str = "local",
    address: str | None = None,
    out: str | None = None,
    fresh: bool = False,
    observers: Iterable[Observer] = (),
) -> Result:
    """Makes the map: one verdict per building. On the same `out` again, it resumes.

    Args:
        run: from `open_run`.
        backend: `local` or `ray`.
        address: address of a Ray cluster; None: one is started on this machine.
        out: path or URI; the run file's `out` if None.
        fresh: discard what earlier runs committed.
        observers: called with each event (`quakestream.events`).

    Raises:
        RequestError: if the request is wrong; nothing was started.
        StorageError: if `out` cannot be written; committed work stays.
    """
    from quakestream.pipeline.backends import open_backend
    from quakestream.pipeline.run import map_run

    with open_backend(run, backend, address) as opened:
        return map_run(run, backend=opened, out=out, fresh=fresh, observers=observers)


def score(
    out: str | PathLike[str],
    truth: str | PathLike[str],
    *,
    layer: str | None = None,
    label_column: str | None = None,
    positive_file: str | None = None,
    distance_m: float = 5.0,
    landslides: bool = False,
    storage: Storage | None = None,
) -> Score | SlideScore:
    """Compares the verdicts of a finished map with a reference, or its landslides with outlines.

    Args:
        out: path or URI of the map.
        truth: path or URI of the reference.
        layer: layer of `truth` to read, where it holds several.
        label_column: column of the reference that holds the damage; found if None.
        positive_file: polygons of severe damage; `truth` then gives harmless buildings only.
        distance_m: largest distance of a point to its footprint.
        landslides: compare landslides with the outlines in `truth`; maps without damage do so in
            any case.
        storage: endpoints, as under `storage:` of a run file.

    Raises:
        RequestError: if there is no finished map, or the reference cannot be used.
    """
    from quakestream.outputs.scores import ScoreOptions
    from quakestream.outputs.slide_scores import score_map
    from quakestream.outputs.truth import TruthRequest

    request = TruthRequest(uri=_text(truth), layer=layer, column=label_column)
    options = ScoreOptions(distance_m=distance_m)
    polygons = TruthRequest(uri=positive_file) if positive_file else None
    store = _store(out, storage)
    return score_map(store, request, options, polygons, landslides=landslides)


def status(out: str | PathLike[str], *, storage: Storage | None = None) -> Status:
    """Progress of a running run, or counts of a finished one, read from its output alone.

    Raises:
        RequestError: if there is no run.
    """
    from quakestream.outputs.progress import read_status

    return read_status(_store(out, storage))


def report(out: str | PathLike[str], *, storage: Storage | None = None) -> str:
    """Writes report.html next to a finished map, and returns its path or URI.

    Raises:
        RequestError: if there is no finished map.
        StorageError: if `out` cannot be written.
    """
    from quakestream.outputs.report import report_html

    store = _store(out, storage)
    store.put("report.html", report_html(store))
    return store.uri_of("report.html")


def _store(out: str | PathLike[str], storage: Storage | None) -> Store:
    from quakestream.storage import StorageOptions, open_store

    return open_store(_text(out), StorageOptions(protocols=storage or {}))


def _text(place: str | PathLike[str]) -> str:
    from os import fspath

    return fspath(place)
