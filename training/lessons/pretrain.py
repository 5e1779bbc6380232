"""Contrastive pre-training on image pairs: damaged places lie apart, others lie together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from quakestream.domain import Window
from quakestream.errors import ConfigError
from training.config import PretrainConfig
from training.data.augment import Chips
from training.data.pairs import Building, LabelledPair
from training.data.splits import buildings_on
from training.lessons.base import Figures, Lesson, TrainingBatch
from training.lessons.pairs import PairChips
from training.losses import UNKNOWN, pairs_contrast, siamese_contrast
from training.metrics import MIN_PER_STATE
from training.networks import Embedding, NetworkInputs, build_fc_siam
from training.networks.fc_siam import stack_dates
from training.scoring import normalised
from training.seeds import rng
from training.worker_group import Share, gather

AT_ONCE = 64
"""Chips that are evaluated in one call."""
_OTHERS = 3
"""A stream of random numbers."""


class PretrainLesson:
    """Trains an encoder to tell places with a destroyed building from places without one.

    Siamese networks compare the two dates of a place. FC-EF takes both dates at once and compares
    two places; in half of the cases one of them was damaged.

    Raises:
        ConfigError: if the network does not compare two dates.
    """

    streams = False

    def __init__(self, config: PretrainConfig, pairs: Sequence[LabelledPair]) -> None:
        self._config, self._pairs = config, pairs
        if not config.network.startswith("fc_"):
            raise ConfigError(
                "pre-training needs a network that compares two dates",
                f"network {config.network}",
                remedy="use an fc network",
            )
        self._early = config.network.startswith("fc_ef_")
        self._chips = PairChips(config, pairs)

    @property
    def inputs(self) -> NetworkInputs:
        return NetworkInputs()

    @property
    def examples(self) -> int:
        return self._chips.buildings

    def facts(self) -> dict[str, Any]:
        return {"destroyed_intact": list(self._chips.counts)}

    def network(self) -> nn.Module:
        network = build_fc_siam(self._config.network, dropout=self._config.dropout)
        for part in (network.up, network.decoder):
            part.requires_grad_(False)
        return Embedding(network, self._config.width)

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        share = Share(total=self._config.schedule.global_batch, rank=rank, world=world)
        chips = self._chips.share(number, share)
        return TrainingBatch(
            tensors={
                "pre_NBYX": chips.pre_NBYX,
                "post_NBYX": chips.post_NBYX,
                "damage_N": _damage(chips),
            },
            share=share,
        )

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        margin, share = self._config.margin, batch.share
        damage_N = gather(batch["damage_N"], share)
        first_ND, second_ND = self._points(network, batch["pre_NBYX"], batch["post_NBYX"])
        if not self._early:
            return siamese_contrast(
                gather(first_ND, share), gather(second_ND, share), damage_N, margin=margin
            )
        point_ND = gather(torch.cat([first_ND, second_ND]), share)
        other = torch.from_numpy(self._others(number, share.total))
        return pairs_contrast(point_ND, point_ND[other], damage_N, damage_N[other], margin=margin)

    def judge(self, network: nn.Module) -> Figures:
        """ROC area of distance as a score of "differ", over held-out places."""
        firsts, seconds, states = [], [], []  # one entry per chunk, places in the order of states
        with torch.inference_mode():
            for pair in self._pairs:
                for pre, post, destroyed_N in held_chips(self._config, pair):
                    first_ND, second_ND = self._points(network, pre, post)
                    firsts.append(first_ND)
                    seconds.append(second_ND)
                    states.append(destroyed_N)
        differ_N = np.concatenate(states) if states else np.zeros(0, bool)
        if self._early:
            # Both halves of a chunk, then the next chunk: the order of the states.
            halves = [part for chunk in zip(firsts, seconds, strict=True) for part in chunk]
            point_ND, other = torch.cat(halves), self._others(0, len(differ_N))
            apart_N = (point_ND - point_ND[other]).square().sum(dim=1)
            differ_N = differ_N != differ_N[other]
        else:
            apart_N = (torch.cat(firsts) - torch.cat(seconds)).square().sum(dim=1)
        few = min(differ_N.sum(), (~differ_N).sum()) < MIN_PER_STATE
        return {"auc": float("nan") if few else float(roc_auc_score(differ_N, apart_N.numpy()))}

    def _points(self, network: nn.Module, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Points of both dates of each place; for FC-EF, of the two halves of the places."""
        if not self._early:
            first_ND, second_ND = network(pre, post)
        else:
            both = stack_dates(pre, post)
            half = (len(both) + 1) // 2
            first_ND, second_ND = network(both[:half], both[half:])
        return first_ND, second_ND

    def _others(self, number: int, count: int) -> NDArray[np.int64]:
        """The place that each place is compared with."""
        return rng(self._config.run.seed, _OTHERS, number).permutation(count)


def held_chips(
    config: PretrainConfig, pair: LabelledPair
) -> Iterator[tuple[Tensor, Tensor, NDArray[np.bool_]]]:
    """Chips around held-out buildings, without augmentation: pre, post, destroyed."""
    held = config.ground.held_ground(pair)
    buildings = buildings_on("held", pair, held, buffer_m=config.split.buffer_m)
    for first in range(0, len(buildings), AT_ONCE):
        some = buildings[first : first + AT_ONCE]
        windows = [_around(building, pair, config.chip_px) for building in some]
        yield (
            torch.cat([normalised(pair.pre, window) for window in windows]),
            torch.cat([normalised(pair.post, window) for window in windows]),
            np.array([building.destroyed for building in some], bool),
        )


def _around(building: Building, pair: LabelledPair, side: int) -> Window:
    centre = building.geometry.centroid
    col, row = ~pair.grid.transform @ (centre.x, centre.y)
    return Window(row=int(row) - side // 2, col=int(col) - side // 2, height=side, width=side)


def _damage(chips: Chips) -> Tensor:
    """1 where a chip shows a destroyed building, 0 where it shows only intact ones."""
    owner_NP = chips.owner_NYX.flatten(1)
    destroyed_N, intact_N = (owner_NP > 0).any(dim=1), (owner_NP < 0).any(dim=1)
    return torch.where(destroyed_N, 1, torch.where(intact_N, 0, UNKNOWN))


_: type[Lesson] = PretrainLesson
