"""The training loop on Ray Train: workers on a cluster or on this machine.

    driver ── TorchTrainer ── worker 0 … n: run(...) ── batches by thread, or through Ray Data
      └── echoes log.jsonl        └── report(records, state) ── controller ── log.jsonl

If a worker dies, its group ends. A new group resumes from the last state that was reported.
"""

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
from quakestream.pipeline.backends.cluster import ray_cluster
from training.checkpoints import Checkpoint, as_checkpoint, read_plain, start_from, write_plain
from training.config import TrainConfig
from training.foreign_errors import last_line
from training.lessons import Lesson, open_lesson
from training.loop import by_thread, run
from training.ray_log import LogCallback
from training.reporting import STATE, Reporter, State
from training.run_log import Record
from training.settings import from_json, to_json
from training.streams import by_ray_data
from training.worker_group import WorkerGroup

_api: Any = ray.train
"""Ray Train as Any: its signatures are those of version 1 while version 2 runs."""

OpenLesson = Callable[[TrainConfig], Lesson]

OBJECT_STORE_BYTES = 200_000_000
_RUN = "run"
_ECHO_S = 0.5
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports are noticed at health checks
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths in a configuration are relative to this folder
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_LOCAL_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's C++ layer logs harmless events as errors
    "RAY_worker_niceness": "0",  # Ray's default, 15, starves workers on a busy machine
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Settings for a cluster that is this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where the workers of a run are, and how often they may fail."""

    workers: int | tuple[int, int] = 1
    """Number of workers, or the fewest and the most for a run that uses what is free."""
    address: str | None = None
    """Address of a running cluster. If None, `RAY_ADDRESS` is used, else a cluster starts here."""
    storage: str = ""
    """URI or folder for states, reachable by all workers; empty for a folder inside the run's."""
    max_failures: int = 3
    """Times that the worker group may fail before the run fails."""

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
    """Trains on Ray Train, from the last state in the storage if there is one.

    Args:
        config: configuration of the run; its `workers` is the largest possible number.
        folder: receives `log.jsonl` and figures for TensorBoard.
        cluster: where the workers run.
        opened: opens the lesson on a worker.
        echo: takes the lines of the log as they are written.

    Raises:
        RequestError: if the data or the weights to start from cannot be used.
        QuakestreamError: if training failed more often than allowed.
    """
    arguments = {"config": to_json(config), "opened": opened}
    if not unfinished(folder, cluster):
        (folder / "log.jsonl").unlink(missing_ok=True)
    with ray_for(cluster), _echoed(folder / "log.jsonl", echo):
        trainer = _api.torch.TorchTrainer(
            _work,
            train_loop_config=arguments,
            scaling_config=_api.ScalingConfig(
                num_workers=cluster.workers,
                use_gpu=config.run.device != "cpu" and "GPU" in _resources(),
                resources_per_worker={"CPU": 1},
            ),
            run_config=_api.RunConfig(
                name=_RUN,
                storage_path=_storage(cluster, folder),
                failure_config=_api.FailureConfig(max_failures=cluster.max_failures),
                checkpoint_config=_api.CheckpointConfig(num_to_keep=2),
                callbacks=[LogCallback(folder)],
            ),
        )
        result = _fit(trainer)
        return _best(result)


def unfinished(folder: Path, cluster: Cluster) -> bool:
    """True if the storage holds a state that a run could resume from."""
    files, path = _filesystem(_storage(cluster, folder))
    info = files.get_file_info(f"{path}/{_RUN}")
    return bool(info.type != pyarrow.fs.FileType.NotFound)


def delete_states(folder: Path, cluster: Cluster) -> None:
    """Deletes the states of a run from the storage."""
    files, path = _filesystem(_storage(cluster, folder))
    if unfinished(folder, cluster):
        files.delete_dir(f"{path}/{_RUN}")


def _work(arguments: dict[str, Any]) -> QuakestreamError | None:
    """Runs one worker. A wrong request is returned, not raised, because Ray would retry it."""
    config, opened = from_json(arguments["config"]), arguments["opened"]
    context = ray.train.get_context()
    group = WorkerGroup(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        device=ray.train.torch.get_device(),
    )
    lesson, problem = _open(config, opened)
    if lesson is None or not group.all_agree(problem is None):
        return problem or RequestError("data could not be opened on another worker")
    feeder = by_ray_data(config, opened) if lesson.streams else by_thread
    run(config, lesson, _RayReporter(group), group=group, feeder=feeder)
    return None


def _open(config: TrainConfig, opened: OpenLesson) -> tuple[Lesson | None, QuakestreamError | None]:
    try:
        lesson = opened(config)
        if config.init:
            start_from(lesson.network(), config)
    except RequestError as error:
        return None, error
    return lesson, None


class _RayReporter:
    """Reports to Ray Train. A report stops all workers, so records wait for the next state."""

    def __init__(self, group: WorkerGroup) -> None:
        self._group = group
        self._waiting: list[Record] = []

    def latest_state(self) -> dict[str, Any] | None:
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else _state(checkpoint)

    def report(self, records: Sequence[Record], state: State | None) -> None:
        self._waiting += records
        if state is None:
            return
        metrics = {"records": self._waiting if self._group.is_leader else []}
        self._waiting = []
        if not self._group.is_leader:
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
        raise QuakestreamError(f"Ray Train failed: {last_line(error)}") from error
    if result.return_value is not None:
        raise result.return_value
    return result


def _cause(failures: Mapping[int, BaseException]) -> QuakestreamError:
    """The error of this project that ended a worker, else Ray's error in one line."""
    for failure in failures.values():
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, QuakestreamError):
                return inner
            inner = getattr(inner, "cause", None) or inner.__cause__
    rank, failure = next(iter(failures.items()))
    return QuakestreamError(f"failed, and no retry is left: {last_line(failure)}", f"worker {rank}")


def _best(result: Any) -> Checkpoint:
    state = _state(result.checkpoint)
    return as_checkpoint(state["best"], "the run's last state")


@contextmanager
def ray_for(cluster: Cluster) -> Iterator[None]:
    """Connects to Ray, or starts it here for the duration of the context."""
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    for name, value in (_SETTINGS | ({} if address else _LOCAL_SETTINGS)).items():
        os.environ.setdefault(name, value)
    # Reading takes little time beside training, so both may share the cores.
    cores = max(os.cpu_count() or 1, 2 * cluster.most)
    with ray_cluster(address, num_cpus=cores, object_store_memory=OBJECT_STORE_BYTES):
        yield


@contextmanager
def _echoed(path: Path, echo: Callable[[str], None] | None) -> Iterator[None]:
    """Passes on the lines that another process appends to a file."""
    if echo is None:
        yield
        return
    done, echoed = threading.Event(), 0

    def echo_new() -> None:
        nonlocal echoed
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines[echoed:]:
            echo(line)
        echoed = len(lines)

    def watch() -> None:
        while not done.wait(_ECHO_S):
            echo_new()

    echoed = len(path.read_text().splitlines()) if path.exists() else 0
    watcher = threading.Thread(target=watch, name="echo", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        echo_new()


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


_: type[Reporter] = _RayReporter
