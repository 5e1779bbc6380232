"""The seam between the stream and a runtime.

`quakestream.domain.axes` explains the axis letters of array names. Here P counts pixels that have
an owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.errors import EngineError, ShapeError
from quakestream.reduce.tally import PROBABILITY_ONE

PIXELS_AT_ONCE = 2**17
"""Pixels of the crops in one run of a graph, such as 8 crops of 128 px.

On two CPU cores this scores 1.25 times as many crops a second as one by one, and 1.5 times as many
at 64 px. Larger runs are no faster.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Windows, crops or rows of hazard values, as a graph takes them.

    A batch may have any length; engines split it.

    Raises:
        ShapeError: if the inputs differ in length.
    """

    images: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Sensor counts (uint8) or physical values (float32) per epoch (`pre`, `post`), shape
    (N, B, Y, X)."""
    statistics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """`post_mean_NB`, ... for `per_scene` normalisation, shape (N, B)."""
    hazard_NM: NDArray[np.float32] | None = None
    """Values of the manifest's `hazard`, in its order and units; NaN where one is missing."""

    def __post_init__(self) -> None:
        sizes = {len(a) for a in self._arrays().values()}
        if len(sizes) > 1:
            raise ShapeError(
                "inputs of a batch differ in length", got=" and ".join(map(str, sorted(sizes)))
            )

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], spec: BundleSpec) -> Self:
        """A batch from graph inputs by name, such as a golden batch. Other names are ignored."""
        return cls(
            images={k: v for k, v in arrays.items() if k in spec.epochs},
            statistics={k: v for k, v in arrays.items() if k.endswith("_NB")},
            hazard_NM=arrays["hazard"] if spec.hazard and "hazard" in arrays else None,
        )

    def __len__(self) -> int:
        return len(next(iter(self._arrays().values()), ()))

    def inputs(self, start: int, stop: int) -> dict[str, NDArray[np.generic]]:
        """Graph inputs for windows start..stop."""
        return {name: array[start:stop] for name, array in self._arrays().items()}

    def part(self, start: int, stop: int) -> "Batch":
        """Windows start..stop as a batch."""
        return Batch(
            images={k: v[start:stop] for k, v in self.images.items()},
            statistics={k: v[start:stop] for k, v in self.statistics.items()},
            hazard_NM=None if self.hazard_NM is None else self.hazard_NM[start:stop],
        )

    def repeated(self, count: int) -> "Batch":
        """This batch repeated until it has `count` items."""
        order_N = np.arange(count) % len(self)
        return Batch(
            images={k: v[order_N] for k, v in self.images.items()},
            statistics={k: v[order_N] for k, v in self.statistics.items()},
            hazard_NM=None if self.hazard_NM is None else self.hazard_NM[order_N],
        )

    def check(self, spec: BundleSpec) -> None:
        """Checks shapes and types of images against the manifest.

        Raises:
            ShapeError: if the batch is not what the manifest says.
        """
        side = spec.window_px
        for epoch in spec.epochs:
            got = self.images[epoch].shape[1:] if epoch in self.images else None
            expected = (len(spec.bands), side, side)
            if got != expected:
                raise ShapeError(
                    f"input {epoch} has the wrong shape",
                    spec.name,
                    expected=str(expected),
                    got="no such input" if got is None else str(got),
                )
            if self.images[epoch].dtype != spec.dtype:
                raise ShapeError(
                    f"input {epoch} has the wrong type",
                    spec.name,
                    expected=spec.dtype,
                    got=str(self.images[epoch].dtype),
                )
        values = 0 if self.hazard_NM is None else self.hazard_NM.shape[1]
        if values != len(spec.hazard):
            raise ShapeError(
                "wrong number of hazard values in a row",
                spec.name,
                expected=str(len(spec.hazard)),
                got=str(values),
            )

    @staticmethod
    def check_pixels(spec: BundleSpec) -> None:
        """Checks that a bundle scores pixels.

        Raises:
            ShapeError: if it scores something else.
        """
        if not spec.scores_pixels:
            raise ShapeError(
                "sums per owner need a bundle that scores pixels",
                spec.name,
                expected="segmentation",
                got=spec.task,
            )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {**self.images, **self.statistics}
        if self.hazard_NM is not None:
            arrays["hazard"] = self.hazard_NM
        return arrays


