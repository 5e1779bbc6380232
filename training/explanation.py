"""Importance of a model's inputs, measured in two ways that fail differently.

**Shapley values** divide each building's class probabilities among the image and the groups of
hazard values. The value of an input is what it adds, averaged over all orders in which inputs
could arrive. An absent input is taken from other buildings, so inputs that are correlated share
their values. **Permutation** measures what the figures lose when an input is shuffled among
buildings. An input that a model uses without getting better has a Shapley value, but no loss.

Axis legend: N buildings, B background buildings, S coalitions, P players, C classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import RequestError
from training.graphs import Arrays
from training.metrics import class_figures
from training.models import BATCH, Model, hazard_groups
from training.shapley import (
    MAX_EXACT,
    all_coalitions,
    exact_values,
    kernel_values,
    sampled_coalitions,
)

IMAGE = "image"
COALITIONS = 512
"""Coalitions that are sampled for many players; each comes with its complement."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Players:
    """The inputs that importance is divided among, each a set of columns of the graph's inputs."""

    names: tuple[str, ...]
    columns: tuple[tuple[int, ...] | None, ...]
    """Hazard columns of each player; None is the image with its scene's statistics."""

    @classmethod
    def of(cls, model: Model, *, single: bool = False) -> "Players":
        """The image and each group of hazard values, or each value by itself."""
        names = [h.name for h in model.spec.hazard]
        groups = {n: (n,) for n in names} if single else hazard_groups(model.spec)
        members = {name: tuple(names.index(m) for m in group) for name, group in groups.items()}
        image = {IMAGE: None} if model.spec.epochs else {}
        if len(image) + len(members) < 2:
            raise RequestError("model takes one kind of input: nothing to compare", model.spec.name)
        return cls(names=(*image, *members), columns=(*image.values(), *members.values()))

    def mixed(self, own: Arrays, other: Arrays, present_P: NDArray[np.bool_]) -> Arrays:
        """Inputs with present players from one building and all other players from another."""
        given = dict(zip(self.columns, present_P, strict=True))
        arrays = {
            name: array if given.get(None, True) else other[name]
            for name, array in own.items()
            if name != "hazard"
        }
        if "hazard" in own:
            value_NM = other["hazard"].copy()
            for columns, there in given.items():
                if columns is not None and there:
                    value_NM[:, columns] = own["hazard"][:, columns]
            arrays["hazard"] = value_NM
        return arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Importance of each player; tables are (player, class)."""

    model: str
    classes: tuple[str, ...]
    players: tuple[str, ...]
    buildings: int
    background: int
    coalitions: int
    method: str
    base: tuple[float, ...]
    """Mean probability of each class when no input of a building is known."""
    shapley: tuple[tuple[float, ...], ...]
    """Mean |Shapley value| of a class's probability."""
    share: tuple[tuple[float, ...], ...]
    """`shapley` as shares of each class's sum over players."""
    signed: tuple[tuple[float, ...], ...]
    """Mean Shapley value of a class's probability, over the buildings of that class: above 0 where
    an input speaks for what is true. NaN for a class without a building."""
    slope: tuple[tuple[float, ...], ...]
    """Change of a class's Shapley value per standard deviation of the input itself, by least
    squares: above 0 where larger values speak for the class. NaN for inputs of several numbers, and
    for one that is the same for all buildings."""
    additivity: float
    """Largest |sum of values - (probability - base)| of a building, which is rounding error."""
    drop: tuple[dict[str, float], ...]
    """Permutation: loss of macro AUC, macro F1 and accuracy, mean and spread over permutations."""
    auc_drop: tuple[tuple[float, ...], ...]
    """Permutation: loss of each class's ROC area; NaN for a class without one."""
    figures: dict[str, float]
    """Figures with all inputs in place."""


def explain(
    model: Model,
    items: Arrays,
    label_N: NDArray[np.int64],
    background: Arrays,
    *,
    single: bool = False,
    deals: int = 5,
    seed: int = 0,
) -> Explanation:
    """Explains a model on some buildings.

    Args:
        model: the model.
        items: inputs of the buildings to explain, by name, N rows.
        label_N: classes of the buildings.
        background: inputs of the buildings that absent inputs are taken from.
        single: make every hazard value a player, instead of every group.
        deals: times that each input is permuted.
        seed: seed of coalitions and permutations.

    Raises:
        RequestError: if the model has one input only.
    """
    players = Players.of(model, single=single)
    rng = np.random.default_rng(seed)
    value_NPC, ends_2NC, coalitions = shapley_values(model, players, items, background, rng)
    absolute_PC = np.abs(value_NPC).mean(axis=0)
    gap_NC = value_NPC.sum(axis=1) - (ends_2NC[1] - ends_2NC[0])
    drops, auc_drop_PC, figures = permutation(model, players, items, label_N, deals=deals, rng=rng)
    return Explanation(
        model=model.spec.name,
        classes=model.spec.labels,
        players=players.names,
        buildings=len(label_N),
        background=_rows(background),
        coalitions=coalitions,
        method="exact" if len(players.names) <= MAX_EXACT else "kernel",
        base=_row(ends_2NC[0].mean(axis=0)),
        shapley=_table(absolute_PC),
        signed=_table(_towards_truth(value_NPC, label_N)),
        slope=_table(_slopes(value_NPC, players, items)),
        share=_table(absolute_PC / np.maximum(absolute_PC.sum(axis=0), 1e-12)),
        additivity=float(np.abs(gap_NC).max()),
        drop=drops,
        auc_drop=_table(auc_drop_PC),
        figures=figures,
    )


