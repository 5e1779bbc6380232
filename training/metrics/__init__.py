"""Figures of models. Tests check every figure against scikit-learn.

`binary` evaluates pixel models by building, `multiclass` probabilities per class, and `pixels`
masks. `intervals` gives the uncertainty of any of them. A figure that the data cannot give is NaN.
"""

from training.metrics.binary import (
    MIN_PER_STATE,
    Figures,
    arrays,
    auc_interval,
    auc_within,
    balanced_log_loss,
    figures,
    prior_weights,
    stratified_auc,
)
from training.metrics.intervals import (
    Statistic,
    block_interval,
    blocks_of,
    difference,
    seed_interval,
)
from training.metrics.multiclass import (
    STATISTICS,
    ClassFigures,
    class_figures,
    classwise_error,
    confusion_distance,
    prior_weights_of,
    statistic,
    top_label_error,
)
from training.metrics.pixels import PixelCounts, batch_mean, pooled

__all__ = [
    "MIN_PER_STATE",
    "STATISTICS",
    "ClassFigures",
    "Figures",
    "PixelCounts",
    "Statistic",
    "arrays",
    "auc_interval",
    "auc_within",
    "balanced_log_loss",
    "batch_mean",
    "block_interval",
    "blocks_of",
    "class_figures",
    "classwise_error",
    "confusion_distance",
    "difference",
    "figures",
    "pooled",
    "prior_weights",
    "prior_weights_of",
    "seed_interval",
    "statistic",
    "stratified_auc",
    "top_label_error",
]
