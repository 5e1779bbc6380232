"""Nested folds: held-out points never influence a choice about the model evaluated on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from quakestream.errors import RequestError
from training.data.splits import FIELD_BLOCK_DEG, FIELD_BUFFER_DEG, Fold, block_folds
from training.hazard.families import FAMILIES, Family, Settings, masked_copies
from training.hazard.judging import Predictions, macro_auc
from training.hazard.points import HazardPoints

OUTER, INNER = 5, 3
SMALLEST = 1e-6
"""Smallest probability, because no place rules a class out."""
TEMPERATURES = (0.2, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Families whose probabilities are averaged, with their settings."""

    parts: tuple[tuple[Family, Settings], ...]
    masked: bool = False
    """Also train on copies of the points with values removed."""

    @property
    def name(self) -> str:
        return "+".join(f.name for f, _ in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings by name; of several parts, by part and name."""
        each = {f.name: dict(s) for f, s in self.parts}
        return each if len(each) > 1 else next(iter(each.values()))

    def fit(
        self, values_NM: NDArray[np.floating], label_N: NDArray[np.int64], *, tuning: bool = False
    ) -> list[Any]:
        """Fits one classifier per part."""
        if self.masked:
            values_NM, label_N = masked_copies(values_NM, label_N)
        return [f.model(s, tuning=tuning).fit(values_NM, label_N) for f, s in self.parts]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuningResult:
    """A recipe chosen on inner folds, and its figures on them."""

    recipe: Recipe
    inner_auc: float
    temperature: float
    """Temperature with the least log-loss on the held-out points of the inner folds."""
    inner: Predictions


def folds_of(points: HazardPoints, folds: int, seed: int = 0) -> tuple[Fold, ...]:
    """Folds of 0.02° blocks with a buffer of 0.005°; every fold has training points of each class.

    Raises:
        RequestError: if the points lie in too few blocks, or a class does.
    """
    parts = block_folds(points.lon_N, points.lat_N, FIELD_BLOCK_DEG, FIELD_BUFFER_DEG, folds, seed)
    for number, fold in enumerate(parts):
        count_C = np.bincount(points.label_N[fold.train_N], minlength=len(points.classes))
        if (count_C == 0).any():
            lost = ", ".join(np.array(points.classes)[count_C == 0])
            raise RequestError(
                f"no training example of {lost}: the class lies in too few blocks of 0.02°",
                f"fold {number} of {folds}",
                remedy="leave it out, or merge it with a neighbour",
            )
    return parts


def tune(
    family: Family, points: HazardPoints, *, masked: bool = False, seed: int = 0
) -> TuningResult:
    """Chooses the settings with the best macro AUC on inner folds of these points."""
    folds = folds_of(points, INNER, seed)
    recipes = [Recipe(parts=((family, s),), masked=masked) for s in family.settings()]
    results = (
        _evaluated(recipe, points, out_of_fold(recipe, points, folds, tuning=True))
        for recipe in recipes
    )
    return max(results, key=lambda result: result.inner_auc)


def blend(tuned: Sequence[TuningResult], points: HazardPoints) -> TuningResult:
    """The mean of models tuned on the same inner folds; a single model is returned as it is."""
    if len(tuned) == 1:
        return tuned[0]
    inner = Predictions(
        p_NC=np.mean([t.inner.p_NC for t in tuned], axis=0),
        prior_NC=tuned[0].inner.prior_NC,
        folds=tuned[0].inner.folds,
    )
    recipe = Recipe(
        parts=tuple(part for t in tuned for part in t.recipe.parts),
        masked=tuned[0].recipe.masked,
    )
    return _evaluated(recipe, points, inner)


def choose(
    points: HazardPoints,
    candidates: Sequence[Sequence[str]],
    *,
    families: Mapping[str, Family] = FAMILIES,
    masked: bool = False,
    seed: int = 0,
) -> TuningResult:
    """Chooses the best candidate on inner folds. A candidate of several families is their mean."""
    names = dict.fromkeys(name for candidate in candidates for name in candidate)
    single = {n: tune(families[n], points, masked=masked, seed=seed) for n in names}
    tuned = [blend([single[n] for n in candidate], points) for candidate in candidates]
    return max(tuned, key=lambda t: t.inner_auc)


def out_of_fold(
    recipe: Recipe, points: HazardPoints, folds: Sequence[Fold], *, tuning: bool = False
) -> Predictions:
    """Predicts the held-out points of each fold with models fitted on its training points."""
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
) -> Predictions:
    """Predictions of all folds in the order of the points."""
    classes = len(points.classes)
    p_NC = np.full((len(points), classes), np.nan)
    prior_NC = np.full((len(points), classes), np.nan)
    for fold, p_KC in zip(folds, p_held, strict=True):
        p_NC[fold.held_N] = p_KC
        prior_NC[fold.held_N] = shares(points.label_N[fold.train_N], classes)
    return Predictions(p_NC=p_NC, prior_NC=prior_NC, folds=tuple(folds))


def mean_probabilities(
    models: Sequence[Any], values_NM: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Mean probabilities of the models, at least 1e-6 each."""
    p_NC = np.mean([m.predict_proba(values_NM) for m in models], axis=0)
    return np.asarray(np.maximum(p_NC, SMALLEST))


def shares(label_N: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Share of each class."""
    count_C = np.bincount(label_N, minlength=classes)
    return np.asarray(count_C / count_C.sum())


def tempered(p_NC: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities to the power of 1 / temperature, normalised to sum to 1."""
    power_NC = np.maximum(p_NC, SMALLEST) ** (1 / temperature)
    return np.asarray(power_NC / power_NC.sum(axis=1, keepdims=True))


def fitted_temperature(p_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> float:
    """The temperature with the least log-loss."""

    def loss(log_temperature: float) -> float:
        p_N = tempered(p_NC, float(np.exp(log_temperature)))[np.arange(len(label_N)), label_N]
        return float(-np.log(p_N).mean())

    minimum = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(minimum.x))


def _evaluated(recipe: Recipe, points: HazardPoints, inner: Predictions) -> TuningResult:
    held_N = ~np.isnan(inner.p_NC).any(axis=1)
    return TuningResult(
        recipe=recipe,
        inner_auc=macro_auc(inner, points.label_N)(np.ones(len(points))),
        temperature=fitted_temperature(inner.p_NC[held_N], points.label_N[held_N]),
        inner=inner,
    )
