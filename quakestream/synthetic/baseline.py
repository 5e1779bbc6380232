"""The simplest detector: brightness difference per footprint.

If it did well on a synthetic earthquake, a model's score there would prove nothing.
"""

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.windows import from_bounds
from scipy.stats import rankdata

from quakestream.errors import SceneError


def difference_per_footprint(
    pre: Path, post: Path, footprints: gpd.GeoDataFrame
) -> NDArray[np.float64]:
    """Mean absolute pre/post difference inside each footprint, both scenes z-scored per band.

    NaN where a footprint has no pixel that is valid in both.

    Raises:
        SceneError: if the scenes differ in CRS or GSD.
    """
    with rasterio.open(pre) as before, rasterio.open(post) as after:
        if before.crs != after.crs or before.res != after.res:
            raise SceneError(
                "scenes have different grids",
                f"{pre} and {post}",
                expected="one CRS and one GSD",
                got=f"{before.crs}, {before.res} m and {after.crs}, {after.res} m",
            )
        window = from_bounds(*after.bounds, transform=before.transform).round_offsets()
        shape = (after.height, after.width)
        images = [before.read(window=window, boundless=True), after.read()]
        masks = [before.dataset_mask(window=window, boundless=True), after.dataset_mask()]
        valid_YX = (masks[0] > 0) & (masks[1] > 0)
        outlines = footprints.to_crs(after.crs).geometry
        shapes = ((outline, i) for i, outline in enumerate(outlines, start=1))
        id_YX = rasterize(shapes, out_shape=shape, transform=after.transform, dtype="int32")
    scaled = [_z_scored(image, valid_YX) for image in images]
    difference_YX = np.abs(scaled[0] - scaled[1]).mean(axis=0)
    owner = id_YX[valid_YX]
    count = len(footprints) + 1
    total = np.bincount(owner, weights=difference_YX[valid_YX], minlength=count)
    pixels = np.bincount(owner, minlength=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(pixels > 0, pixels, np.nan))[1:]


def _z_scored(pixels_BYX: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> NDArray[np.float32]:
    values = pixels_BYX.astype(np.float32)
    mean = values[:, valid_YX].mean(axis=1)[:, None, None]
    deviation = values[:, valid_YX].std(axis=1)[:, None, None]
    return np.asarray((values - mean) / np.maximum(deviation, 1e-6))


def roc_auc(scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; rows whose score is NaN are left out."""
    known = np.isfinite(scores_N)
    scores, positive = scores_N[known], positive_N[known]
    ranks = rankdata(scores)
    hits, misses = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
