"""Engines without a network, for tests and dry runs. They implement the whole `Engine` protocol."""

import json
import time

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.engines.base import Batch, Engine, owner_sums
from quakestream.errors import BundleError

STAND_IN_SERVICE = "stand_in"
"""Key of a manifest's metrics that states the service time of `StandInEngine`."""


class _Fake:
    """Base that makes sums from the logits of `score`. A subclass adds `score` and `name`."""

    def __init__(self, bundle: Bundle) -> None:
        self._spec = bundle.spec

    @property
    def on_gpu(self) -> bool:
        return False

    @property
    def batch(self) -> int:
        return 0

    def score(self, batch: Batch) -> NDArray[np.float32]:
        raise NotImplementedError

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        batch.check_pixels(self._spec)
        owners = int(owner_NYX.max(initial=-1)) + 1
        return owner_sums(self.score(batch), owner_NYX, owners, self._spec)


class UniformEngine(_Fake):
    """Gives every class the same probability everywhere."""

    @property
    def name(self) -> str:
        return "uniform"

    def score(self, batch: Batch) -> NDArray[np.float32]:
        batch.check(self._spec)
        side, outputs = self._spec.window_px, len(self._spec.classes)
        pixels = (side, side) if self._spec.scores_pixels else ()
        return np.zeros((len(batch), outputs, *pixels), np.float32)


class ThresholdEngine(_Fake):
    """Calls a pixel damaged by how much its grey value changed.

    This is the baseline every model must beat. It has two classes. Post-only bundles are
    compared with mid-grey. Only the middle quarter of a crop counts.

    Raises:
        BundleError: the bundle takes no imagery.
    """

    CHANGE_COUNTS = 40.0

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        if "post" not in bundle.spec.epochs:
            raise BundleError("runtime threshold needs a bundle that takes images", bundle.uri)

    @property
    def name(self) -> str:
        return "threshold"

    def score(self, batch: Batch) -> NDArray[np.float32]:
        batch.check(self._spec)
        post_NYX = batch.images["post"].astype(np.float32).mean(axis=1)
        pre = batch.images.get("pre")
        pre_NYX = 128.0 if pre is None else pre.astype(np.float32).mean(axis=1)
        logits_NYX = (np.abs(post_NYX - pre_NYX) - self.CHANGE_COUNTS) / 10.0
        if self._spec.scores_pixels:
            logits_N1YX: NDArray[np.float32] = logits_NYX[:, None].astype(np.float32)
            return logits_N1YX
        side = self._spec.window_px
        middle = slice(side // 4, side - side // 4)
        means = [crop_YX[middle, middle].mean() for crop_YX in logits_NYX]
        return np.array(means, np.float32).reshape(-1, 1)


class StandInEngine(_Fake):
    """Takes a stated time for each window and gives the scores of `ThresholdEngine`.

    Benchmarks use it to measure the stream itself. An engine that sleeps takes no core from the
    readers, like an engine on a GPU, so many of them on a small machine show how a large one would
    scale. The manifest states the time, and whether the engine sleeps or loops:
    `metrics: {stand_in: {window_s: 0.1, spin: false}}`.

    Raises:
        BundleError: the manifest does not state the time.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        service = bundle.spec.metrics.get(STAND_IN_SERVICE)
        if service is None:
            raise BundleError(
                f"runtime stand-in needs metrics.{STAND_IN_SERVICE} in the manifest",
                bundle.uri,
                expected=json.dumps({"window_s": 0.1, "spin": False}),
            )
        self._window_s, self._spin = float(service["window_s"]), bool(service.get("spin", False))
        self._scores = ThresholdEngine(bundle)

    @property
    def name(self) -> str:
        return f"stand-in {self._window_s * 1000:g} ms"

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """The scores of `ThresholdEngine`, after the stated time."""
        done = time.perf_counter() + self._window_s * len(batch)
        logits = self._scores.score(batch)
        if self._spin:
            while time.perf_counter() < done:
                pass
        else:
            time.sleep(max(0.0, done - time.perf_counter()))
        return logits


_uniform: type[Engine] = UniformEngine
_threshold: type[Engine] = ThresholdEngine
_stand_in: type[Engine] = StandInEngine
