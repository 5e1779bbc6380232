"""Jobs of the service: their records, and the queue that runs them.

A record is one object in the store, so that a queue which starts again goes on where the last one
ended. The map of a job resumes too: a job that is run again repeats only what was not committed.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from quakestream.errors import RequestError
from quakestream.outputs.progress import read_status
from quakestream.storage import MissingObjectError, Store, open_store

State = Literal["accepted", "running", "successful", "failed", "dismissed"]
"""The states of OGC API – Processes."""
OPEN: tuple[State, ...] = ("accepted", "running")
JOBS = "jobs/"
RUNS = "runs/"
ATTEMPTS = 3
"""How often a job is started whose mapper dies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceJob:
    """One job, as it is stored and shown."""

    id: str
    owner: str
    """Name of the token that submitted it."""
    process: str
    request: dict[str, Any]
    """Inputs and wanted outputs, as they were checked."""
    created: datetime
    state: State = "accepted"
    message: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    updated: datetime | None = None
    attempts: int = 0
    problem: dict[str, str] = field(default_factory=dict)
    """Fields of the error of a failed job."""
    key: str = ""
    """The client's name of the request: the same one again gives the same job."""

    @property
    def out(self) -> str:
        """Where its map lies below the service's root."""
        return f"{RUNS}{self.id}"

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), default=datetime.isoformat).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ServiceJob":
        content: dict[str, Any] = json.loads(data)
        for name in ("created", "started", "finished", "updated"):
            if content.get(name):
                content[name] = datetime.fromisoformat(content[name])
        return cls(**content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a mapper ended a job."""

    state: State
    message: str = ""
    problem: dict[str, str] = field(default_factory=dict)


class FullError(RequestError):
    """A limit of the queue is reached; the request is right and may be sent again later."""


RunJob = Callable[[ServiceJob], Awaitable[Outcome]]
Died = tuple[type[BaseException], ...]


class JobQueue:
    """The jobs of a service. One process holds it; all calls are made on its event loop.

    Args:
        store: the service's root.
        run: runs one job; it raises one of `died` where its process was lost.
        workers: jobs that run at the same time.
        waiting: jobs that may wait.
        per_token: unfinished jobs of one token.
        died: exceptions after which a job is started again.
    """

    def __init__(
        self,
        store: Store,
        run: RunJob,
        *,
        workers: int = 1,
        waiting: int = 50,
        per_token: int = 4,
        died: Died = (),
    ) -> None:
        self._store, self._run, self._died = store, run, died
        self._workers, self._waiting, self._per_token = workers, waiting, per_token
        self._jobs: dict[str, ServiceJob] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads the jobs of earlier processes and starts those that are not finished."""
        for job in await asyncio.to_thread(_stored, self._store):
            self._jobs[job.id] = job
        for job in sorted(self._jobs.values(), key=lambda j: j.created):
            if job.state in OPEN:
                self._queue.put_nowait(job.id)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]

    async def stop(self) -> None:
        """Stops the workers. Unfinished jobs stay stored, and the next queue goes on with them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def submit(
        self, *, owner: str, process: str, request: dict[str, Any], key: str = ""
    ) -> ServiceJob:
        """Stores a new job and queues it. The same key of the same token gives the same job.

        Raises:
            FullError: a limit is reached.
            RequestError: the key was used for another request.
        """
        if key and (known := self._with_key(owner, key)):
            if known.request != request:
                raise RequestError("was used for another request", "Idempotency-Key", got=key)
            return known
        mine = [j for j in self._jobs.values() if j.owner == owner and j.state in OPEN]
        if len(mine) >= self._per_token:
            raise FullError(
                "too many unfinished jobs",
                owner,
                expected=f"at most {self._per_token}",
                remedy="wait for one, or dismiss one",
            )
        if self._queue.qsize() >= self._waiting:
            raise FullError("the queue is full", "jobs", expected=f"at most {self._waiting}")
        now = datetime.now(UTC)
        job = ServiceJob(
            id=uuid.uuid4().hex,
            owner=owner,
            process=process,
            request=request,
            created=now,
            updated=now,
            message="waits for its turn",
            key=key,
        )
        self._jobs[job.id] = job
        try:
            await self._keep(job)
        except BaseException:
            del self._jobs[job.id]
            raise
        self._queue.put_nowait(job.id)
        return job

    def get(self, job_id: str) -> ServiceJob | None:
        return self._jobs.get(job_id)

    def all(self) -> list[ServiceJob]:
        """All jobs, newest first."""
        return sorted(self._jobs.values(), key=lambda j: j.created, reverse=True)

    async def dismiss(self, job_id: str) -> ServiceJob:
        """Ends a job, or removes what a finished one made.

        A running job ends at its next event, such as a commit; what it committed is removed. A
        job that is publishing its map ends first and is removed then.
        """
        job = self._jobs[job_id]
        was_running = job.state == "running"
        job = await self._change(
            job_id,
            state="dismissed",
            message="dismissed",
            finished=job.finished or datetime.now(UTC),
        )
        await asyncio.to_thread(self._store.put, _flag(job_id), b"")
        if not was_running:
            await asyncio.to_thread(_remove_map, self._store, job)
        return job

    async def _work(self) -> None:
        while True:
            job_id = await self._queue.get()
            if self._jobs[job_id].state in OPEN:
                with suppress(KeyError):
                    await self._do(job_id)

    async def _do(self, job_id: str) -> None:
        outcome: Outcome | None = None
        while outcome is None:
            attempts = self._jobs[job_id].attempts + 1
            job = await self._change(
                job_id,
                state="running",
                message="running" if attempts == 1 else f"running, attempt {attempts}",
                attempts=attempts,
                started=self._jobs[job_id].started or datetime.now(UTC),
            )
            try:
                outcome = await self._run(job)
            except self._died as error:
                if attempts >= ATTEMPTS:
                    outcome = _lost(error, attempts)
        if self._jobs[job_id].state == "dismissed":
            await asyncio.to_thread(_remove_map, self._store, job)
            return
        await self._change(
            job_id,
            state=outcome.state,
            message=outcome.message,
            problem=outcome.problem,
            finished=datetime.now(UTC),
        )

    async def _change(self, job_id: str, **changed: Any) -> ServiceJob:
        if self._jobs[job_id].state == "dismissed":
            return self._jobs[job_id]
        job = replace(self._jobs[job_id], **changed, updated=datetime.now(UTC))
        self._jobs[job_id] = job
        await self._keep(job)
        return job

    async def _keep(self, job: ServiceJob) -> None:
        await asyncio.to_thread(self._store.put, f"{JOBS}{job.id}/job.json", job.to_json())

    def _with_key(self, owner: str, key: str) -> ServiceJob | None:
        same = (j for j in self._jobs.values() if j.owner == owner and j.key == key)
        return next((j for j in same if j.state not in ("failed", "dismissed")), None)


def is_dismissed(store: Store, job_id: str) -> bool:
    """True if the job was dismissed; for the process that runs it."""
    return store.exists(_flag(job_id))


def progress_of(store: Store, job: ServiceJob) -> int | None:
    """Progress of a job, percent; None where nothing is known yet."""
    if job.state == "successful":
        return 100
    if job.state != "running":
        return None
    try:
        status = read_status(open_store(store.uri_of(job.out), store.options))
    except RequestError:
        return 0
    return round(99 * status.cells_done / status.cells_total) if status.cells_total else 0


def _stored(store: Store) -> list[ServiceJob]:
    jobs = []
    for key in store.list(JOBS):
        if key.endswith("/job.json"):
            with suppress(MissingObjectError, ValueError, TypeError):
                jobs.append(ServiceJob.from_json(store.get(key)))
    return jobs


def _flag(job_id: str) -> str:
    return f"{JOBS}{job_id}/dismissed"


def _lost(error: BaseException, attempts: int) -> Outcome:
    what = f"the process that ran it was lost {attempts} times"
    return Outcome(state="failed", message=what, problem={"what": what, "got": str(error)})


def _remove_map(store: Store, job: ServiceJob) -> None:
    for key in store.list(f"{job.out}/"):
        store.delete(key)
