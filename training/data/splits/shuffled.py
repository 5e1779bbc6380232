"""Random splits, as the papers made them, and random fractions of the labels.

A random split puts neighbouring buildings on both sides. It is kept for comparison only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import RequestError
from training.data.splits.values import Fold, Mask, SplitPart

PAPER_SHARES: dict[str, dict[SplitPart, float]] = {
    "paper-85-15": {"train": 0.85, "test": 0.15},
    "paper-70-15-15": {"train": 0.70, "test": 0.15, "validation": 0.15},
}
"""The splits of QuakeMetaFormer and of EPFL's FC-Siam, in the order their rows are dealt."""


def random_split(n: int, train_share: float = 0.85, seed: int = 0) -> Fold:
    """Deals rows at random, as the papers do; the training side is rounded down.

    Raises:
        RequestError: if a side is empty.
    """
    parts = random_parts(n, {"train": train_share, "test": 1 - train_share}, seed)
    return Fold(train_N=parts["train"], held_N=parts["test"])


def paper_parts(name: str, n: int, seed: int = 0) -> dict[SplitPart, Mask]:
    """A paper's random split by its name in `PAPER_SHARES`.

    Raises:
        RequestError: if no paper's split has that name, or a part is empty.
    """
    if name not in PAPER_SHARES:
        raise RequestError(
            "unknown split", expected=f"one of {', '.join(PAPER_SHARES)}", got=repr(name)
        )
    return random_parts(n, PAPER_SHARES[name], seed)


def random_parts(n: int, shares: dict[SplitPart, float], seed: int) -> dict[SplitPart, Mask]:
    """A mask per part. Parts follow each other in one shuffled order; the last takes the rest.

    Raises:
        RequestError: if the shares do not add up to 1, or a part is empty.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise RequestError(
            "split shares are wrong",
            expected="positive shares that add up to 1",
            got=", ".join(f"{name} {share:g}" for name, share in shares.items()),
        )
    ends = np.floor(np.cumsum(list(shares.values())) * n + 1e-9).astype(int)
    ends[-1] = n
    order = np.random.default_rng(seed).permutation(n)
    parts: dict[SplitPart, Mask] = {}
    for name, start, end in zip(shares, [0, *ends], ends, strict=False):
        if start == end:
            count = f"{n} {'row' if n == 1 else 'rows'}"
            raise RequestError(f"too few rows to split: none is left for {name}", got=count)
        parts[name] = np.zeros(n, np.bool_)
        parts[name][order[start:end]] = True
    return parts


def label_fraction(label_N: NDArray[np.integer[Any]], fraction: float, seed: int) -> Mask:
    """A fraction of each class, rounded up. A larger fraction holds every row of a smaller one.

    Rows of unknown class (below 0) are never taken.

    Raises:
        RequestError: if the fraction is not within 0 and 1.
    """
    if not 0 < fraction <= 1:
        raise RequestError(
            "label fraction is out of range", expected="above 0, at most 1", got=f"{fraction:g}"
        )
    label = np.asarray(label_N)
    order = np.random.default_rng(seed).permutation(len(label))
    taken_N = np.zeros(len(label), np.bool_)
    for value in np.unique(label[label >= 0]):
        of_class = order[label[order] == value]
        taken_N[of_class[: int(np.ceil(len(of_class) * fraction - 1e-9))]] = True
    return taken_N


def training_fraction(
    train_N: Mask, label_N: NDArray[np.integer[Any]], fraction: float, seed: int
) -> Mask:
    """The training rows with a fraction of their labels, see `label_fraction`."""
    taken_N = np.zeros(len(train_N), np.bool_)
    taken_N[train_N] = label_fraction(label_N[train_N], fraction, seed)
    return taken_N
