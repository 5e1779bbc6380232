"""The models that are compared, each with its grid of settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quakestream.errors import RequestError
from training.hazard.bayes import LayerBayes
from training.hazard.terms import HazardTerms

Settings = Mapping[str, Any]
TREES, TREES_TUNING = 200, 40
"""Trees of a forest that is evaluated, and of one that is only compared with other settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of model and its grid of settings, from which inner folds choose."""

    name: str
    build: Callable[..., Any]
    """Makes an unfitted classifier from the settings, and from `trees` if it is a forest."""
    grid: Mapping[str, tuple[Any, ...]]
    grows: bool = False
    """True for a forest, which is tuned with fewer trees than it is evaluated with."""

    def settings(self) -> tuple[Settings, ...]:
        """Every combination of the grid."""
        return tuple(
            dict(zip(self.grid, chosen, strict=True)) for chosen in product(*self.grid.values())
        )

    def model(self, settings: Settings, *, tuning: bool = False) -> Any:
        """An unfitted classifier."""
        trees = {"trees": TREES_TUNING if tuning else TREES} if self.grows else {}
        return self.build(**settings, **trees)


def logistic(degree: int, c: float) -> Any:
    """Multinomial logistic regression on `HazardTerms`; `c` is the inverse of the penalty."""
    return make_pipeline(
        HazardTerms(degree), StandardScaler(), LogisticRegression(C=c, max_iter=1000)
    )


def boosting(leaves: int, rounds: int) -> Any:
    """Gradient boosting of small trees; every split sends missing values to one side."""
    return HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=rounds,
        max_leaf_nodes=leaves,
        min_samples_leaf=200,
        l2_regularization=10.0,
        early_stopping=False,
        random_state=0,
    )


def extra_trees(leaf: int, tried: float, trees: int = TREES) -> Any:
    """Extremely randomised trees; every split considers a share `tried` of the values."""
    return _with_flags(
        ExtraTreesClassifier(trees, min_samples_leaf=leaf, max_features=tried, random_state=0)
    )


def forest(leaf: int, tried: float | str = "sqrt", trees: int = TREES) -> Any:
    """The random forest of Yu et al. 2024; `leaf` 1 is the default of scikit-learn."""
    return _with_flags(
        RandomForestClassifier(trees, min_samples_leaf=leaf, max_features=tried, random_state=0)
    )


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            name="logistic",
            build=logistic,
            grid={"degree": (1, 2, 3), "c": (3e-4, 1e-3, 1e-2, 1e-1)},
        ),
        Family(
            name="boosting", build=boosting, grid={"leaves": (2, 4, 8), "rounds": (20, 60, 150)}
        ),
        Family(
            name="extra_trees",
            build=extra_trees,
            grid={"leaf": (10, 25, 50, 100, 200), "tried": (0.2, 0.6, 1.0)},
            grows=True,
        ),
        Family(name="bayes", build=LayerBayes, grid={"shrink": (0.0, 0.2, 0.5)}),
        Family(
            name="forest",
            build=forest,
            grid={"leaf": (5, 20, 100, 200, 500), "tried": (0.2, 0.6)},
            grows=True,
        ),
    )
}


CANDIDATES: tuple[tuple[str, ...], ...] = (
    ("logistic",),
    ("boosting",),
    ("extra_trees",),
    ("bayes",),
    ("logistic", "bayes"),
    ("logistic", "extra_trees"),
    ("logistic", "extra_trees", "bayes"),
)
"""Families, and means of families, from which inner folds choose a rival of the forest."""
SHIPPED = ("logistic", "bayes")
"""The candidate that ships: a few kilobytes, and operators that every runtime has."""


def family(name: str) -> Family:
    """A family by name.

    Raises:
        RequestError: if there is none of that name.
    """
    if name not in FAMILIES:
        raise RequestError(
            "unknown model", "--model", expected=f"one of {', '.join(FAMILIES)}", got=repr(name)
        )
    return FAMILIES[name]


def masked_copies(
    values_NM: NDArray[np.floating], label_N: NDArray[np.int64], *, seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """The points, and a copy of each with some of its values removed.

    Surveyed points have every layer, footprints often do not. The share that is removed is drawn
    for each point, so that every combination occurs, down to one value or none.
    """
    rng = np.random.default_rng(seed)
    share_N1 = rng.random((len(values_NM), 1))
    masked_NM = np.where(rng.random(values_NM.shape) < share_N1, np.nan, values_NM)
    return np.concatenate([values_NM, masked_NM]), np.concatenate([label_N, label_N])


def _with_flags(model: Any) -> Any:
    """Replaces NaN by 0 and a flag, for trees without NaN. Extreme numbers would attract splits."""
    return make_pipeline(HazardTerms(1), model)
