"""Any-way episodes: assignments, adaptation, scales and samplers."""

import numpy as np
import pytest
import torch
from torch import nn

from quakestream.errors import ConfigError, RequestError, ShapeError
from training.anyway.__main__ import EpisodeTable, run_table
from training.anyway.episodes import EpisodeSampler, GradedEvent, damage_scales, in_blocks
from training.anyway.events import Sides
from training.anyway.head import (
    Adaptation,
    AnyWayHead,
    adapted,
    anyway_loss,
    anyway_scores,
    assignments,
    call,
)
from training.anyway.meta import (
    MetaTraining,
    accuracies,
    anyway_answer,
    nearest_mean,
    probe_answer,
    train_anyway,
)


def clusters(seed: int, grades: int = 5, spread: float = 0.6) -> GradedEvent:
    """Grades along a line in a random direction of eight."""
    rng = np.random.default_rng(seed)
    grade_N = np.arange(400) % grades
    way_D = rng.normal(size=8)
    feature_ND = grade_N[:, None] * way_D / np.linalg.norm(way_D)
    feature_ND = feature_ND - feature_ND.mean(0) + spread * rng.normal(size=(400, 8)) / 2
    return GradedEvent(
        name=f"e{seed}", feature_ND=feature_ND.astype(np.float32), grade_N=grade_N, grades=grades
    )


def scattered(seed: int) -> GradedEvent:
    """Five grades, each a cluster somewhere in eight dimensions."""
    rng = np.random.default_rng(seed)
    grade_N = np.arange(400) % 5
    feature_ND = 1.5 * rng.normal(size=(5, 8))[grade_N] + 0.3 * rng.normal(size=(400, 8))
    return GradedEvent(
        name=f"e{seed}", feature_ND=feature_ND.astype(np.float32), grade_N=grade_N, grades=5
    )


@pytest.mark.parametrize(("outputs", "ways", "groups"), [(30, 3, 10), (30, 4, 7), (5, 5, 1)])
def test_assignments_share_no_output(outputs: int, ways: int, groups: int) -> None:
    output_GC = assignments(outputs, ways, torch.Generator().manual_seed(0))
    assert output_GC.shape == (groups, ways)
    assert len(output_GC.unique()) == groups * ways
    with pytest.raises(ConfigError, match="2 to 5, got 6"):
        assignments(5, 6, torch.Generator())


def test_loss_and_scores_are_the_sums_of_a_plain_loop() -> None:
    logits, label = torch.randn(7, 10), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    output_GC = assignments(10, 3, torch.Generator().manual_seed(1))
    total = sum(nn.functional.cross_entropy(logits[:, row], label) for row in output_GC)
    torch.testing.assert_close(anyway_loss(logits, label, output_GC), total)
    scores = torch.stack([logits[:, row] for row in output_GC]).sum(0)
    torch.testing.assert_close(anyway_scores(logits, output_GC), scores)


def test_the_order_of_grades_lifts_the_grade_between_two() -> None:
    logits = torch.log(torch.tensor([[0.36, 0.30, 0.34]]))
    plain = anyway_scores(logits, torch.arange(3)[None])
    shared = anyway_scores(logits, torch.arange(3)[None], tau=1.0)
    assert plain.argmax() == 0
    assert shared.argmax() == 1
    e = np.exp(-1.0)
    assert shared[0, 1].item() == pytest.approx(0.30 + e * (0.36 + 0.34), rel=1e-5)


def test_steps_lower_the_loss_and_leave_the_second_head_alone() -> None:
    torch.manual_seed(0)
    head = AnyWayHead(8, hidden=16, outputs=12, grades=5)
    feature, label = torch.randn(20, 8), torch.arange(20) % 4
    output_GC = assignments(12, 4, torch.Generator().manual_seed(2))
    weights = adapted(head, feature, label, output_GC, Adaptation(steps=8, lr=0.1))
    before = anyway_loss(head(feature), label, output_GC)
    assert anyway_loss(call(head, weights, feature), label, output_GC) < before
    assert not any(name.startswith("semantic") for name in weights)
    assert head.grade_logits(feature).shape == (20, 5)
    with pytest.raises(ConfigError, match="state grades"):
        AnyWayHead(8).grade_logits(feature)


