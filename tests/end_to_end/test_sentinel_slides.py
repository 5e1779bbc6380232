"""The shipped bundle for Sentinel-2 on a tile of synthetic hills that it was not trained on."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from quakestream.bundles import load_bundle
from quakestream.outputs.rasters import NODATA, STEPS
from tests.helpers.mapping import map_file
from tests.helpers.sentinel import NORTH_M, WEST_M, run_file
from tests.helpers.slide_tile import slide_tile

BUNDLE = "landslide-s2-synthetic"
UNSEEN = 7_000
"""Seed of a region. Training took those from 1,000 to 1,045."""
MARGIN_PX = 48
"""Pixels at the edge, where the network sees ground that no file holds."""


@pytest.mark.slow
def test_slides_of_unseen_hills_are_found_through_the_files_of_a_product(tmp_path: Path) -> None:
    tile = slide_tile(tmp_path, UNSEEN)
    models = {"damage": None, "landslide": BUNDLE}
    path = run_file(
        tmp_path,
        tile.item.write(),
        Path(BUNDLE),
        models=models,
        terrain={"dem": str(tile.dem)},
        outputs=["scores"],
        side_m=4800,
    )
    run = map_file(path)
    (raster,) = (tmp_path / "out" / "scores").glob("*.tif")
    with rasterio.open(raster) as dataset:
        window = dataset.window(*tile_bounds())
        p_YX = dataset.read(dataset.count, window=window)
    known_YX = p_YX != NODATA
    inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    clear_YX = ~tile.region.cloud_YX
    assert known_YX[inner][clear_YX[inner]].mean() > 0.97
    threshold = load_bundle(BUNDLE).spec.thresholds.balanced
    found_YX = (p_YX[inner] / STEPS >= threshold) & known_YX[inner]
    true_YX = (tile.region.mask_YX[inner] > 0) & known_YX[inner]
    hits = (found_YX & true_YX).sum()
    precision, recall = hits / found_YX.sum(), hits / true_YX.sum()
    assert 2 * precision * recall / (precision + recall) > 0.7
    assert run.run["counts"]["landslides"]["slides"] > 0


def tile_bounds() -> tuple[float, float, float, float]:
    """Bounds of the tile, metres in its zone."""
    return WEST_M, NORTH_M - 4800, WEST_M + 4800, NORTH_M
