"""Two workers that share each batch are as one with the whole batch. Plain processes, no Ray.

`tests/end_to_end/test_ray_train.py` says the same of workers that Ray starts, kills and restarts.
"""

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.helpers import rubble
from training.config import PairsConfig
from training.loop import run
from training.reporting import LogReporter
from training.worker_group import WorkerGroup

STEPS = 8


def config(batch: int, workers: int) -> PairsConfig:
    return rubble.tiny_config(steps=STEPS, batch=batch, workers=workers, precision="fp32")


def trained(settings: PairsConfig, group: WorkerGroup) -> list[float]:
    """The loss of each epoch, then the AUC."""
    told: list[dict[str, object]] = []
    chosen = run(settings, rubble.open_rubble(settings), LogReporter(told.append), group=group)
    losses = [float(str(r["loss"])) for r in told if r["event"] == "epoch"]
    return [*losses, float(str(chosen.figures.get("auc", 0.0)))]


def work(rank: int, folder: Path) -> None:
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    found = trained(config(batch=8, workers=2), WorkerGroup(rank=rank, world=2))
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_two_workers_give_the_losses_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    alone = trained(config(batch=16, workers=1), WorkerGroup(device=torch.device("cpu")))
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    two = json.loads((tmp_path / "0.json").read_text())
    assert len(alone) > 2
    assert two[0] == pytest.approx(alone[0], rel=1e-5)
    assert two[:-1] == pytest.approx(alone[:-1], rel=1e-3)
    assert two[-1] == pytest.approx(alone[-1], abs=0.02)
