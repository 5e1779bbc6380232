"""The local loop: the reference for what a run gives. Reads ahead while it scores."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.pipeline.backends.joined import Joined
from quakestream.pipeline.picking import Picked, pick_engine
from quakestream.pipeline.prepare import Job
from quakestream.pipeline.stages import BatchReport
from quakestream.pipeline.tasks import BatchTask, WorkerSpec


class LocalBackend:
    """One process: `readers` threads read, one engine scores, cell after cell."""

    name = "local"

    def __init__(self, *, readers: int = 2) -> None:
        self._readers = readers

    def stream(self, spec: WorkerSpec) -> str:
        """Pixels stay where they are read."""
        return "local"

    def pick(self, bundle: Bundle, settings: Profile) -> Picked:
        """Of what is here."""
        return pick_engine(bundle, settings)

    def begin(self, spec: WorkerSpec) -> None:
        """Nothing: an engine of this process is opened in a moment."""

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs side by side; results in order."""
        with ThreadPoolExecutor(self._readers) as pool:
            yield from zip(jobs, pool.map(function, jobs), strict=True)

    def batches(self, spec: WorkerSpec, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Reads, scores and commits batches, several at a time; reports in order."""
        with Joined(spec, readers=self._readers) as joined:
            yield from joined.reports(tasks)
