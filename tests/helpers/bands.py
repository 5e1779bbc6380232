"""Bands of one file, opened on a grid by the hot path."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, LayerFile, SceneLayer, Window
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.values import CogValues
from quakestream.raster.layer_probe import probe_layers
from quakestream.raster.values import ValueReader
from quakestream.storage import StorageOptions
from tests.helpers.noise import scene_at
from tests.helpers.sentinel import EPSG, NORTH_M, WEST_M, counts_of, write_raster

SIDE_M = 2400
SCALE, OFFSET = 0.0001, -0.1
OPTIONS = StorageOptions()


def layer_of(path: Path, band: int = 1, **changed: Any) -> SceneLayer:
    """A probed band of a file."""
    layer = SceneLayer(
        name="red", file=LayerFile(href=str(path)), band=band, scale=SCALE, offset=OFFSET
    )
    scene = replace(scene_at(path), layers=(replace(layer, **changed),))
    return probe_layers(scene, OPTIONS).layers[0]


def opened(layers: list[SceneLayer], gsd_m: float, *, epsg: int = EPSG, **more: Any) -> ValueReader:
    grid = Grid(epsg=epsg, gsd_m=gsd_m)
    scene = replace(scene_at(Path(layers[0].file.href)), layers=tuple(layers))
    reader = CogOpener(OPTIONS).values(scene, layers, grid, **more)
    assert isinstance(reader, CogValues)
    return reader


def window_at(
    gsd_m: float, *, west_m: float = 120, south_m: float = 600, side_m: float = 1440
) -> Window:
    """A window inside the tile, metres from its upper left corner."""
    grid = Grid(epsg=EPSG, gsd_m=gsd_m)
    left, top = WEST_M + west_m, NORTH_M - south_m
    return grid.window(left, top - side_m, left + side_m, top)


def band_file(folder: Path, gsd_m: int, **options: Any) -> tuple[Path, NDArray[np.uint16]]:
    counts_YX = counts_of(gsd_m, SIDE_M, gsd_m)
    options = {"nodata": 0, **options}
    return write_raster(folder / f"{gsd_m}.tif", counts_YX[None], gsd_m, **options), counts_YX
