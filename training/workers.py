"""The loop on Ray Train: workers on a cluster or on this machine, each with its share.

    driver ── TorchTrainer ── worker 0 … n: run(...) ── batches by thread, or through Ray Data
      └── echoes log.jsonl        └── report(records, state) ── controller ── log.jsonl

A worker that dies takes the group down; a new group goes on from the last state reported.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train
import ray.train.torch

from quakestream.errors import QuakestreamError, RequestError
from training.checkpoints import Checkpoint, as_checkpoint, read_plain, start_from, write_plain
from training.config import TrainConfig, from_json, to_json
from training.crew import Crew
from training.journal import Record
from training.keeping import STATE, Keeper, State
from training.lessons import Lesson, open_lesson
from training.listener import Listener
from training.loop import by_thread, run
from training.streams import by_ray_data

_api: Any = ray.train
"""Its signatures name version 1 while version 2 runs."""

OpenLesson = Callable[[TrainConfig], Lesson]

OBJECT_STORE_BYTES = 200_000_000
_RUN = "run"
_ATTEMPTS = 3
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
_ECHO_S = 0.5
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a report waits until it is polled
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths in a configuration are seen from here
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_LOCAL_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ layer calls things errors that are none
    "RAY_worker_niceness": "0",  # Ray's 15 starves workers on a machine that does anything else
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""For a cluster that is this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where a run's workers are, and how it outlives them."""

    workers: int | tuple[int, int] = 1
    """How many; fewest and most for a run that takes what there is."""
    address: str | None = None
    """Of a running cluster; without one, `RAY_ADDRESS`, else one is started here."""
    storage: str = ""
    """URI or folder for states that all workers reach; empty: a folder in the run's own."""
    max_failures: int = 3
    """Times that workers may die."""

    @property
    def most(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[1]


def train_on_ray(
    config: TrainConfig,
    folder: Path,
    cluster: Cluster,
    *,
    opened: OpenLesson = open_lesson,
    echo: Callable[[str], None] | None = None,
) -> Checkpoint:
    """Trains on Ray Train, going on from the last state in the storage if there is one.

    Args:
        config: of the run; `config.workers` should be the most workers there may be.
        folder: takes `log.jsonl` and figures for TensorBoard.
        cluster: where to.
        opened: opens the lesson on a worker.
        echo: takes lines of the log as they come.

    Raises:
        RequestError: if the data or the weights to start from are not what they should be.
        QuakestreamError: if training failed more often than allowed.
    """
    given = {"config": to_json(config), "opened": opened}
    if not unfinished(folder, cluster):
        (folder / "log.jsonl").unlink(missing_ok=True)
    with ray_for(cluster), _echoed(folder / "log.jsonl", echo):
        trainer = _api.torch.TorchTrainer(
            _work,
            train_loop_config=given,
            scaling_config=_api.ScalingConfig(
                num_workers=cluster.workers,
                use_gpu=config.device != "cpu" and "GPU" in _resources(),
                resources_per_worker={"CPU": 1},
            ),
            run_config=_api.RunConfig(
                name=_RUN,
                storage_path=_storage(cluster, folder),
                failure_config=_api.FailureConfig(max_failures=cluster.max_failures),
                checkpoint_config=_api.CheckpointConfig(num_to_keep=2),
                callbacks=[Listener(folder)],
            ),
        )
        result = _fit(trainer)
        return _best(result)


def unfinished(folder: Path, cluster: Cluster) -> bool:
    """Whether the storage holds a state that a run could go on from."""
    files, path = _filesystem(_storage(cluster, folder))
    found = files.get_file_info(f"{path}/{_RUN}")
    return bool(found.type != pyarrow.fs.FileType.NotFound)


def forget(folder: Path, cluster: Cluster) -> None:
    """Removes the states of a run from the storage."""
    files, path = _filesystem(_storage(cluster, folder))
    if unfinished(folder, cluster):
        files.delete_dir(f"{path}/{_RUN}")


def _work(given: dict[str, Any]) -> QuakestreamError | None:
    """A worker's whole life; what is wrong with the request comes back, not up: Ray would retry."""
    config, opened = from_json(given["config"]), given["opened"]
    context = ray.train.get_context()
    crew = Crew(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        device=ray.train.torch.get_device(),
    )
    lesson, problem = _open(config, opened)
    if lesson is None or not crew.all_well(problem is None):
        return problem or RequestError("another worker could not open its data")
    feeder = by_ray_data(config, opened) if lesson.streams else by_thread
    run(config, lesson, _RayKeeper(crew), crew=crew, feeder=feeder)
    return None


def _open(config: TrainConfig, opened: OpenLesson) -> tuple[Lesson | None, QuakestreamError | None]:
    try:
        lesson = opened(config)
        if config.init:
            start_from(lesson.network(), config)
    except RequestError as error:
        return None, error
    return lesson, None


class _RayKeeper:
    """Reports to Ray Train. Records wait for the next state: each report stops all workers."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._waiting: list[Record] = []

    def latest(self) -> dict[str, Any] | None:
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else _state(checkpoint)

    def tell(self, records: Sequence[Record], state: State | None) -> None:
        self._waiting += records
        if state is None:
            return
        metrics = {"records": self._waiting if self._crew.leads else []}
        self._waiting = []
        if not self._crew.leads:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_plain(Path(folder) / STATE, state())
            ray.train.report(metrics, ray.train.Checkpoint.from_directory(folder))


def _state(checkpoint: Any) -> dict[str, Any]:
    with checkpoint.as_directory() as folder:
        return read_plain(Path(folder) / STATE)


def _fit(trainer: Any) -> Any:
    try:
        result = trainer.fit()
    except ray.train.WorkerGroupError as error:
        raise _cause(error.worker_failures) from error
    except ray.train.TrainingFailedError as error:
        last = str(error).strip().splitlines()[-1]
        raise QuakestreamError(f"Ray Train failed: {last}") from error
    if result.return_value is not None:
        raise result.return_value
    return result


def _cause(failures: Mapping[int, BaseException]) -> QuakestreamError:
    """Our own error on a worker, or Ray's in one line."""
    for failure in failures.values():
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, QuakestreamError):
                return inner
            inner = getattr(inner, "cause", None) or inner.__cause__
    rank, failure = next(iter(failures.items()))
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return QuakestreamError(f"worker {rank} failed, and the retries are used up: {lines[-1]}")


