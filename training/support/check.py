"""Labels to check first: those that the head believes least, with how much rests on them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from quakestream.errors import ShapeError
from training.support.head import HeadSupport, head_support, residuals

Order = Literal["belief", "support"]
"""`belief`: the labels that get the smallest probability first. `support`: those that pull hardest
on the head, as Deep Support Vectors are ranked. Belief finds more wrong labels
(training/LOG.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCheck:
    """A label, what the head makes of it, and why it is worth a second look."""

    item: str
    """Id of the labelled building."""
    label: str
    probability: float
    """Probability of the label, where classes are as frequent as among the labels."""
    share: float
    """Share of the label in all that pulls on the head, 0 to 1."""
    reason: str
    """One sentence for the analyst."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedHead:
    """A linear head and the labels that it was trained with.

    Raises:
        ShapeError: if the arrays do not fit together.
    """

    item_N: NDArray[np.str_]
    """Ids of the labelled items."""
    feature_ND: NDArray[np.floating]
    """Features as the head takes them."""
    class_N: NDArray[np.integer]
    """Labels, as numbers of `classes`."""
    weight_DK: NDArray[np.floating]
    """Weights; one output is the logit of the second of two classes."""
    bias_K: NDArray[np.floating]
    classes: tuple[str, ...] = ("intact", "destroyed")
    class_weight_C: NDArray[np.floating] | None = None
    """Weights of the classes in training, if they were not all the same."""
    apart_NC: NDArray[np.floating] | None = None
    """Class probabilities of each item by heads that were trained without it, in the same way."""

    def __post_init__(self) -> None:
        count, classes = len(self.class_N), len(self.classes)
        apart, weight = self.apart_NC, self.class_weight_C
        fits = len(self.item_N) == len(self.feature_ND) == count
        fits &= self.weight_DK.ndim == 2 and max(self.weight_DK.shape[-1], 2) == classes
        fits &= apart is None or apart.shape == (count, classes)
        fits &= weight is None or weight.shape == (classes,)
        if not fits:
            raise ShapeError(
                "head does not fit its labels",
                "head",
                expected=f"{count} ids, rows of features and of probabilities, {classes} classes",
                got=f"{len(self.item_N)} ids, features {self.feature_ND.shape}, "
                f"weights {self.weight_DK.shape}",
            )

    def support(self) -> HeadSupport:
        """The items that the head can be made of, as few as will do."""
        return head_support(self.feature_ND, self.class_N, self.weight_DK, self.bias_K)

    def share_N(self) -> NDArray[np.float64]:
        """Share of each label in all that pulls on the head, as it was trained.

        These pulls add up to the weights: every label counts as much as in training.
        """
        gap_NK = residuals(self.feature_ND, self.class_N, self.weight_DK, self.bias_K)
        pull_N = np.linalg.norm(gap_NK, axis=1) * np.linalg.norm(self.feature_ND, axis=1)
        if self.class_weight_C is not None:
            pull_N = pull_N * self.class_weight_C[self.class_N]
        share_N: NDArray[np.float64] = pull_N / max(float(pull_N.sum()), 1e-300)
        return share_N

    def belief_N(self) -> NDArray[np.float64]:
        """Probability of each label, by `apart_NC` if there are such, else by the head itself.

        A head that was trained with weighted classes is set back to how frequent they are among
        the labels; otherwise every label of a frequent class would look doubtful.
        """
        p_NC = self._own() if self.apart_NC is None else np.asarray(self.apart_NC, np.float64)
        if self.class_weight_C is not None:
            p_NC = p_NC / np.asarray(self.class_weight_C, np.float64)
            p_NC = p_NC / p_NC.sum(axis=1, keepdims=True)
        taken_N: NDArray[np.float64] = p_NC[np.arange(len(p_NC)), self.class_N]
        return taken_N

    def _own(self) -> NDArray[np.float64]:
        logit_NK = np.asarray(self.feature_ND @ self.weight_DK + self.bias_K, np.float64)
        if logit_NK.shape[1] == 1:
            return np.concatenate([expit(-logit_NK), expit(logit_NK)], axis=1)
        p_NC: NDArray[np.float64] = softmax(logit_NK, axis=1)
        return p_NC


def check_first(head: TrainedHead, *, order: Order = "belief") -> list[LabelCheck]:
    """All labels of a head, the one most in need of a second look first."""
    belief_N, share_N = head.belief_N(), head.share_N()
    urgency_N = -belief_N if order == "belief" else head.support().pull_N
    told = "The head" if head.apart_NC is None else "A head that did not see this label"
    found = []
    for i in np.argsort(-urgency_N, kind="stable"):
        label, share = head.classes[int(head.class_N[i])], float(share_N[i])
        found.append(
            LabelCheck(
                item=str(head.item_N[i]),
                label=label,
                probability=float(belief_N[i]),
                share=share,
                reason=_reason(told, label, float(belief_N[i]), share),
            )
        )
    return found


def _reason(told: str, label: str, probability: float, share: float) -> str:
    rests = f"{100 * share:.1f} % of all pull on the head is its own"
    if probability < 0.5:
        return f"{told} gives {label} only {100 * probability:.0f} %, and {rests}."
    return f"{told} agrees with {label} ({100 * probability:.0f} %); {rests}."
