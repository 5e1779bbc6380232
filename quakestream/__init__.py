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
    from collections.abc import Iterable

    from quakestream.config import RunFile
    from quakestream.events import Observer
    from quakestream.pipeline.planning.plan import Plan
    from quakestream.pipeline.run import Result

__all__ = ["QuakestreamError", "__version__", "map", "open_run", "plan"]

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


def open_run(path: str) -> RunFile:
    """Reads and validates a run file. No file that it names is opened.

    Raises:
        ConfigError: with every problem of the file.
    """
    from quakestream.config import open_run as read_run

    return read_run(path)


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
