"""Standing rows of stores of chips: what a model of grades must beat without looking closely.

Each row is a regression on a few plain numbers of a building, fitted on the training rows of the
same split. Where the size of a building or its image before the event tells its grade, the labels
or the outlines leak, and a good figure of a model may be the same leak.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.store import BuildingChips, ChipStore
from training.evaluation_set import EvaluationSet, StoreRows
from training.metrics import class_figures

MOST_ROWS = 2000
"""Training rows that a regression is fitted on, drawn at random."""
BATCH = 256
SIDE_M = 29.0
"""Side of the square in the middle of a chip that images are described in, metres."""
AREA = "area_m2"
DIFFERENCE = "difference"
FIGURES = ("macro_auc", "macro_f1", "accuracy")


def chip_standing(held: EvaluationSet, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Figures of each standing row on the held-out rows of a store.

    Empty for rows that are no chips, and for a split without training rows.
    """
    if not isinstance(held.buildings, StoreRows) or not len(held.rows["train"]):
        return {}
    store, rng = held.buildings.store, np.random.default_rng(seed)
    train = held.some("train", MOST_ROWS, rng).rows["train"]
    test = held.rows["test"]
    fitted, judged = (plain_numbers(store, row_N) for row_N in (train, test))
    label_N = held.buildings.label_N
    return {
        name: _figures(fitted[columns], label_N[train], judged[columns], label_N[test])
        for name, columns in _rows(store, fitted).items()
    }


def plain_numbers(store: ChipStore, row_N: NDArray[np.int64]) -> pd.DataFrame:
    """Plain numbers of some rows: area, the images in a square of one size, hazard values."""
    parts = [_described(store, row_N[n : n + BATCH]) for n in range(0, len(row_N), BATCH)]
    hazard = store.table.iloc[row_N][list(store.meta.hazard_names)].reset_index(drop=True)
    return pd.concat([pd.concat(parts, ignore_index=True), hazard], axis=1)


def _described(store: ChipStore, row_N: NDArray[np.int64]) -> pd.DataFrame:
    chips = store.read(row_N)
    columns = {AREA: chips.inside_NYX.sum(axis=(1, 2)) * store.meta.gsd_m**2}
    grey = {epoch: _grey(chips, epoch, store.meta.gsd_m) for epoch in store.meta.epochs}
    for epoch, grey_NYX in grey.items():
        dy_NYX, dx_NYX = np.gradient(grey_NYX, axis=(1, 2))
        columns[f"{epoch}_mean"] = grey_NYX.mean(axis=(1, 2))
        columns[f"{epoch}_deviation"] = grey_NYX.std(axis=(1, 2))
        columns[f"{epoch}_edges"] = np.hypot(dy_NYX, dx_NYX).mean(axis=(1, 2))
    if len(grey) == 2:
        columns[DIFFERENCE] = np.abs(grey["post"] - grey["pre"]).mean(axis=(1, 2))
    return pd.DataFrame(columns)


def _grey(chips: BuildingChips, epoch: str, gsd_m: float) -> NDArray[np.float64]:
    """The middle of the chips of an epoch in deviations of their scene, one band."""
    pixels_NBYX = chips.pixels(epoch)
    side = min(pixels_NBYX.shape[-1], round(SIDE_M / gsd_m))
    start = (pixels_NBYX.shape[-1] - side) // 2
    cut = slice(start, start + side)
    mean_NB, std_NB = (chips.statistics_N4B[:, {"pre": 0, "post": 2}[epoch] + k] for k in (0, 1))
    z_NBYX = (pixels_NBYX[:, :, cut, cut] - mean_NB[:, :, None, None]) / std_NB[:, :, None, None]
    return np.asarray(z_NBYX.mean(axis=1), np.float64)


def _rows(store: ChipStore, table: pd.DataFrame) -> Mapping[str, Sequence[str]]:
    """The columns of each standing row that this store has."""
    images = {
        epoch: [c for c in table.columns if str(c).startswith(f"{epoch}_")]
        for epoch in store.meta.epochs
    }
    rows = {
        "area alone": [AREA],
        "before alone": images.get("pre", []),
        "after in three numbers": images.get("post", []),
        "difference": [DIFFERENCE] if DIFFERENCE in table else [],
        "hazard values alone": list(store.meta.hazard_names),
    }
    return {name: columns for name, columns in rows.items() if columns}


def _figures(
    train: pd.DataFrame, train_N: NDArray[np.int64], test: pd.DataFrame, test_N: NDArray[np.int64]
) -> dict[str, float]:
    """Figures of a logistic regression; missing values count as the mean of the training rows."""
    middle = train.mean().fillna(0.0)
    model: Any = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=500)
    )
    model.fit(train.fillna(middle), train_N)
    p_NC = np.zeros((len(test), max(int(train_N.max()), int(test_N.max())) + 1))
    p_NC[:, model.classes_] = model.predict_proba(test.fillna(middle))
    found = class_figures(p_NC, test_N)
    return {name: float(getattr(found, name)) for name in FIGURES}
