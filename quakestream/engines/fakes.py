"""Engines without a network: real implementations of the Protocol, for tests and dry runs."""

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec
from quakestream.engines.base import Batch, Engine, Scores, owner_sums
from quakestream.errors import BundleError


class UniformEngine:
    """Gives every class the same probability everywhere."""

    def __init__(self, bundle: Bundle, *, threads: int = 0, batch: int = 0) -> None:
        self._spec = bundle.spec

    @property
    def name(self) -> str:
        return "uniform"

    def score(self, batch: Batch, owner_NYX: NDArray[np.int32] | None = None) -> Scores:
        batch.check(self._spec)
        side = self._spec.window_px
        outputs = len(self._spec.classes)
        if self._spec.task in ("building", "hazard"):
            return Scores(logits_NK=np.zeros((len(batch), outputs), np.float32))
        logits_NKYX = np.zeros((len(batch), outputs, side, side), np.float32)
        return _scores(logits_NKYX, owner_NYX, self._spec)


class ThresholdEngine:
    """Calls a pixel damaged by how much its grey value changed: the baseline
    every model must beat. Two classes; post-only bundles compare with mid-grey.
    Of a crop, the middle quarter counts.

    Raises:
        BundleError: for a bundle that takes no imagery.
    """

    CHANGE_COUNTS = 40.0

    def __init__(self, bundle: Bundle, *, threads: int = 0, batch: int = 0) -> None:
        self._spec = bundle.spec
        if "post" not in bundle.spec.epochs:
            raise BundleError(f"{bundle.uri}: threshold compares images, this bundle takes none")

    @property
    def name(self) -> str:
        return "threshold"

    def score(self, batch: Batch, owner_NYX: NDArray[np.int32] | None = None) -> Scores:
        batch.check(self._spec)
        post_NYX = batch.images["post"].astype(np.float32).mean(axis=1)
        pre = batch.images.get("pre")
        pre_NYX = 128.0 if pre is None else pre.astype(np.float32).mean(axis=1)
        logits_NYX = (np.abs(post_NYX - pre_NYX) - self.CHANGE_COUNTS) / 10.0
        if self._spec.task == "building":
            side = self._spec.window_px
            middle = slice(side // 4, side - side // 4)
            means = [crop_YX[middle, middle].mean() for crop_YX in logits_NYX]
            return Scores(logits_NK=np.array(means, np.float32).reshape(-1, 1))
        return _scores(logits_NYX[:, None].astype(np.float32), owner_NYX, self._spec)


def _scores(
    logits_NKYX: NDArray[np.float32], owner_NYX: NDArray[np.int32] | None, spec: BundleSpec
) -> Scores:
    if owner_NYX is None:
        return Scores(logits_NKYX=logits_NKYX)
    owners = int(owner_NYX.max(initial=-1)) + 1
    return Scores(sum_RC=owner_sums(logits_NKYX, owner_NYX, owners, spec))


_uniform: type[Engine] = UniformEngine
_threshold: type[Engine] = ThresholdEngine