def _towards_truth(
    value_NPC: NDArray[np.float64], label_N: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean value of each player for a class, over the buildings of the class, (P, C)."""
    means = []
    for c in range(value_NPC.shape[2]):
        own_NP = value_NPC[label_N == c, :, c]
        means.append(own_NP.mean(axis=0) if len(own_NP) else np.full(value_NPC.shape[1], np.nan))
    return np.stack(means, axis=1)


def _slopes(value_NPC: NDArray[np.float64], players: Players, items: Arrays) -> NDArray[np.float64]:
    """Slope of the values of each player of one number over that number, (P, C)."""
    slope_PC = np.full(value_NPC.shape[1:], np.nan)
    for p, columns in enumerate(players.columns):
        if columns is None or len(columns) != 1:
            continue
        own_N = items["hazard"][:, columns[0]].astype(np.float64)
        known_N = np.isfinite(own_N)
        if not known_N.any() or (spread := own_N[known_N].std()) == 0:
            continue
        z_N = (own_N[known_N] - own_N[known_N].mean()) / spread
        slope_PC[p] = z_N @ value_NPC[known_N, p] / len(z_N)
    return slope_PC


def shapley_values(
    model: Model,
    players: Players,
    items: Arrays,
    background: Arrays,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Values (N, P, C), probabilities with no and with all players (2, N, C), coalition count."""
    count, classes = _rows(items), len(model.spec.classes)
    many = len(players.names)

    def values(present_SP: NDArray[np.bool_]) -> NDArray[np.float64]:
        each = [coalition_value(model, players, items, background, row) for row in present_SP]
        return np.stack(each).reshape(len(present_SP), count * classes)

    if many <= MAX_EXACT:
        value_SK = values(all_coalitions(many))
        value_PK, ends_2K = exact_values(value_SK, many), value_SK[[0, -1]]
        coalitions = len(value_SK)
    else:
        present_SP, times_S = sampled_coalitions(many, COALITIONS, rng)
        ends_2K = values(np.array([[False] * many, [True] * many]))
        value_PK = kernel_values(present_SP, values(present_SP), ends_2K, times_S)
        coalitions = len(present_SP) + 2
    value_NPC = value_PK.reshape(many, count, classes).transpose(1, 0, 2)
    return value_NPC, ends_2K.reshape(2, count, classes), coalitions


def coalition_value(
    model: Model,
    players: Players,
    items: Arrays,
    background: Arrays,
    present_P: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Mean probabilities (N, C) with absent players taken from each background building."""
    count, others = _rows(items), _rows(background)
    if present_P.all():
        return _probabilities(model, items)
    if not present_P.any():
        return np.tile(_probabilities(model, background).mean(axis=0), (count, 1))
    sums_NC = np.zeros((count, len(model.spec.classes)))
    for b in range(others):
        other = {k: np.repeat(v[b : b + 1], count, axis=0) for k, v in background.items()}
        sums_NC += _probabilities(model, players.mixed(items, other, present_P))
    return sums_NC / others


def permutation(
    model: Model,
    players: Players,
    items: Arrays,
    label_N: NDArray[np.int64],
    *,
    deals: int,
    rng: np.random.Generator,
) -> tuple[tuple[dict[str, float], ...], NDArray[np.float64], dict[str, float]]:
    """Loss of the figures per player, loss of each class's ROC area (P, C), and the figures."""
    names = ("macro_auc", "macro_f1", "accuracy")
    whole = class_figures(_probabilities(model, items), label_N)
    drops, auc_PC = [], []
    for p in range(len(players.names)):
        present_P = np.arange(len(players.names)) != p
        figures = []
        for _ in range(deals):
            order = rng.permutation(len(label_N))
            permuted = players.mixed(items, {k: v[order] for k, v in items.items()}, present_P)
            figures.append(class_figures(_probabilities(model, permuted), label_N))
        lost = {n: [getattr(whole, n) - getattr(f, n) for f in figures] for n in names}
        drops.append(
            {n: float(np.mean(v)) for n, v in lost.items()}
            | {f"{n}_spread": float(np.std(v)) for n, v in lost.items()}
        )
        auc_PC.append(np.mean([np.subtract(whole.auc, f.auc) for f in figures], axis=0))
    return tuple(drops), np.array(auc_PC), {n: getattr(whole, n) for n in names}


def _probabilities(model: Model, arrays: Arrays) -> NDArray[np.float64]:
    parts = [model.probabilities(part) for part in _batches(arrays)]
    return np.concatenate(parts)


def _batches(arrays: Arrays) -> Iterator[Arrays]:
    for start in range(0, _rows(arrays), BATCH):
        yield {name: array[start : start + BATCH] for name, array in arrays.items()}


def _rows(arrays: Mapping[str, NDArray[np.generic]]) -> int:
    return len(next(iter(arrays.values())))


def _row(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _table(values: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(row) for row in values)
