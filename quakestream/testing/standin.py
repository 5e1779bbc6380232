"""A stand-in for an engine: a known service time, scores that hang on the pixels, no network.

With it the stream is what is measured: an engine that sleeps takes no core from the readers,
as one on a GPU does not, and many of them show on a small machine how a large one would scale.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle, load_bundle, write_manifest
from quakestream.engines import Batch, Engine, Scores
from quakestream.engines.fakes import ThresholdEngine
from quakestream.errors import BundleError
from quakestream.testing.worlds import write_bundle

SERVICE = "stand_in"
"""Key of a manifest's metrics that says how long to take."""


class StandInEngine:
    """Takes a stated time for each window, whatever its own arithmetic costs.

    The bundle's manifest says how long, and whether the time is slept or spun away:
    `metrics: {stand_in: {window_s: 0.1, spin: false}}`.

    Raises:
        BundleError: if the manifest does not say it.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0, batch: int = 0) -> None:
        told = bundle.spec.metrics.get(SERVICE)
        if told is None:
            raise BundleError(
                f"{bundle.uri}: the stand-in engine needs metrics.{SERVICE}, for example "
                f"{json.dumps({'window_s': 0.1, 'spin': False})}"
            )
        self._window_s, self._spin = float(told["window_s"]), bool(told.get("spin", False))
        self._scores = ThresholdEngine(bundle, threads=threads)

    @property
    def name(self) -> str:
        return f"stand-in {self._window_s * 1000:g} ms"

    def score(self, batch: Batch, owner_NYX: NDArray[np.int32] | None = None) -> Scores:
        """The `threshold` engine's scores, no sooner than the stated time."""
        done = time.perf_counter() + self._window_s * len(batch)
        scores = self._scores.score(batch, owner_NYX)
        if self._spin:
            while time.perf_counter() < done:
                pass
        else:
            time.sleep(max(0.0, done - time.perf_counter()))
        return scores


def write_stand_in_bundle(
    folder: Path,
    *,
    window_s: float,
    spin: bool = False,
    window_px: int = 96,
    halo_px: int = 16,
) -> Path:
    """A bundle for the runtime `stand-in`, with what it gives as the golden reference."""
    write_bundle(folder, window_px=window_px, halo_px=halo_px)
    plain = load_bundle(str(folder))
    metrics = {SERVICE: {"window_s": window_s, "spin": spin}}
    logits_NKYX = ThresholdEngine(plain).score(Batch.of(plain.golden, plain.spec)).logits_NKYX
    assert logits_NKYX is not None
    golden = {**plain.golden, "logits": logits_NKYX}
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    write_manifest(folder, replace(plain.spec, metrics=metrics))
    return folder


_: type[Engine] = StandInEngine
