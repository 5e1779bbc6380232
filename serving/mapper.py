"""Runs one job: the area of a request, mapped with one of the run files that are offered."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from quakestream.config import RunFile, open_run
from quakestream.errors import InUseError, QuakestreamError, RequestError
from quakestream.events import Event
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import map_run
from quakestream.redaction import redacted, without_credentials
from quakestream.storage import Store
from serving.jobs import Outcome, ServiceJob, is_dismissed

OTHER_S = 120.0
"""Longest wait for a process that is being replaced and still runs the job."""
LOOK_EVERY_S = 1.0
"""Time between two looks for a dismissal."""


class DismissedError(Exception):
    """The job was dismissed while it ran."""


class Mapper:
    """Maps areas one after the other in this process, and keeps its engines open.

    Args:
        runs: run files by name.
        store: the service's root.
    """

    def __init__(self, runs: Mapping[str, str], store: Store) -> None:
        self._runs, self._store = runs, store
        self._backend = LocalBackend()

    def run(self, job: ServiceJob) -> Outcome:
        """Runs a job to its end. A wrong request is an outcome, never an exception.

        A job that was started again may still run in a process that is being replaced. That one
        ends first; what it committed is kept.
        """
        until = time.monotonic() + OTHER_S
        while True:
            try:
                return self._run(job)
            except InUseError as error:
                if time.monotonic() > until:
                    return _failed(error)
            time.sleep(LOOK_EVERY_S)

    def _run(self, job: ServiceJob) -> Outcome:
        if is_dismissed(self._store, job.id):
            return Outcome(state="dismissed")
        try:
            result = map_run(
                request_run(self._runs, job.request),
                backend=self._backend,
                out=self._store.uri_of(job.out),
                observers=[_watch(lambda: is_dismissed(self._store, job.id))],
            )
        except DismissedError:
            return Outcome(state="dismissed")
        except InUseError:
            raise
        except QuakestreamError as error:
            return _failed(error)
        except Exception as error:  # a job must not end the process that runs the others
            what = f"unexpected {type(error).__name__}"
            return Outcome(state="failed", message=what, problem={"what": what})
        counts: dict[str, Any] = result.run["counts"]
        return Outcome(
            state="successful",
            message=f"{counts['assessed']} of {counts['footprints']} buildings assessed",
        )


def request_run(runs: Mapping[str, str], request: Mapping[str, Any]) -> RunFile:
    """The run file of a request: the one it names, with its AOI and profile.

    Raises:
        RequestError: there is no such run, or the area is wrong.
    """
    name = request["run"]
    if name not in runs:
        raise RequestError("no such run", "run", expected=", ".join(sorted(runs)), got=str(name))
    content = {"aoi": request["aoi_wkt"]}
    if request.get("profile"):
        content["profile"] = request["profile"]
    return with_changes(open_run(runs[name]), content)


def with_changes(run: RunFile, changed: Mapping[str, Any]) -> RunFile:
    """A run with some keys replaced; `out` is left to the caller.

    A key that is null stays so: `models.damage: null` is not the default model.
    """
    content = run.model_dump(mode="json", exclude_unset=True)
    return open_run({**content, **changed, "out": None})


def _watch(dismissed: Callable[[], bool]) -> Callable[[Event], None]:
    """An observer that ends the run once its job is dismissed. Events come after commits."""
    looked = [float("-inf")]

    def watch(event: Event) -> None:
        now = time.monotonic()
        if now - looked[0] < LOOK_EVERY_S:
            return
        looked[0] = now
        if dismissed():
            raise DismissedError

    return watch


def _failed(error: QuakestreamError) -> Outcome:
    message = without_credentials(str(error.problem))
    return Outcome(state="failed", message=message, problem=_fields(error))


def _fields(error: QuakestreamError) -> dict[str, str]:
    problem = error.problem
    fields = {
        "what": problem.what,
        "where": problem.where,
        "expected": problem.expected,
        "got": problem.got,
        "remedy": problem.remedy,
    }
    return {name: redacted(text) for name, text in fields.items() if text}