def test_one_assignment_of_all_outputs_is_plain_maml_bit_for_bit() -> None:
    torch.manual_seed(0)
    head = AnyWayHead(6, hidden=4, outputs=3)
    feature, label = torch.randn(9, 6), torch.arange(9) % 3
    query, truth = torch.randn(6, 6), torch.arange(6) % 3
    output_GC = assignments(3, 3, torch.Generator().manual_seed(3))
    place_C = output_GC[0]
    weights = adapted(head, feature, label, output_GC, Adaptation(steps=2, lr=0.3))
    ours = anyway_loss(call(head, weights, query), truth, output_GC)
    names = dict(head.named_parameters())
    fast = dict(names)
    for _ in range(2):
        hidden = (feature @ fast["body.0.weight"].T + fast["body.0.bias"]).relu()
        logits = hidden @ fast["out.weight"].T + fast["out.bias"]
        loss = nn.functional.cross_entropy(logits[:, place_C], label)
        gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {n: p - 0.3 * g for (n, p), g in zip(fast.items(), gradients, strict=True)}
    hidden = (query @ fast["body.0.weight"].T + fast["body.0.bias"]).relu()
    plain = nn.functional.cross_entropy(
        (hidden @ fast["out.weight"].T + fast["out.bias"])[:, place_C], truth
    )
    torch.testing.assert_close(ours, plain)
    parameters = list(head.parameters())
    for a, b in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(plain, parameters), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_scales_merge_neighbours_and_keep_the_order() -> None:
    assert damage_scales(5, 2) == (
        (0, 1, 1, 1, 1),
        (0, 0, 1, 1, 1),
        (0, 0, 0, 1, 1),
        (0, 0, 0, 0, 1),
    )
    assert len(damage_scales(5, 3)) == 6
    assert damage_scales(5, 5) == ((0, 1, 2, 3, 4),)
    assert damage_scales(2, 3) == ()


def test_an_episode_follows_from_its_number_and_is_balanced() -> None:
    sampler = EpisodeSampler([clusters(1), clusters(2)], (2, 3, 5), shots=3, queries=4, seed=9)
    seen = set()
    for number in range(20):
        episode, again = sampler(number), sampler(number)
        assert torch.equal(episode.query_nD, again.query_nD)
        assert torch.bincount(episode.support_label_N).tolist() == [3] * episode.ways
        assert torch.bincount(episode.query_label_n).tolist() == [4] * episode.ways
        merged = torch.tensor(episode.scale)[episode.query_grade_n]
        assert torch.equal(merged, episode.query_label_n)
        assert not (episode.query_nD[:, None] == episode.support_ND).all(dim=2).any()
        seen.add(episode.ways)
    assert seen == {2, 3, 5}
    with pytest.raises(RequestError, match="900 per grade"):
        EpisodeSampler([clusters(1)], (2,), shots=450, queries=450)
    with pytest.raises(ShapeError, match="grades of 0 to 1"):
        GradedEvent(name="x", feature_ND=np.zeros((2, 3)), grade_N=np.array([0, 2]), grades=2)


def test_one_head_learns_scales_of_two_to_five_grades() -> None:
    sampler = EpisodeSampler([scattered(seed) for seed in range(12)], (2, 3, 5), seed=1)
    how = MetaTraining(episodes=60, adaptation=Adaptation(steps=3, lr=0.05), semantic=0.1)
    answer = anyway_answer(train_anyway(sampler, how), how.adaptation)
    for ways, least in ((2, 0.7), (3, 0.8), (4, 0.88), (5, 0.85)):
        tested = EpisodeSampler([scattered(99)], (ways,), seed=2)
        right, kappa = accuracies(answer, tested, 10)
        assert right.mean() > least
        assert kappa > 0.5


def test_training_follows_from_its_seed() -> None:
    sampler = EpisodeSampler([clusters(1)], (2, 3), seed=1)
    first, second = (train_anyway(sampler, MetaTraining(episodes=2)) for _ in range(2))
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_baselines_answer_an_easy_event() -> None:
    sampler = EpisodeSampler([clusters(5, spread=0.1)], (3,), seed=3)
    for answer in (probe_answer, nearest_mean):
        assert accuracies(answer, sampler, 5)[0].mean() > 0.95


def test_a_table_has_a_row_per_method_and_leaves_out_what_an_event_cannot_give() -> None:
    sides = Sides(
        train=tuple(clusters(seed) for seed in range(3)),
        test={"five": (clusters(7),), "two": (clusters(8, grades=2),)},
        ways=(2, 3),
    )
    table = run_table(sides, EpisodeTable(how=MetaTraining(episodes=2), episodes=3))
    counts = table.groupby(["test", "ways"]).size()
    assert counts.index.tolist() == [("five", 2), ("five", 3), ("two", 2)]
    assert counts.nunique() == 1
    fixed = table[table["row"] == "f-MAML, trained at that way"]
    assert fixed["minus_fixed"].isna().all()
    assert in_blocks(clusters(1), np.arange(400) // 200, "b")[1].name == "b-1"
