"""The loop on Ray Train, on loopback: workers share a batch, die, and read through Ray Data."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'quakestream[train]'")

from tests.helpers import rubble  # noqa: E402
from training import streams  # noqa: E402
from training.checkpoints import Checkpoint  # noqa: E402
from training.config import ChipsConfig, CropSettings, Grades, PairsConfig  # noqa: E402
from training.data.splits import RowSplit  # noqa: E402
from training.lessons import TrainingBatch, open_lesson  # noqa: E402
from training.loop import run  # noqa: E402
from training.reporting import LogReporter  # noqa: E402
from training.settings import new_config  # noqa: E402
from training.worker_group import WorkerGroup  # noqa: E402
from training.workers import Cluster, delete_states, ray_for, train_on_ray, unfinished  # noqa: E402

TWO = Cluster(workers=2)
pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]  # Ray starts five processes a run

STEPS, EPOCH_STEPS, KEEP_EVERY, DEATH = 20, 4, 5, 13
CLOSE = 1e-3
"""Relative difference of an epoch's loss. Workers add up in another order than one process does:
the first epoch differs by about 1e-6 in float32, and every step of AdamW makes it a little more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    checkpoint: Checkpoint
    folder: Path

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    @property
    def losses(self) -> list[float]:
        return [r["loss"] for r in self.records if r["event"] == "epoch"]  # type: ignore[misc]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(rubble)  # workers do not see the tests' folder
    ray.shutdown()  # what other tests shared has fewer CPUs
    with ray_for(TWO):
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """An unbroken run of two workers with 8 chips each."""
    folder = tmp_path_factory.mktemp("two")
    return Ran(
        checkpoint=train_on_ray(config(), folder, TWO, opened=rubble.open_rubble), folder=folder
    )


def config() -> PairsConfig:
    return rubble.tiny_config(
        steps=STEPS, batch=8, workers=2, precision="fp32", keep_every=KEEP_EVERY
    )


@pytest.mark.slow  # unit/training/test_worker_group.py says it of plain processes
def test_two_workers_give_the_loss_curve_of_one_with_the_doubled_batch(two: Ran) -> None:
    doubled = rubble.tiny_config(steps=STEPS, batch=16, precision="fp32")
    told: list[dict[str, float]] = []
    alone = run(doubled, rubble.open_rubble(doubled), LogReporter(told.append))
    losses = [r["loss"] for r in told if r["event"] == "epoch"]
    assert len(losses) == STEPS // EPOCH_STEPS
    assert two.losses[0] == pytest.approx(losses[0], rel=1e-5)
    assert two.losses == pytest.approx(losses, rel=CLOSE)
    assert losses[-1] < 0.6 * losses[0]
    assert two.checkpoint.figures["auc"] == pytest.approx(alone.figures["auc"], abs=0.01)
    assert unfinished(two.folder, TWO)
    delete_states(two.folder, TWO)
    assert not unfinished(two.folder, TWO)


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_ends_like_an_unbroken_one(two: Ran, tmp_path: Path) -> None:
    assert DEATH % KEEP_EVERY
    assert DEATH % EPOCH_STEPS  # in the middle of an epoch, after the last state kept
    kept = DEATH - DEATH % KEEP_EVERY
    told = kept - kept % EPOCH_STEPS  # the last epoch that was told with the state kept
    opened = partial(rubble.DiesOnce, folder=tmp_path, number=DEATH, told=told)
    checkpoint = train_on_ray(config(), tmp_path, TWO, opened=opened)
    assert int((tmp_path / "died").read_text()) > 1
    broken = Ran(checkpoint=checkpoint, folder=tmp_path)
    starts = [r["step"] for r in broken.records if r["event"] == "start"]
    assert starts == [0, kept]
    assert broken.losses == two.losses
    assert checkpoint.figures == two.checkpoint.figures
    assert same_weights(checkpoint, two.checkpoint)


@pytest.mark.slow
def test_one_worker_that_reads_through_ray_data_gives_what_this_process_gives(
    tmp_path: Path,
) -> None:
    settings = new_config(
        ChipsConfig,
        recipe="tiny",
        network="qmf_tiny",
        source=(rubble.rubble_store(tmp_path / "store"),),
        steps=6,
        batch=8,
        chip_px=32,
        checks=1,
        dropout=0.1,
        best="accuracy",
        precision="fp32",
        keep_every=3,
        rows=RowSplit(block=1000.0, buffer=100.0),
        crops=CropSettings(pair=True),
        grades=Grades(gamma=2.0),
    )
    told: list[dict[str, float]] = []
    here = run(settings, open_lesson(settings), LogReporter(told.append))
    there = Ran(
        checkpoint=train_on_ray(settings, tmp_path / "out", Cluster(workers=1)),
        folder=tmp_path / "out",
    )
    assert there.losses == [r["loss"] for r in told if r["event"] == "epoch"]
    assert there.checkpoint.figures["accuracy"] == here.figures["accuracy"]
    assert same_weights(here, there.checkpoint)
    assert list((there.folder / "tensorboard").glob("events*"))


@pytest.mark.slow
def test_ray_data_is_scheduled_outside_the_worker_and_lets_go_of_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = new_config(
        ChipsConfig,
        recipe="tiny",
        network="qmf_tiny",
        source=(rubble.rubble_store(tmp_path / "store"),),
        batch=4,
        chip_px=32,
        rows=RowSplit(block=1000.0, buffer=100.0),
    )
    lesson = open_lesson(settings)
    monkeypatch.setattr(streams, "PIPELINE_BATCHES", 20)
    numbers, taken = range(2, 42), list[TrainingBatch]()
    with streams.by_ray_data(settings, open_lesson)(lesson, numbers, WorkerGroup()) as batches:
        for batch in batches:
            taken.append(batch)
            names = [thread.name for thread in threading.enumerate()]
            assert not [name for name in names if name.startswith("StreamingExecutor")]
    for number, batch in zip(numbers, taken, strict=True):
        for name, tensor in lesson.batch(number, 0, 1).tensors.items():
            assert torch.equal(batch[name], tensor), (number, name)
    patience = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < patience, "a reader of a stretch that is over still has its CPU"
        time.sleep(0.2)


def same_weights(a: Checkpoint, b: Checkpoint) -> bool:
    return a.weights.keys() == b.weights.keys() and all(
        torch.equal(value, b.weights[name]) for name, value in a.weights.items()
    )
