"""The metadata encoders of QuakeMetaFormer with their own head, as scikit-learn classifiers.

A fit takes a few seconds and runs in this process, so that folds and tuning can treat a network
like any other model.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn

from training.hazard.terms import REACH
from training.losses import inverse_frequency_weights, modified_focal
from training.networks import NetworkInputs, build_network
from training.schedules import one_cycle, parameter_groups
from training.seeds import torch_rng, torch_seed

Loss = Literal["cross_entropy", "focal"]
BATCH, RATE, WEIGHT_DECAY, DROPOUT = 512, 1e-3, 0.05, 0.1
SHAKING = ("mmi", "pga", "pgv", "psa")


class EncoderClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped sklearn
    """A `hazard_*` network fitted on z-scores, 0 where a value is missing.

    Args:
        network: `hazard_mlp`, `hazard_resnorm` or `hazard_deepmlp`.
        groups: sizes of the value groups, in order.
        loss: `focal` is the paper's: gamma 4, inverse frequencies as weights, here averaged
            over the batch so that the learning rate has the same effect for both losses.
        epochs: passes over the points.
        seeds: number of networks whose probabilities are averaged.
    """

    def __init__(
        self,
        network: str = "hazard_mlp",
        groups: tuple[int, ...] = (4, 1),
        loss: Loss = "cross_entropy",
        epochs: int = 6,
        seeds: int = 2,
    ) -> None:
        self.network = network
        self.groups = groups
        self.loss = loss
        self.epochs = epochs
        self.seeds = seeds

    def fit(self, X: NDArray[np.floating], y: NDArray[np.integer[Any]]) -> "EncoderClassifier":
        self.classes_, label_N = np.unique(y, return_inverse=True)
        self.mean_, self.std_ = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
        label = torch.from_numpy(label_N)
        self.networks_ = [self._fitted(self._scores(X), label, s) for s in range(self.seeds)]
        return self

    def predict_proba(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        score_NM = self._scores(X)
        with torch.inference_mode():
            each = [torch.softmax(net(score_NM).double(), dim=1) for net in self.networks_]
        p_NC: NDArray[np.float64] = torch.stack(each).mean(dim=0).numpy()
        return p_NC

    def _scores(self, X: NDArray[np.floating]) -> Tensor:
        z_NM = np.clip((np.asarray(X, np.float64) - self.mean_) / self.std_, -REACH, REACH)
        return torch.from_numpy(np.nan_to_num(z_NM, nan=0.0).astype(np.float32))

    def _fitted(self, score_NM: Tensor, label_N: Tensor, seed: int) -> nn.Module:
        torch.manual_seed(torch_seed(seed))
        inputs = NetworkInputs(classes=len(self.classes_), hazard_groups=self.groups)
        network = build_network(self.network, dropout=DROPOUT, inputs=inputs).train()
        groups = parameter_groups(network, lr=RATE, weight_decay=WEIGHT_DECAY)
        optimiser = torch.optim.AdamW(groups)
        batch = min(BATCH, len(label_N))
        steps = len(label_N) // batch
        schedule = one_cycle(optimiser, steps=self.epochs * steps)
        order_rng = torch_rng(seed, 1)
        weights_C, gamma = self._loss_of(label_N)
        for _ in range(self.epochs):
            order_N = torch.randperm(len(label_N), generator=order_rng)
            for rows in torch.split(order_N[: steps * batch], batch):
                loss = modified_focal(
                    network(score_NM[rows]), label_N[rows], weights_C, gamma=gamma, reduction="mean"
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        return network.eval()

    def _loss_of(self, label_N: Tensor) -> tuple[Tensor | None, float]:
        """Class weights, scaled to weigh 1 on average, and gamma."""
        if self.loss == "cross_entropy":
            return None, 0.0
        weights_C = inverse_frequency_weights(torch.bincount(label_N).tolist())
        return weights_C / weights_C[label_N].mean(), 4.0


def groups_of(names: Sequence[str]) -> tuple[int, ...]:
    """Sizes of groups of adjacent values of one kind: layers, shaking, soil.

    The field points have groups (4, 1), as in the paper.
    """
    kinds = [
        "shaking" if n.startswith(SHAKING) else "soil" if n.startswith("vs30") else "layer"
        for n in names
    ]
    starts = [i for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
    return tuple(np.diff([*starts, len(names)]).tolist())
