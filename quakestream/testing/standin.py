"""Bundles for the runtime `stand-in`, which measures the stream without a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from quakestream.bundles import load_bundle, write_manifest
from quakestream.engines import Batch
from quakestream.engines.fakes import STAND_IN_SERVICE, ThresholdEngine
from quakestream.testing.worlds import write_bundle


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
    metrics = {STAND_IN_SERVICE: {"window_s": window_s, "spin": spin}}
    logits_NKYX = ThresholdEngine(plain).score(Batch.of(plain.golden, plain.spec))
    golden = {**plain.golden, "logits": logits_NKYX}
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    write_manifest(folder, replace(plain.spec, metrics=metrics))
    return folder
