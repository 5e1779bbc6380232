"""The loop: batches by their number, going on after a stop, what a run starts from."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, QuakestreamError, RequestError
from tests.helpers.rubble import (
    open_rubble,
    rubble_points,
    rubble_store,
    rubble_town,
    tiny_config,
    town,
)
from training.checkpoints import Checkpoint, load_checkpoint, start_from
from training.config import (
    ChipsConfig,
    CropSettings,
    Grades,
    PairsConfig,
    Points,
    PretrainConfig,
    VectorsConfig,
)
from training.data.augment import Augmentation
from training.data.splits import RowSplit, masks_of_points, masks_of_table
from training.feeds import threaded
from training.lessons import Lesson, TrainingBatch, open_lesson
from training.lessons.chips import ChipsLesson
from training.lessons.grading import HazardDropout
from training.lessons.pairs import PairsLesson
from training.lessons.pretrain import PretrainLesson
from training.loop import run
from training.networks import build_network
from training.reporting import FolderReporter, LogReporter
from training.run_log import RunLog
from training.settings import with_settings, with_values
from training.train import main as train_command
from training.trainer import Trainer
from training.worker_group import Share, WorkerGroup


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return rubble_store(tmp_path_factory.mktemp("store") / "s")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> str:
    return rubble_points(tmp_path_factory.mktemp("points") / "points.csv")


def vectors_config(source: str, **changes: Any) -> VectorsConfig:
    values: dict[str, Any] = {
        "source": source,
        "steps": 12,
        "batch": 16,
        "lr": 1e-2,
        "checks": 1,
        "best": "macro_auc",
        "precision": "fp32",
        "rows": RowSplit(block=0.02, buffer=0.002),
        "points": Points(features=("pga_g", "vs30_m_s")),
        "grades": Grades(gamma=0.0, hazard_dropout="none"),
    }
    tiny = VectorsConfig(recipe="tiny", network="hazard_mlp")
    return with_values(tiny, **{**values, **changes})


def chips_config(source: str, **changes: Any) -> ChipsConfig:
    values: dict[str, Any] = {
        "source": (source,),
        "steps": 4,
        "batch": 6,
        "chip_px": 32,
        "checks": 1,
        "best": "accuracy",
        "rows": RowSplit(block=1000.0, buffer=100.0),
    }
    return with_values(ChipsConfig(recipe="tiny", network="qmf_tiny"), **{**values, **changes})


def pretrain_config(**changes: Any) -> PretrainConfig:
    """As `tiny_config`, for pre-training."""
    values: dict[str, Any] = {
        "batch": 8,
        "chip_px": 32,
        "held_regions": ("b",),
        "augmentation": Augmentation(max_shift_px=2.0),
        "ema": 0.9,
    }
    tiny = PretrainConfig(recipe="tiny", network="fc_siam_diff_small")
    return with_values(tiny, **{**values, **changes})


def lessons(store: str, points: str) -> Iterator[Lesson]:
    yield open_rubble(tiny_config(steps=4, batch=6))
    yield PretrainLesson(pretrain_config(steps=4, batch=6), [rubble_town("a", 1)])
    yield open_lesson(chips_config(store, crops=CropSettings(pair=True)))
    yield open_lesson(vectors_config(points, batch=6))


def test_workers_parts_make_the_batch_one_worker_would_have(store: str, points: str) -> None:
    for lesson in lessons(store, points):
        alone = lesson.batch(3, 0, 1)
        for world in (2, 4):  # 4: parts of different size
            parts = [lesson.batch(3, rank, world) for rank in range(world)]
            for name, tensor in alone.tensors.items():
                together = torch.cat([part[name] for part in parts])
                assert torch.equal(together, tensor), (type(lesson), name)


def test_a_batch_is_the_same_whenever_it_is_made_and_differs_from_the_next(
    store: str, points: str
) -> None:
    for lesson in lessons(store, points):
        first, later, again = (lesson.batch(n, 0, 1) for n in (1, 5, 1))
        for name, tensor in first.tensors.items():
            assert torch.equal(tensor, again[name])
        assert any(not torch.equal(t, later[name]) for name, t in first.tensors.items())


def test_shares_cover_a_batch_once() -> None:
    for total in (1, 5, 16):
        for world in (1, 2, 3, 7):
            parts = [Share(total=total, rank=r, world=world).places for r in range(world)]
            assert [p for part in parts for p in part] == list(range(total))


def test_an_epoch_shows_every_training_row_once(points: str) -> None:
    config = vectors_config(points, batch=1)
    lesson = open_lesson(config)
    seen = [lesson.batch(n, 0, 1)["hazard_NM"] for n in range(2 * lesson.examples)]
    first, second = (torch.cat(part) for part in (seen[: lesson.examples], seen[lesson.examples :]))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


class Stops(PairsLesson):
    """Fails at a batch, as a lost machine would."""

    def __init__(self, config: PairsConfig, at: int) -> None:
        super().__init__(config, [rubble_town("a", 1), rubble_town("b", 2)])
        self._at = at

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        if number == self._at:
            raise OSError("the machine is gone")
        return super().loss(network, batch, number)


@pytest.mark.parametrize("ema", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_run_goes_on_from_its_last_state_as_if_nothing_had_happened(
    tmp_path: Path, ema: float
) -> None:
    # A fold of blocks: states are judged and chosen on the way.
    config = tiny_config(steps=14, keep_every=5, held_regions=(), block_m=40.0, checks=2, ema=ema)
    config = with_values(config, dropout=0.1)  # random numbers of the network's own
    pairs = [rubble_town("a", 1), rubble_town("b", 2)]
    whole = run(config, PairsLesson(config, pairs), folder_reporter(tmp_path / "whole"))
    with pytest.raises(OSError, match="gone"):
        run(config, Stops(config, at=12), folder_reporter(tmp_path / "broken"))
    assert (tmp_path / "broken" / "state.pt").exists()
    rest = run(config, PairsLesson(config, pairs), folder_reporter(tmp_path / "broken"))
    assert (rest.step, rest.figures) == (whole.step, whole.figures)
    assert all(torch.equal(rest.weights[k], v) for k, v in whole.weights.items())
    assert figures_of(tmp_path / "broken") == figures_of(tmp_path / "whole")


def test_a_run_is_not_gone_on_with_under_other_settings(tmp_path: Path) -> None:
    config = tiny_config(steps=2, keep_every=1)
    run(config, open_rubble(config), folder_reporter(tmp_path))
    other = with_values(config, lr=0.5)
    with pytest.raises(RequestError, match=r"expected optimiser\.lr=0\.003, got .*=0\.5"):
        run(other, open_rubble(other), folder_reporter(tmp_path))
    run(with_values(config, threads=2), open_rubble(config), folder_reporter(tmp_path))


def test_gradients_of_several_batches_add_up_to_those_of_one(points: str) -> None:
    trained = []
    for batch, accumulate in ((32, 1), (8, 4)):
        config = vectors_config(
            points,
            batch=batch,
            accumulate=accumulate,
            grades=Grades(gamma=0.0, hazard_dropout="none", balanced=False),
        )
        checkpoint = run(config, open_lesson(config), LogReporter(lambda _: None))
        trained.append(checkpoint.weights)
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-3, atol=1e-4)


def test_the_learning_rate_rises_and_falls_as_its_schedule_says() -> None:
    for schedule, ends in (("one_cycle", 1e-5), ("cosine", 0.1), ("constant", 1.0)):
        config = tiny_config(steps=10, shape=schedule, warmup=0.2, lr=0.1, batch=2)
        lesson = open_rubble(config)
        trainer, rates = Trainer(config, lesson, WorkerGroup(), 10), []
        for step in range(10):
            rates.append(trainer.lr / 0.1)
            trainer.update(iter([lesson.batch(step, 0, 1)]), step)
        assert max(rates) == pytest.approx(1.0, abs=0.03)
        assert rates[-1] < rates[2] or schedule == "constant"
        assert trainer.lr / 0.1 == pytest.approx(ends, abs=0.02)


def test_pre_training_hands_its_encoder_on(tmp_path: Path) -> None:
    config = pretrain_config(steps=25, lr=1e-3)
    pairs = [rubble_town("a", 1), rubble_town("b", 2)]
    learnt = run(config, PretrainLesson(config, pairs), LogReporter(lambda _: None))
    assert learnt.figures["auc"] > 0.9
    with pytest.raises(RequestError, match="pre-trained encoder, which does not score damage"):
        learnt.network()
    learnt.save(tmp_path / "pretrain.pt")
    network = build_network("fc_siam_diff_small")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    start = tiny_config(steps=1, init=str(tmp_path / "pretrain.pt"))
    assert start_from(network, start) == "encoder"
    for name, value in network.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(value, learnt.weights[f"network.{name}"])
        else:
            assert torch.equal(value, before[name])


@pytest.mark.parametrize("network", ["fc_ef_small", "fc_siam_conc_small"])
def test_every_architecture_can_be_pre_trained(network: str) -> None:
    config = pretrain_config(steps=20, network=network, lr=1e-3)
    pairs = [rubble_town("a", 1), rubble_town("b", 2)]
    learnt = run(config, PretrainLesson(config, pairs), LogReporter(lambda _: None))
    assert learnt.figures["auc"] > 0.9


class TellsRubble(nn.Module):
    """Embeds places as one of two points: the dates differ, or they do not."""

    def forward(self, first_NBYX: Tensor, second_NBYX: Tensor) -> tuple[Tensor, Tensor]:
        def point(both_NBYX: Tensor) -> Tensor:
            apart_N = (both_NBYX[:, :3] - both_NBYX[:, 3:]).abs().mean((1, 2, 3)) > 0.1
            return torch.stack([apart_N, ~apart_N], dim=1).float()

        return point(first_NBYX), point(second_NBYX)


def test_places_of_several_chunks_are_judged_by_their_own_labels() -> None:
    """Places of early fusion are embedded in halves of a chunk, and two towns are two chunks."""
    config = pretrain_config(network="fc_ef_small", held_regions=("b", "c"))
    towns = [rubble_town(name, i) for i, name in enumerate("abc")]
    towns[1:] = [  # intact places first
        replace(t, buildings=tuple(sorted(t.buildings, key=lambda b: b.destroyed)))
        for t in towns[1:]
    ]
    lesson = PretrainLesson(config, towns)
    assert lesson.judge(TellsRubble()) == {"auc": 1.0}


def test_a_run_starts_from_all_weights_of_its_own_architecture_and_from_no_other(
    tmp_path: Path,
) -> None:
    torch.manual_seed(3)
    config = tiny_config(steps=1)
    weights = build_network(config.network).state_dict()
    Checkpoint(config=config, weights=weights, step=1, figures={}).save(tmp_path / "a.pt")
    own = build_network(config.network)
    init = replace(config, init=str(tmp_path / "a.pt"))
    assert start_from(own, init) == "all"
    assert all(torch.equal(v, weights[k]) for k, v in own.state_dict().items())
    # Conc has the encoder of Diff; EF has not.
    assert start_from(build_network("fc_siam_conc_small"), init) == "encoder"
    for other in ("fc_siam_diff_medium", "fc_ef_small"):
        with pytest.raises(RequestError, match=r"another architecture than .*: encoder\.0\.") as e:
            start_from(build_network(other), replace(init, network=other))
        assert "\n" not in str(e.value)


def test_a_frozen_encoder_stays_as_it_is() -> None:
    config = tiny_config(steps=3, freeze_encoder=True, batch=4)
    torch.manual_seed(config.run.seed)
    before = build_network(config.network).state_dict()
    after = run(config, open_rubble(config), LogReporter(lambda _: None))
    moved = {k for k, v in after.weights.items() if not torch.equal(v, before[k])}
    assert not [name for name in moved if name.startswith("encoder.")]
    assert {"decoder.2.0.weight", "up.0.weight"} <= moved


def test_a_checkpoint_with_an_object_in_it_is_not_opened(tmp_path: Path) -> None:
    torch.save({"config": Path("x"), "weights": {}}, tmp_path / "evil.pt")
    with pytest.raises(RequestError, match="not a checkpoint") as error:
        load_checkpoint(tmp_path / "evil.pt")
    assert "\n" not in str(error.value)


def test_a_run_without_progress_ends_early_and_keeps_its_best(points: str) -> None:
    config = vectors_config(points, steps=400, checks=0, patience=3, lr=3e-2)
    records: list[dict[str, Any]] = []
    kept = run(config, open_lesson(config), LogReporter(records.append))
    checks = [r for r in records if r["event"] == "check"]
    scores = [r["macro_auc"] for r in checks]
    assert len(scores) < 400 // records[0]["epoch_steps"]
    assert kept.step == checks[int(np.argmax(scores))]["step"]
    assert np.argmax(scores) == len(scores) - 1 - 3


def test_held_out_regions_end_no_run_and_choose_no_state() -> None:
    with pytest.raises(ConfigError, match="patience"):
        tiny_config(steps=4, patience=2)
    records: list[dict[str, Any]] = []
    config = tiny_config(steps=8, checks=4)
    kept = run(config, open_rubble(config), LogReporter(records.append))
    assert kept.step == 8
    assert [r["step"] for r in records if r["event"] == "check"] == [8]


def test_a_loss_that_is_no_number_ends_the_run(points: str) -> None:
    config = vectors_config(points, lr=1e30, clip=0.0, steps=40)
    with pytest.raises(QuakestreamError, match="the loss is"):
        run(config, open_lesson(config), LogReporter(lambda _: None))


def test_batches_come_in_order_and_bring_what_went_wrong() -> None:
    def make(number: int) -> TrainingBatch:
        if number == 6:
            raise RequestError("no such chip")
        return TrainingBatch(tensors={"n": torch.tensor([number])}, share=Share(total=1))

    taken: list[int] = []
    with (
        pytest.raises(RequestError, match="no such chip"),
        threaded(make, range(2, 9)) as batches,
    ):
        taken += [int(batch["n"]) for batch in batches]
    with threaded(make, range(2, 100)) as batches:
        taken.append(int(next(batches)["n"]))
    assert taken == [2]  # the list of the first was never whole; the second was left early


def test_hazard_values_are_hidden_at_first_and_shown_at_last() -> None:
    config = vectors_config("", steps=100, batch=50, grades=Grades())
    dropout = HazardDropout(config, examples=1)
    values_NM = torch.ones(50, 3)
    share = Share(total=50)
    shown = [int(dropout(values_NM, n, share).any(dim=1).sum()) for n in (0, 50, 99)]
    assert shown[0] == 0
    assert shown[1] == 25
    assert shown[2] == 50
    halves = [dropout(values_NM[:25], 50, Share(total=50, rank=rank, world=2)) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), dropout(values_NM, 50, share))


def test_building_networks_learn_from_crops_and_from_hazard_values(store: str) -> None:
    config = chips_config(store, steps=40, batch=16, lr=2e-3, grades=Grades(gamma=0.0))
    lesson = open_lesson(config)
    assert isinstance(lesson, ChipsLesson)
    records: list[dict[str, Any]] = []
    kept = run(config, lesson, LogReporter(records.append))
    losses = [r["loss"] for r in records if r["event"] == "epoch"]
    assert losses[-1] < 0.8 * losses[0]
    assert kept.inputs.hazard_groups == (2, 1)
    assert [h["name"] for h in kept.facts["hazard"]] == ["pga_g", "mmi", "vs30_m_s"]
    logits_NC, label_N = lesson.logits(kept.network(), "validation")
    assert logits_NC.shape == (len(label_N), 3)
    masked_NC, _ = lesson.logits(kept.network(), "validation", masked=True)
    assert not torch.equal(logits_NC, masked_NC)


def test_no_row_is_both_trained_on_and_judged(store: str, points: str) -> None:
    lesson = open_lesson(chips_config(store))
    assert isinstance(lesson, ChipsLesson)
    table = lesson._store.table
    for rows in (
        RowSplit(block=1000.0, buffer=100.0),
        RowSplit(split="regions", held=("north",), block=1000.0, buffer=100.0),
        RowSplit(split="sources", held=("north", "south"), block=500.0, buffer=50.0),
        RowSplit(split="paper-70-15-15"),
    ):
        parts = masks_of_table(table, rows)
        masks = np.stack([parts.train_N, parts.validation_N, parts.test_N])
        assert masks.any(axis=1).all(), rows
        assert (masks.sum(axis=0) <= 1).all(), rows
        if rows.held:
            held_N = table["region"].isin(rows.held).to_numpy()
            assert (parts.test_N == held_N).all()
    published = masks_of_table(table, RowSplit(split="paper-85-15"))
    assert (published.validation_N == published.test_N).all()
    every = masks_of_table(table, RowSplit(block=1000.0, buffer=100.0))
    few = masks_of_table(table, RowSplit(block=1000.0, buffer=100.0, labels=0.5))
    assert 0.4 < few.train_N.sum() / every.train_N.sum() < 0.6


def test_rows_that_cannot_be_split_so_are_refused_in_one_line(store: str) -> None:
    lesson = open_lesson(chips_config(store))
    assert isinstance(lesson, ChipsLesson)
    table = lesson._store.table
    for rows, says in (
        (RowSplit(split="regions", held=("nowhere",)), "unknown region.*got nowhere"),
        (RowSplit(split="regions"), "expected regions of middle, north, south"),
        (RowSplit(block=1000.0, fold=5), "expected 0 to 4, got 5"),
    ):
        with pytest.raises(RequestError, match=says):
            masks_of_table(table, rows)
    places_N = np.linspace(0, 1, 50)
    with pytest.raises(RequestError, match="points have no regions"):
        masks_of_points(places_N, places_N, np.zeros(50, np.int64), RowSplit(split="regions"))


def test_a_resumed_run_removes_later_records_from_the_log(tmp_path: Path) -> None:
    run_log = RunLog(tmp_path)
    for step in (0, 5, 10):
        run_log({"event": "epoch" if step else "start", "step": step, "loss": float("nan")})
    RunLog(tmp_path)({"event": "start", "step": 5})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 5, 5]
    assert json.loads(lines[1])["loss"] is None
    RunLog(tmp_path)({"event": "start", "step": 0})
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_the_command_trains_here_and_says_what_is_wrong_in_one_line(
    tmp_path: Path, points: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["hazard_mlp", "--workers", "0", "--out", str(tmp_path / "run")]
    small = settings(
        source=points, steps=12, batch=16, keep_every=4, checks=1, threads=1
    ) + settings(**{"points.features": "pga_g,vs30_m_s", "grades.hazard_groups": "[1, 1]"})
    assert train_command(here + small) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert checkpoint.inputs.hazard_groups == (1, 1)
    assert checkpoint.facts["classes"][-1] == "collapsed"
    assert not (tmp_path / "run" / "states").exists()
    capsys.readouterr()
    other = str(tmp_path / "run" / "checkpoint.pt")
    wrong = {
        "--workers x": ["hazard_mlp", "--workers", "x"],
        "no training store named": ["qmf_tiny", "--workers", "0", "--out", str(tmp_path / "a")],
        "nowhere: no training store": [
            "qif_tiny",
            "--workers",
            "0",
            "--out",
            str(tmp_path / "b"),
            *settings(source=str(tmp_path / "nowhere")),
        ],
        "another architecture": [
            "qif_tiny",
            "--workers",
            "0",
            "--out",
            str(tmp_path / "c"),
            *settings(source=store, init=other, chip_px=32, **{"rows.buffer": 100}),
        ],
        "no such figure": [*here, *small, *settings(best="luck")],
        "expected one of one_cycle, cosine, constant": [*here, *settings(schedule="sine")],
    }
    for says, arguments in wrong.items():
        assert train_command(arguments) == 2, says
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert says in lines[0]


def test_an_unfinished_run_is_not_overwritten_but_gone_on_with(
    tmp_path: Path, points: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = [
        "hazard_mlp",
        "--workers",
        "0",
        "--out",
        str(out),
        *settings(source=points, steps=12, batch=16, keep_every=4, checks=1),
        *settings(**{"points.features": "pga_g,vs30_m_s", "grades.hazard_groups": "2"}),
    ]
    config = with_settings(
        vectors_config(points), ["recipe=hazard_mlp", *[a for a in arguments[5:] if "=" in a]]
    )
    assert config.schedule.steps == 12
    assert train_command(arguments) == 0
    finished = load_checkpoint(out / "checkpoint.pt")
    state = torch.zeros(1)
    (out / "states").mkdir()
    torch.save({"config": {}, "state": state}, out / "states" / "state.pt")
    assert train_command(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert train_command([*arguments, "--resume"]) == 2  # that state is of another run
    (out / "states" / "state.pt").unlink()
    assert train_command([*arguments, "--resume"]) == 0  # nothing to go on from: from the start
    again = load_checkpoint(out / "checkpoint.pt")
    assert all(torch.equal(again.weights[k], v) for k, v in finished.weights.items())


def test_a_town_of_one_state_is_refused() -> None:
    with pytest.raises(RequestError, match="no destroyed building"):
        PairsLesson(tiny_config(steps=1), [town(buildings=[(20, 20, 8, False)])])


def settings(**values: Any) -> list[str]:
    return [text for k, v in values.items() for text in ("--set", f"{k}={v}")]


def folder_reporter(folder: Path) -> FolderReporter:
    return FolderReporter(folder, RunLog(folder))


def figures_of(folder: Path) -> list[dict[str, Any]]:
    """The figures of a log, without its clock and its starts."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    clock = {"s", "images_per_s", "data_wait"}
    return [
        {k: v for k, v in r.items() if k not in clock} for r in records if r["event"] != "start"
    ]
