"""Schedules: functions of the step, the same whenever they are asked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quakestream.errors import ConfigError
from training.networks import FcSiam, NetworkInputs, build_network
from training.schedules import (
    CosineWarmup,
    cosine_warmup,
    mask_metadata,
    masked_rows,
    masked_share,
    one_cycle,
    parameter_groups,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_metadata_comes_in_linearly() -> None:
    assert [masked_share(e, 4) for e in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]
    assert masked_share(0.5, 4) == 0.875


@given(count=st.integers(0, 40), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_whole_rows_of_that_share_are_hidden(count: int, share: float, seed: int) -> None:
    hazard_NM = torch.rand(count, 3) + 1
    masked = mask_metadata(hazard_NM, share, generator(seed))
    hidden_N = (masked == 0).all(1)
    assert hidden_N.sum() == int(count * share)
    torch.testing.assert_close(masked[~hidden_N], hazard_NM[~hidden_N])
    assert (hazard_NM > 0).all()  # the values given are left alone
    assert torch.equal(hidden_N, masked_rows(count, share, generator(seed)))


def test_other_rows_are_hidden_each_time() -> None:
    g = generator()
    drawn = torch.stack([masked_rows(8, 0.5, g) for _ in range(200)])
    assert (drawn.float().mean(0) - 0.5).abs().max() < 0.15


def test_norms_biases_and_tokens_do_not_decay() -> None:
    inputs = NetworkInputs(crop_px=32, hazard_groups=(3, 1), learned_missing=True)
    network = build_network("qmf_tiny", inputs=inputs)
    groups = parameter_groups(network, lr=1e-3, weight_decay=0.05)
    names = {id(p): name for name, p in network.named_parameters()}
    decays = {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}
    still = {names[id(p)] for g in groups if not g["weight_decay"] for p in g["params"]}
    assert decays | still == set(names.values())
    assert sum(len(g["params"]) for g in groups) == len(names)
    norms = {
        f"{path}.{name}"
        for path, module in network.named_modules()
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)
        for name, _ in module.named_parameters()
    }
    biases = {name for name in names.values() if name.endswith("bias")}
    tokens = {"cls_token_1", "cls_token_2", "meta_1_head_1.missing_token"}
    assert norms | biases | tokens <= still
    assert {"head.weight", "stage_0.0.weight", "aggregate.weight"} <= decays
    assert "stage_3.0.attn.relative_position_bias_table" in decays


def test_parts_learn_at_their_own_rate_and_frozen_ones_not_at_all() -> None:
    network = build_network("fc_siam_diff_small")
    assert isinstance(network, FcSiam)
    scales = {"encoder.": 0.1, "encoder.2.": 0.5}
    groups = parameter_groups(network, lr=1.0, weight_decay=0.0, lr_scales=scales)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    for name, parameter in network.named_parameters():
        expected = 0.5 if name.startswith("encoder.2.") else 0.1 if "encoder" in name else 1.0
        assert rates[id(parameter)] == expected
    network.freeze_encoder()
    left = parameter_groups(network, lr=1.0, weight_decay=0.0)
    count = sum(p.numel() for g in left for p in g["params"])
    assert count == sum(
        p.numel() for p in (*network.up.parameters(), *network.decoder.parameters())
    )
    with pytest.raises(ConfigError, match=r"no parameter is called encodr…"):
        parameter_groups(network, lr=1.0, weight_decay=0.0, lr_scales={"encodr": 0.1})


def test_the_paper_s_rates() -> None:
    schedule = CosineWarmup(steps=150, warmup_steps=20)
    assert schedule.at(0) == pytest.approx(5e-7)
    assert schedule.at(10) == pytest.approx((5e-7 + 5e-5) / 2)
    assert schedule.at(20) == pytest.approx(5e-5)
    assert schedule.at(85) == pytest.approx((5e-5 + 5e-6) / 2)
    assert schedule.at(150) == schedule.at(999) == pytest.approx(5e-6)
    # One GPU with batches of 20: the peak that the authors' code ends up with.
    assert schedule.scaled(20).at(20) == pytest.approx(1.95e-6, rel=2e-3)
    assert schedule.scaled(512) == schedule


@given(steps=st.integers(2, 200), data=st.data())
def test_the_rate_rises_then_falls(steps: int, data: st.DataObject) -> None:
    warm = data.draw(st.integers(0, steps - 1))
    schedule = CosineWarmup(steps=steps, warmup_steps=warm)
    rates = [schedule.at(step) for step in range(steps + 1)]
    assert rates[: warm + 1] == sorted(rates[: warm + 1])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert max(rates) == pytest.approx(5e-5)


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 0 to 9 of 10 steps, got 10"):
        CosineWarmup(steps=10, warmup_steps=10)


def _optimiser() -> torch.optim.AdamW:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    scales = {"0.": 0.1}
    return torch.optim.AdamW(parameter_groups(network, lr=1e-2, weight_decay=0, lr_scales=scales))


def test_a_resumed_schedule_goes_on() -> None:
    schedule = CosineWarmup(steps=10, warmup_steps=3, peak=1e-2, floor=1e-4, start=1e-5)
    optimiser = _optimiser()
    driver = cosine_warmup(optimiser, schedule)
    for step in range(5):
        rates = [g["lr"] for g in optimiser.param_groups]
        assert max(rates) == pytest.approx(schedule.at(step))
        assert min(rates) == pytest.approx(0.1 * schedule.at(step))
        optimiser.step()
        driver.step()
    again = _optimiser()
    again.load_state_dict(optimiser.state_dict())
    resumed = cosine_warmup(again, schedule)
    resumed.load_state_dict(driver.state_dict())
    for _ in range(3):
        for one, one_driver in ((optimiser, driver), (again, resumed)):
            one.step()
            one_driver.step()
        assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in optimiser.param_groups]


def test_one_cycle_ends_at_nothing_and_keeps_each_group_s_peak() -> None:
    optimiser = _optimiser()
    driver = one_cycle(optimiser, steps=20)
    rates = []
    for _ in range(20):
        optimiser.step()
        driver.step()
        rates.append([g["lr"] for g in optimiser.param_groups])
    peaks = [max(column) for column in zip(*rates, strict=True)]  # weights and biases of each
    assert sorted(peaks) == pytest.approx([1e-3, 1e-3, 1e-2, 1e-2], rel=0.02)
    assert max(rates[-1]) < 1e-6
