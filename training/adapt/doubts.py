"""Labels of an event that are worth a second look, by the head that they were used for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.adapt.head import Examples, Head
from training.support import LabelCheck, TrainedHead, check_first

SHOWN = 10
"""Most labels that are named."""
DOUBT = 0.75
"""A label is named if it is less likely than this share of its frequency among the labels, so that
a head that knows nothing doubts nothing."""
SURE = 0.2
"""A label that is less likely than this is called probably wrong, not doubtful."""


def labels_to_check(
    building_id_N: NDArray[np.object_],
    examples: Examples,
    head: Head,
    left_out_N: NDArray[np.float64],
) -> list[LabelCheck]:
    """Labels that heads without them speak against, the least likely first.

    Args:
        building_id_N: buildings of the examples.
        examples: the labels.
        head: was fitted to all of them.
        left_out_N: probability that each building is destroyed, by heads that saw nothing of its
            block.
    """
    trained = TrainedHead(
        item_N=building_id_N.astype(np.str_),
        feature_ND=(np.asarray(examples.feature_ND, np.float64) - head.mean_D) / head.std_D,
        class_N=examples.destroyed_N.astype(np.int64),
        weight_DK=head.weight_D[:, None],
        bias_K=np.array([head.intercept]),
        apart_NC=np.column_stack([1.0 - left_out_N, left_out_N]),
    )
    frequent = {c: float((trained.class_N == n).mean()) for n, c in enumerate(trained.classes)}
    checks = check_first(trained)[:SHOWN]
    return [check for check in checks if check.probability < DOUBT * frequent[check.label]]


def doubt(check: LabelCheck) -> str:
    """The doubt in words: `probably wrong: labelled destroyed, 1 % likely by the other labels`."""
    likely = f"{100 * check.probability:.0f} %"
    how = "probably wrong" if check.probability < SURE else "doubtful"
    return f"{how}: labelled {check.label}, {likely} likely by the other labels"


def as_plain(checks: list[LabelCheck]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "building_id": check.item,
            "label": check.label,
            "probability": round(check.probability, 3),
            "share": round(check.share, 4),
            "reason": doubt(check),
        }
        for check in checks
    ]