def _best(result: Any) -> Checkpoint:
    state = _state(result.checkpoint)
    return as_checkpoint(state["best"], "the run's last state")


@contextmanager
def ray_for(cluster: Cluster) -> Iterator[None]:
    """Ray as it runs, or started here for as long as it is needed."""
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    for name, value in (_SETTINGS | ({} if address else _LOCAL_SETTINGS)).items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    if address:
        _join(address)
    else:
        _start(cluster)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        ray.init(address=address, **_QUIET)
    except (ConnectionError, ValueError) as error:
        raise RequestError(
            f"no Ray cluster at {address}: {str(error).strip().splitlines()[0]}"
        ) from error


def _start(cluster: Cluster) -> None:
    """Starts Ray here, again where a busy machine was too slow for its deadlines."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            ray.init(
                # Reading is light beside training: it may share the cores.
                num_cpus=max(os.cpu_count() or 1, 2 * cluster.most),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **_QUIET,
            )
            return
        except Exception as error:  # Ray raises this very class
            ray.shutdown()
            if not attempts_left:
                raise QuakestreamError(
                    f"Ray did not start here: {str(error).strip().splitlines()[0]} "
                    "Train in this process with --workers 0, or when the machine is less busy"
                ) from error


@contextmanager
def _echoed(path: Path, echo: Callable[[str], None] | None) -> Iterator[None]:
    """Says the lines that another process adds to a file."""
    if echo is None:
        yield
        return
    done, said = threading.Event(), 0

    def say() -> None:
        nonlocal said
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines[said:]:
            echo(line)
        said = len(lines)

    def watch() -> None:
        while not done.wait(_ECHO_S):
            say()

    said = len(path.read_text().splitlines()) if path.exists() else 0
    watcher = threading.Thread(target=watch, name="echo", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        say()


def _resources() -> dict[str, float]:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def _storage(cluster: Cluster, folder: Path) -> str:
    return cluster.storage or str(folder.resolve() / "states")


def _filesystem(storage: str) -> tuple[Any, str]:
    if "://" in storage:
        files, path = pyarrow.fs.FileSystem.from_uri(storage)
        return files, path
    return pyarrow.fs.LocalFileSystem(), str(Path(storage).resolve())


_: type[Keeper] = _RayKeeper
