"""Nested folds: what is held out never chooses anything of the model that is judged on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from quakestream.errors import RequestError
from training.data.split import FIELD_BLOCK_DEG, FIELD_BUFFER_DEG, Fold, block_folds
from training.hazard.families import FAMILIES, Family, Settings, masked_copies
from training.hazard.judging import Predicted, macro_auc
from training.hazard.points import HazardPoints

OUTER, INNER = 5, 3
SMALLEST = 1e-6
"""Probabilities below this count as this: no place rules a class out."""
TEMPERATURES = (0.2, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to fit one model: families whose probabilities are averaged, with their settings."""

    parts: tuple[tuple[Family, Settings], ...]
    masked: bool = False
    """Points are also given with values taken away."""

    @property
    def name(self) -> str:
        return "+".join(f.name for f, _ in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings by name; those of several parts by part."""
        each = {f.name: dict(s) for f, s in self.parts}
        return each if len(each) > 1 else next(iter(each.values()))

    def fit(
        self, values_NM: NDArray[np.floating], label_N: NDArray[np.int64], *, tuning: bool = False
    ) -> list[Any]:
        """A fitted classifier per part."""
        if self.masked:
            values_NM, label_N = masked_copies(values_NM, label_N)
        return [f.model(s, tuning=tuning).fit(values_NM, label_N) for f, s in self.parts]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuned:
    """A recipe chosen on inner folds, and what those folds say of it."""

    recipe: Recipe
    inner_auc: float
    temperature: float
    """With the least log-loss on the inner folds' held-out points."""
    inner: Predicted


def folds_of(points: HazardPoints, folds: int, seed: int = 0) -> tuple[Fold, ...]:
    """Blocks of 0.02° with a buffer of 0.005°; every side of every fold has every class.

    Raises:
        RequestError: if the points do not lie in enough blocks, or a class in too few of them.
    """
    parts = block_folds(points.lon_N, points.lat_N, FIELD_BLOCK_DEG, FIELD_BUFFER_DEG, folds, seed)
    for number, fold in enumerate(parts):
        count_C = np.bincount(points.label_N[fold.train_N], minlength=len(points.classes))
        if (count_C == 0).any():
            lost = ", ".join(np.array(points.classes)[count_C == 0])
            raise RequestError(
                f"fold {number} of {folds} leaves no example of {lost} to learn from: the class "
                "lies in too few blocks of 0.02°; leave it out or merge it with a neighbour"
            )
    return parts


def tune(family: Family, points: HazardPoints, *, masked: bool = False, seed: int = 0) -> Tuned:
    """The settings with the best macro AUC on inner folds of these points."""
    folds = folds_of(points, INNER, seed)
    best: Tuned | None = None
    for settings in family.settings():
        recipe = Recipe(parts=((family, settings),), masked=masked)
        found = _judged(recipe, points, out_of_fold(recipe, points, folds, tuning=True))
        if best is None or found.inner_auc > best.inner_auc:
            best = found
    assert best is not None  # a grid has one combination at least
    return best


def blend(tuned: Sequence[Tuned], points: HazardPoints) -> Tuned:
    """The mean of probabilities of models tuned on the same inner folds; of one, itself."""
    if len(tuned) == 1:
        return tuned[0]
    inner = Predicted(
        p_NC=np.mean([t.inner.p_NC for t in tuned], axis=0),
        prior_NC=tuned[0].inner.prior_NC,
        folds=tuned[0].inner.folds,
    )
    recipe = Recipe(
        parts=tuple(part for t in tuned for part in t.recipe.parts),
        masked=tuned[0].recipe.masked,
    )
    return _judged(recipe, points, inner)


def choose(
    points: HazardPoints,
    candidates: Sequence[Sequence[str]],
    *,
    families: Mapping[str, Family] = FAMILIES,
    masked: bool = False,
    seed: int = 0,
) -> Tuned:
    """The best candidate on inner folds; one of several families is their mean."""
    names = dict.fromkeys(name for candidate in candidates for name in candidate)
    single = {n: tune(families[n], points, masked=masked, seed=seed) for n in names}
    tuned = [blend([single[n] for n in candidate], points) for candidate in candidates]
    return max(tuned, key=lambda t: t.inner_auc)


def out_of_fold(
    recipe: Recipe, points: HazardPoints, folds: Sequence[Fold], *, tuning: bool = False
) -> Predicted:
    """Predictions of each fold's held-out points by models fitted on its training points."""
    return gathered(
        points,
        folds,
        [
            mean_probabilities(
                recipe.fit(points.values_NM[f.train_N], points.label_N[f.train_N], tuning=tuning),
                points.values_NM[f.held_N],
            )
            for f in folds
        ],
    )


def gathered(
    points: HazardPoints, folds: Sequence[Fold], p_held: Sequence[NDArray[np.float64]]
) -> Predicted:
    """Predictions per fold put back in the points' order."""
    classes = len(points.classes)
    p_NC = np.full((len(points), classes), np.nan)
    prior_NC = np.full((len(points), classes), np.nan)
    for fold, p_KC in zip(folds, p_held, strict=True):
        p_NC[fold.held_N] = p_KC
        prior_NC[fold.held_N] = shares(points.label_N[fold.train_N], classes)
    return Predicted(p_NC=p_NC, prior_NC=prior_NC, folds=tuple(folds))


def mean_probabilities(
    models: Sequence[Any], values_NM: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Mean over models, no class below 1e-6."""
    p_NC = np.mean([m.predict_proba(values_NM) for m in models], axis=0)
    return np.asarray(np.maximum(p_NC, SMALLEST))


def shares(label_N: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Share of each class."""
    count_C = np.bincount(label_N, minlength=classes)
    return np.asarray(count_C / count_C.sum())


def tempered(p_NC: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities to the power of 1 / temperature, rows summing to 1."""
    power_NC = np.maximum(p_NC, SMALLEST) ** (1 / temperature)
    return np.asarray(power_NC / power_NC.sum(axis=1, keepdims=True))


def fitted_temperature(p_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> float:
    """The temperature with the least log-loss."""

    def loss(log_temperature: float) -> float:
        p_N = tempered(p_NC, float(np.exp(log_temperature)))[np.arange(len(label_N)), label_N]
        return float(-np.log(p_N).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def _judged(recipe: Recipe, points: HazardPoints, inner: Predicted) -> Tuned:
    held_N = ~np.isnan(inner.p_NC).any(axis=1)
    return Tuned(
        recipe=recipe,
        inner_auc=macro_auc(inner, points.label_N)(np.ones(len(points))),
        temperature=fitted_temperature(inner.p_NC[held_N], points.label_N[held_N]),
        inner=inner,
    )
