"""The seam between a run and where its stages work."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.events import Observer
from quakestream.pipeline.planning.engine import EngineFacts
from quakestream.pipeline.work.prepare import PrepareStep
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec


class Backend(Protocol):
    """Where the stages of a run work. The local loop defines what is correct."""

    @property
    def name(self) -> str:
        """`local` or `ray`, for the record."""
        ...

    @property
    def observers(self) -> Sequence[Observer]:
        """Observers of every run: a cluster's own metrics, if it has some."""
        ...

    def listen(self, events: Observer) -> None:
        """Takes where the backend says what the user of the run should know."""
        ...

    def pick(self, bundle: Bundle, settings: Profile) -> EngineFacts:
        """Picks the engine of a bundle where engines will run.

        Raises:
            RequestError: the run asks for an engine that does not run there.
        """
        ...

    def begin(self, spec: WorkerSpec) -> None:
        """Starts what takes long to start and `run` will need for this spec."""
        ...

    def each(
        self, function: Callable[[PrepareStep], Any], steps: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        """Runs a function over prepare steps; yields each step with its result, in order."""
        ...

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        """Reads, scores and commits groups; yields a report for each, in any order."""
        ...
