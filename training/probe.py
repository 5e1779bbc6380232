"""A linear probe on frozen features: the simplest thing that any adapted head has to beat."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.lessons.transfer import FeatureTiles


def building_features(held: FeatureTiles) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Mean features of each building that a tile shows, weighted by its pixels in each cell.

    Returns:
        Rows of the tiles' table, and features (n, D).
    """
    tiles, cells_NDP = held.tiles, held.map_NDYX.flatten(2).numpy()
    count, side = len(tiles.buildings) + 1, held.map_NDYX.shape[-1]
    sum_KD = np.zeros((count, cells_NDP.shape[1]), np.float64)
    pixels_K = np.zeros(count)
    step = tiles.owner_NYX.shape[-1] // side
    for owner_YX, cell_DP in zip(tiles.owner_NYX, cells_NDP, strict=True):
        y_P, x_P = np.nonzero(owner_YX)
        place_P = (y_P // step) * side + x_P // step
        key_P = owner_YX[y_P, x_P].astype(np.int64) * side**2 + place_P
        key_U, pixels_U = np.unique(key_P, return_counts=True)
        owner_U, place_U = np.divmod(key_U, side**2)
        np.add.at(sum_KD, owner_U, cell_DP[:, place_U].T * pixels_U[:, None])
        np.add.at(pixels_K, owner_U, pixels_U)
    row_N = np.flatnonzero(pixels_K[1:])
    mean_ND = sum_KD[1:][row_N] / pixels_K[1:][row_N, None]
    return row_N, mean_ND.astype(np.float32)


def linear_probe(
    feature_ND: NDArray[np.float32], label_N: NDArray[np.int64], *, strength: float = 0.01
) -> Pipeline:
    """A fitted logistic regression on standardised features; classes count the same."""
    head = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), head).fit(feature_ND, label_N)
