"""Scenes of noise: every pixel differs from its neighbours."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import box

from quakestream.domain import Grid, Scene
from quakestream.testing.worlds import GSD_M

SIDE = 400
GRID = Grid(epsg=32637, gsd_m=GSD_M)


def noise(seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """Counts of three bands, shape (band, y, x), without black."""
    counts_BYX = np.random.default_rng(seed).integers(1, 255, (3, side, side))
    return counts_BYX.astype(np.uint8)


def scene_at(path: Path, gsd_m: float = GSD_M) -> Scene:
    """A scene that was not probed."""
    return Scene(
        id=path.stem,
        href=str(path),
        datetime=datetime.now(UTC),
        outline=box(0, 0, 1, 1),
        gsd_m=gsd_m,
    )