class Engine(Protocol):
    """Scores batches. Opened on a worker, next to its device; never pickled."""

    @property
    def name(self) -> str:
        """Runtime and version, as `run.json` records them."""
        ...

    @property
    def on_gpu(self) -> bool:
        """True if the engine computes on a GPU, and so takes no CPU cores from readers."""
        ...

    @property
    def batch(self) -> int:
        """Items of every run; 0 if the bundle's task fixes the length of runs."""
        ...

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Class logits: shape (N, K, Y, X) for windows, (N, K) for crops and rows.

        The logits of one window, crop or row never depend on what else is in the batch.

        Raises:
            ShapeError: the batch is not what the bundle's manifest says.
            EngineError: the runtime fails.
        """
        ...

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        """Sums of class probability × 65535 over each owner's pixels, shape (R, C).

        For bundles that score the pixels of windows.

        Args:
            owner_NYX: owner of each pixel of the windows' cores (the window less the halo),
                numbered 0..R-1 over the whole batch; -1 owns nothing.

        Raises:
            ShapeError: the batch is not what the bundle's manifest says, or the bundle does not
                score pixels.
            EngineError: the runtime fails.
        """
        ...


def probabilities(logits_KN: NDArray[np.float32], spec: BundleSpec) -> NDArray[np.float32]:
    """Calibrated class probabilities, shape (C, N), from a graph's outputs."""
    if spec.deviation:  # the last output is no class
        logits_KN = logits_KN[:-1]
    if spec.outputs == "probabilities":
        p_KN = logits_KN
    elif len(logits_KN) == 1:
        with np.errstate(over="ignore"):
            p_KN = 1.0 / (1.0 + np.exp(-logits_KN / np.float32(spec.temperature)))
    else:
        scaled_KN = logits_KN / np.float32(spec.temperature)
        scaled_KN = np.exp(scaled_KN - scaled_KN.max(axis=0))
        p_KN = scaled_KN / scaled_KN.sum(axis=0)
    if len(p_KN) == 1 and len(spec.classes) == 2:
        p_KN = np.concatenate([1.0 - p_KN, p_KN])
    if len(p_KN) != len(spec.classes):
        raise ShapeError(
            "wrong number of outputs for the classes",
            spec.name,
            expected=str(len(spec.classes)),
            got=str(len(p_KN)),
        )
    return p_KN.astype(np.float32, copy=False)


def check_logits(logits: NDArray[Any], count: int, axes: int, spec: BundleSpec) -> None:
    """Checks the shape of what a graph gave for `count` windows, crops or rows.

    Raises:
        EngineError: if the number of axes or of items is wrong.
    """
    if logits.ndim != axes or len(logits) != count:
        raise EngineError(
            "logits have the wrong shape",
            spec.name,
            expected=f"{count} of {axes} axes, for task {spec.task}",
            got=str(logits.shape),
            remedy="export the bundle again",
        )


def owner_sums(
    logits_NKYX: NDArray[np.float32], owner_NYX: NDArray[np.int32], owners: int, spec: BundleSpec
) -> NDArray[np.int64]:
    """Integer probability sums per owner, shape (R, C).

    Whole numbers (p × 65535, rounded) add up to the same total in any order, so that tallies merge
    exactly. Engines without a device of their own use this. Other engines do the same on their
    device.
    """
    outputs, halo = logits_NKYX.shape[1], spec.halo_px
    rows, cols = (slice(halo, halo + size) for size in owner_NYX.shape[1:])
    core_NKYX = logits_NKYX[:, :, rows, cols]
    owned_NYX = owner_NYX >= 0  # most pixels have no owner and are dropped first
    owner_P = owner_NYX[owned_NYX]
    logits_KP = np.stack([core_NKYX[:, k][owned_NYX] for k in range(outputs)])
    whole_CP = _whole(probabilities(logits_KP, spec))
    sums = [np.bincount(owner_P, weights=whole_P, minlength=owners) for whole_P in whole_CP]
    return np.stack(sums, axis=1).astype(np.int64)


def crop_shares(logits_NK: NDArray[np.float32], spec: BundleSpec) -> NDArray[np.int64]:
    """Class probabilities of crops as whole numbers (p × 65535, rounded), shape (N, C)."""
    return _whole(probabilities(logits_NK.T, spec)).T.astype(np.int64)


def _whole(p_CN: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.rint(p_CN * np.float32(PROBABILITY_ONE)), np.float32)
