"""The any-way head: assignments, loss, answer, and the steps that adapt it to an event.

Axis legend: N items, D features, K outputs of the head, G assignments, C grades of the episode.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quakestream.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """The steps that fit a head to the few labels of an event."""

    steps: int = 5
    lr: float = 0.1
    second_order: bool = True
    """Let the outer gradient flow through the steps."""


class AnyWayHead(nn.Module):
    """One hidden layer, many outputs, and a second head that knows the grades of training.

    Args:
        features: features of an item.
        hidden: width of the hidden layer.
        outputs: outputs without a fixed meaning.
        grades: grades of the second head, which is not adapted and not used at test; 0 for none.
    """

    def __init__(self, features: int, *, hidden: int = 64, outputs: int = 30, grades: int = 0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.ReLU())
        self.out = nn.Linear(hidden, outputs)
        self.semantic = nn.Linear(hidden, grades) if grades else None

    @property
    def outputs(self) -> int:
        return self.out.out_features

    def forward(self, feature_ND: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.out(self.body(feature_ND))
        return logits

    def grade_logits(self, feature_ND: Tensor) -> Tensor:
        """Logits of the second head.

        Raises:
            ConfigError: if there is none.
        """
        if self.semantic is None:
            raise ConfigError("head knows no grades", "AnyWayHead", remedy="state grades")
        logits: Tensor = self.semantic(self.body(feature_ND))
        return logits


def assignments(outputs: int, ways: int, generator: torch.Generator) -> Tensor:
    """As many disjoint assignments of grades to outputs as fit, (G, C).

    Raises:
        ConfigError: if there are more grades than outputs, or fewer than two.
    """
    if not 2 <= ways <= outputs:
        raise ConfigError(
            "grades do not fit the head", "ways", expected=f"2 to {outputs}", got=str(ways)
        )
    order_K = torch.randperm(outputs, generator=generator)
    count = outputs // ways
    return order_K[: count * ways].reshape(count, ways)


def anyway_loss(logits_NK: Tensor, label_N: Tensor, output_GC: Tensor) -> Tensor:
    """Sum over assignments of the cross-entropy among the outputs of an assignment."""
    logits_GNC = logits_NK[:, output_GC].transpose(0, 1)
    groups, _, ways = logits_GNC.shape
    mean: Tensor = nn.functional.cross_entropy(logits_GNC.reshape(-1, ways), label_N.repeat(groups))
    return mean * groups


def anyway_scores(logits_NK: Tensor, output_GC: Tensor, *, tau: float = 0.0) -> Tensor:
    """Score of each grade: the sum of its logits over the assignments, (N, C).

    Args:
        logits_NK: outputs of the head.
        output_GC: the assignments.
        tau: grades that a score is shared with, by exp(-distance / tau); 0 shares with none. This
            uses the order of grades, which the paper does not.
    """
    score_NC = logits_NK[:, output_GC].sum(dim=1)
    if not tau:
        return score_NC
    grade_C = torch.arange(output_GC.shape[1], dtype=score_NC.dtype)
    near_CC = torch.exp(-(grade_C[:, None] - grade_C).abs() / tau)
    shared: Tensor = torch.softmax(score_NC / len(output_GC), dim=1) @ near_CC
    return shared


def adapted(
    head: AnyWayHead, feature_ND: Tensor, label_N: Tensor, output_GC: Tensor, how: Adaptation
) -> dict[str, Tensor]:
    """Weights of the head after some gradient steps on the labels of an event.

    The second head is not adapted.
    """
    fast: dict[str, Tensor] = {
        n: p for n, p in head.named_parameters() if not n.startswith("semantic.")
    }
    for _ in range(how.steps):
        loss = anyway_loss(call(head, fast, feature_ND), label_N, output_GC)
        gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=how.second_order)
        fast = {n: p - how.lr * g for (n, p), g in zip(fast.items(), gradients, strict=True)}
    return fast


def call(head: AnyWayHead, weights: Mapping[str, Tensor], feature_ND: Tensor) -> Tensor:
    """Logits (N, K) of the head with other weights."""
    logits: Tensor = functional_call(head, dict(weights), (feature_ND,))
    return logits
