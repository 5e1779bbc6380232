"""The positive-unlabelled risk against hand computations and the laws of its papers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quakestream.errors import ConfigError
from training.losses import LossWeights, UnlabelledRisk, damage_loss, unlabelled_risk

LOGITS = [2.0, 0.0, -1.0, 1.0, -2.0]
DESTROYED = torch.tensor([True, True, False, False, False])


def _yes(z: float) -> float:
    return math.log1p(math.exp(-z))


def _no(z: float) -> float:
    return math.log1p(math.exp(z))


def test_the_risk_is_the_formula_of_kiryo_et_al() -> None:
    """pi R_p(+) + R_u(-) - pi R_p(-), with three unlabelled examples and pi 0.3."""
    how = UnlabelledRisk(prior=0.3, assumed_share=0.3)
    unlabelled = (_no(-1) + _no(1) + _no(-2)) / 3
    by_hand = 0.3 * (_yes(2) + _yes(0)) / 2 + unlabelled - 0.3 * (_no(2) + _no(0)) / 2
    risk = unlabelled_risk(torch.tensor(LOGITS), DESTROYED, how)
    assert risk.item() == pytest.approx(by_hand, rel=1e-6)
    assert risk.item() == pytest.approx(0.284484, abs=1e-6)


def test_the_bounded_cost_is_a_sigmoid() -> None:
    how = UnlabelledRisk(prior=0.3, assumed_share=0.3, surrogate="sigmoid")
    s = [1 / (1 + math.exp(-z)) for z in LOGITS]
    by_hand = 0.3 * (2 - s[0] - s[1]) / 2 + sum(s[2:]) / 3 - 0.3 * (s[0] + s[1]) / 2
    risk = unlabelled_risk(torch.tensor(LOGITS), DESTROYED, how)
    assert risk.item() == pytest.approx(by_hand, rel=1e-6)


def test_an_estimate_below_zero_is_clipped_and_climbed_out_of() -> None:
    logits = torch.tensor([4.0, 3.0, -6.0, -6.0, -6.0], requires_grad=True)
    how = UnlabelledRisk(prior=0.4, assumed_share=0.4, ascent=0.5)
    intact = _no(-6) - 0.4 * (_no(4) + _no(3)) / 2
    assert intact < 0
    risk = unlabelled_risk(logits, DESTROYED, how)
    assert risk.item() == pytest.approx(0.4 * (_yes(4) + _yes(3)) / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(risk, logits)
    # Of -0.5 (R_u(-) - 0.4 R_p(-)): unlabelled logits rise, and those of the destroyed fall.
    assert gradient[2].item() == pytest.approx(-0.5 / 3 / (1 + math.exp(6)), rel=1e-4)
    assert gradient[0].item() == pytest.approx(0.5 * 0.4 / 2 / (1 + math.exp(-4)), rel=1e-4)


@given(seed=st.integers(0, 2**31))
def test_without_a_prior_it_is_the_balanced_cross_entropy(seed: int) -> None:
    logits, owner = _chips(seed)
    plain = damage_loss(logits, owner, LossWeights())
    risk = damage_loss(logits, owner, LossWeights(), UnlabelledRisk(prior=0.0))
    torch.testing.assert_close(risk, plain)


@given(seed=st.integers(0, 2**31))
def test_a_true_mixture_has_the_risk_of_known_labels(seed: int) -> None:
    """Three destroyed and seven intact without labels, and the three again with theirs."""
    g = torch.Generator().manual_seed(seed)
    destroyed, intact = torch.randn(3, generator=g), torch.randn(7, generator=g)
    logits = torch.cat([destroyed, destroyed, intact])
    labelled = torch.arange(13) < 3
    risk = unlabelled_risk(logits, labelled, UnlabelledRisk(prior=0.3))
    known = unlabelled_risk(
        torch.cat([destroyed, intact]), torch.arange(10) < 3, UnlabelledRisk(prior=0.0)
    )
    torch.testing.assert_close(risk, known)


def test_a_destroyed_building_without_label_is_found() -> None:
    """Of 200 unlabelled points 60 lie among the destroyed; only nnPU calls most of them so."""
    g = torch.Generator().manual_seed(0)
    value = torch.cat([torch.randn(300, generator=g) + 2, torch.randn(140, generator=g) - 2])
    labelled = torch.arange(440) < 240
    hidden, called = slice(240, 300), {}
    for prior in (0.0, 0.3):
        line = torch.zeros(2, requires_grad=True)
        step = torch.optim.Adam([line], lr=0.1)
        for _ in range(150):
            step.zero_grad()
            risk = unlabelled_risk(line[0] * value + line[1], labelled, UnlabelledRisk(prior=prior))
            risk.backward()  # type: ignore[no-untyped-call]
            step.step()
        p = torch.sigmoid(line[0] * value + line[1]).detach()
        called[prior] = float(p[hidden].mean())
    assert called[0.3] > 0.9
    assert called[0.0] < called[0.3] - 0.1


@pytest.mark.parametrize(
    "wrong", [{"prior": 1.0}, {"prior": -0.1}, {"assumed_share": 0.0}, {"ascent": -1.0}]
)
def test_impossible_shares_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected 0 <= prior < 1"):
        UnlabelledRisk(**wrong)


def _chips(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    owner = torch.zeros(2, 8, 8, dtype=torch.long)
    owner[0, :3, :3], owner[0, 5:, 5:], owner[1, :4] = 1, -2, -1
    return torch.randn(2, 1, 8, 8, generator=g), owner
