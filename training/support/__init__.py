"""Deep Support Vectors of a linear head: the labelled items that it rests on.

After Deep Support Vectors (arXiv:2403.17329) and DeepKKT (arXiv:2405.00348). Only the last layer
is looked at, where the conditions have a closed form; features are frozen. `distil` needs torch
and is imported by itself.
"""

from training.support.check import LabelCheck, Order, TrainedHead, check_first
from training.support.head import HeadSupport, coreset, head_support, residuals

__all__ = [
    "HeadSupport",
    "LabelCheck",
    "Order",
    "TrainedHead",
    "check_first",
    "coreset",
    "head_support",
    "residuals",
]
