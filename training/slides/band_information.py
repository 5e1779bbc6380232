"""What each band says about landslides, and the choice of a few bands by it.

The mutual information between a band and the label is how many bits a pixel's value in that band
tells about whether the pixel slid. It looks at single pixels: what a band shows as texture or
beside other bands is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import RequestError
from training.data.slide_chips import SlideChips
from training.seeds import rng

BINS = 32
"""Classes of equal frequency that the values of a band are sorted into."""
PIXELS = 400_000
"""Pixels that are drawn."""
_DRAWN = 21
"""Stream of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandInformation:
    """Mutual information in bits, from pixels of training chips."""

    bands: tuple[str, ...]
    label_bits_B: NDArray[np.float64]
    """Between each band and the label."""
    shared_bits_BB: NDArray[np.float64]
    """Between each two bands; the diagonal is the entropy of the sorted values."""
    entropy_bits: float
    """Of the label: what a perfect band would tell."""

    def most(self, count: int) -> tuple[str, ...]:
        """The bands that tell most about the label, each by itself."""
        return self._named(np.argsort(-self.label_bits_B, kind="stable")[:count])

    def least(self, count: int) -> tuple[str, ...]:
        """The bands that tell least: a control for `most`."""
        return self._named(np.argsort(self.label_bits_B, kind="stable")[:count])

    def least_redundant(self, count: int) -> tuple[str, ...]:
        """Bands that tell much about the label and little about each other.

        Each next band has the largest difference between what it tells about the label and what it
        shares, in the mean, with the chosen ones (mRMR; Peng, Long and Ding 2005). Both are shares
        of an entropy, since bits about a rare label are few beside bits about another band.
        """
        told_B = self.label_bits_B / max(self.entropy_bits, 1e-12)
        entropy_B = np.diagonal(self.shared_bits_BB)
        smaller_BB = np.minimum(entropy_B[:, None], entropy_B)
        shared_BB = self.shared_bits_BB / np.maximum(smaller_BB, 1e-12)
        chosen = [int(np.argmax(told_B))]
        while len(chosen) < min(count, len(self.bands)):
            worth_B = told_B - shared_BB[:, chosen].mean(axis=1)
            worth_B[chosen] = -np.inf
            chosen.append(int(np.argmax(worth_B)))
        return self._named(chosen)

    def to_json(self) -> dict[str, Any]:
        """Bits about the label by band, most first."""
        order = np.argsort(-self.label_bits_B, kind="stable")
        bits = {self.bands[int(b)]: round(float(self.label_bits_B[b]), 5) for b in order}
        return {"label_bits": bits, "label_entropy_bits": round(self.entropy_bits, 5)}

    def _named(self, places: Sequence[int] | NDArray[np.intp]) -> tuple[str, ...]:
        """Names in the order of the set, which is that of a network's input."""
        return tuple(self.bands[b] for b in sorted(int(p) for p in places))


def band_information(chips: SlideChips, *, bins: int = BINS, seed: int = 0) -> BandInformation:
    """Mutual information of the bands of training chips.

    Raises:
        RequestError: if all drawn pixels are of one class.
    """
    values_PB, slid_P = _pixels(chips, seed)
    if slid_P.all() or not slid_P.any():
        raise RequestError("chips have one class only; no band can tell it", str(chips.root))
    sorted_PB = np.column_stack([_sorted(values_P, bins) for values_P in values_PB.T])
    bands = range(sorted_PB.shape[1])
    shared_BB = np.array(
        [[mutual_bits(sorted_PB[:, a], sorted_PB[:, b]) for b in bands] for a in bands]
    )
    return BandInformation(
        bands=chips.bands,
        label_bits_B=np.array([mutual_bits(sorted_PB[:, b], slid_P) for b in bands]),
        shared_bits_BB=shared_BB,
        entropy_bits=mutual_bits(slid_P, slid_P),
    )


def mutual_bits(first_P: NDArray[np.integer[Any]], second_P: NDArray[np.integer[Any]]) -> float:
    """Mutual information of two discrete variables, bits; never negative but for rounding."""
    count = np.zeros((int(first_P.max()) + 1, int(second_P.max()) + 1))
    np.add.at(count, (first_P, second_P), 1.0)
    joint = count / count.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log2(joint[known] / apart[known])).sum())


def _pixels(chips: SlideChips, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Values (P, band) and labels of evenly drawn pixels."""
    values, labels = [], []
    each = max(1, PIXELS // max(len(chips), 1))
    for row in range(len(chips)):
        image_NBYX, mask_NYX = chips.read([row])
        slid_P = mask_NYX[0].ravel()
        drawn = rng(seed, _DRAWN, row).permutation(slid_P.size)[:each]
        values.append(image_NBYX[0].reshape(len(chips.bands), -1).T[drawn])
        labels.append(slid_P[drawn])
    return np.concatenate(values), np.concatenate(labels)


def _sorted(values_P: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """Classes of equal frequency from 1; values that are not finite are class 0."""
    known_P = np.isfinite(values_P)
    if not known_P.any():
        return np.zeros(len(values_P), np.int64)
    edges = np.unique(np.quantile(values_P[known_P], np.linspace(0, 1, bins + 1)[1:-1]))
    return np.where(known_P, 1 + np.searchsorted(edges, values_P, side="right"), 0)
