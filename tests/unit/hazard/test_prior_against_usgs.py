"""The landslide prior against USGS's own outputs for Loma Prieta 1989, cell by cell.

USGS's run interpolated shaking linearly on triangles, whose diagonals are arbitrary: each square
of four nodes is cut one way or the other. Ours is bilinear, which always lies between the two.
With the diagonals of USGS's run the outputs agree to rounding; with bilinear shaking they differ
by what the triangles leave out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from quakestream.fusion.nowicki_jessee import SlideCoverage
from quakestream.hazard import landslide_prior
from quakestream.hazard.landslide_prior import LandslidePrior, PriorInputs, open_prior
from quakestream.hazard.shaking import PgvMap
from quakestream.reduce.metrics import roc_auc

pytestmark = pytest.mark.data

F64 = NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(data_dir: Path) -> Path:
    return data_dir / "lomaprieta-1989-shakemap-groundfailure"


@pytest.fixture(scope="module")
def inputs(folder: Path) -> PriorInputs:
    layers = folder / "model_inputs"
    return PriorInputs(
        shakemaps=(str(folder / "shakemap/grid.xml"),),
        lithology=str(layers / "GLIM_replace.tif"),
        landcover=str(layers / "globcover_replace.tif"),
        cti=str(layers / "global_cti_fil.grd"),
        stddev=str(layers / "jessee_standard_deviation.tif"),
        gradient=str(layers / "global_grad.tif"),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Ours, cell by cell beside USGS's."""

    ours: SlideCoverage
    coverage_YX: F64
    std_YX: F64


@pytest.fixture(scope="module")
def compared(folder: Path, inputs: PriorInputs) -> Compared:
    with open_prior(inputs) as prior:
        ours = prior.read(prior.window())
    width = ours.coverage.shape[1]
    theirs = [
        usgs(folder / f"model_outputs/{name}.grd")[:, :width]
        for name in ("jessee_2018", "jessee_2018_std")
    ]
    return Compared(ours=ours, coverage_YX=theirs[0], std_YX=theirs[1])


def usgs(path: Path) -> F64:
    """An output of USGS. It has no georeference and no tag for its fill."""
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as raster:
        values: F64 = raster.read(1)
    return np.where(values > 1e30, np.nan, values)


def relative(ours: F64, theirs: F64) -> F64:
    known = np.isfinite(ours) & (theirs > 0)
    return np.abs(ours - theirs)[known] / theirs[known]


def test_the_same_cells_have_a_value_and_the_same_are_zero(compared: Compared) -> None:
    ours, theirs = compared.ours.coverage, compared.coverage_YX
    assert ours.shape == theirs.shape == (337, 577)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_array_equal(ours == 0, theirs == 0)
    assert np.isfinite(theirs).sum() == 117_952


def test_with_bilinear_shaking_the_difference_is_small(compared: Compared) -> None:
    """As measured: 59 % of cells within 1 %, half within 0.7 %; at most 0.0094 apart."""
    ours, theirs = compared.ours.coverage, compared.coverage_YX
    off = np.abs(ours - theirs)[np.isfinite(theirs)]
    assert off.max() < 0.0095
    assert off.mean() < 1.2e-4
    near = relative(ours, theirs)
    assert np.median(near) < 0.007
    assert (near < 0.01).mean() > 0.59
    assert np.nanmax(ours) == pytest.approx(np.nanmax(theirs), rel=1e-3)
    deviation = np.abs(compared.ours.std - compared.std_YX)[np.isfinite(theirs)]
    assert deviation.max() < 0.011
    assert deviation.mean() < 6e-5


def triangles(one: PgvMap, lon: F64, lat: F64, values: F64, rising: NDArray[np.bool_]) -> F64:
    """Linear on two triangles of each square of nodes, cut along the rising or falling diagonal."""
    nodes = one.shakemap
    at_x = (lon - nodes.lon[0]) / (nodes.lon[1] - nodes.lon[0])
    at_y = (lat - nodes.lat[0]) / (nodes.lat[1] - nodes.lat[0])
    inside = (at_x >= 0) & (at_y >= 0) & (at_x <= len(nodes.lon) - 1) & (at_y <= len(nodes.lat) - 1)
    col, row = square(nodes.lon, at_x), square(nodes.lat, at_y)
    u, v = at_x - col, at_y - row
    sw, se = values[row, col], values[row, col + 1]
    nw, ne = values[row + 1, col], values[row + 1, col + 1]
    up = np.where(u >= v, sw + (se - sw) * u + (ne - se) * v, sw + (nw - sw) * v + (ne - nw) * u)
    falling = np.where(
        u + v <= 1,
        sw + (se - sw) * u + (nw - sw) * v,
        ne + (nw - ne) * (1 - u) + (se - ne) * (1 - v),
    )
    return np.where(inside, np.where(rising, up, falling), np.nan)


def square(nodes: F64, at: F64) -> NDArray[np.intp]:
    return np.clip(np.floor(at).astype(np.intp), 0, len(nodes) - 2)


@pytest.fixture(scope="module")
def cut_both_ways(inputs: PriorInputs) -> tuple[SlideCoverage, SlideCoverage, NDArray[np.intp]]:
    """The prior with all squares cut one way, then the other, and the square of each cell."""
    made = []
    with open_prior(inputs) as prior, pytest.MonkeyPatch.context() as patch:
        one = prior.shaking.maps[0]
        assert one.uncertainty is not None
        fields = one.shakemap.fields["PGV"], one.uncertainty.fields["STDPGV"]
        window = prior.window()
        lon, lat = prior.frame.lonlat(window)
        for rising in (True, False):
            cut = np.full(lon.shape, rising)
            found = [triangles(one, lon, lat, values, cut) for values in fields]
            patch.setattr(
                landslide_prior.StrongestShaking, "at", lambda *_, found=found: tuple(found)
            )
            made.append(LandslidePrior.read(prior, window))
    step = 0.025
    col, row = (np.floor((at - low) / step).astype(int) for at, low in ((lon, -122.5), (lat, 36.5)))
    return made[0], made[1], row.clip(0, 27) * 48 + col.clip(0, 47)


def test_with_the_triangles_of_usgs_999_cells_of_1000_agree_within_1_percent(
    compared: Compared, cut_both_ways: tuple[SlideCoverage, SlideCoverage, NDArray[np.intp]]
) -> None:
    """The way a square is cut is taken from the data: one bit for about 144 cells."""
    rising, falling, square_YX = cut_both_ways
    for name, theirs in (("coverage", compared.coverage_YX), ("std", compared.std_YX)):
        first, second = getattr(rising, name), getattr(falling, name)
        bits = chosen(first, second, theirs, square_YX)
        ours = np.where(bits, first, second)
        near = relative(ours, theirs)
        assert (near < 0.01).mean() > (0.999 if name == "coverage" else 0.998)
        assert np.percentile(near, 99) < 1e-4
        off = np.abs(ours - theirs)[np.isfinite(theirs)]
        assert off.max() < 3e-4 if name == "coverage" else 3e-3
        assert off.mean() < 1e-6


def chosen(first: F64, second: F64, theirs: F64, square_YX: NDArray[np.intp]) -> Any:
    """True for the cells of squares where the first cut is the nearer one."""
    wrong = [
        np.bincount(square_YX.ravel(), np.nan_to_num(np.abs(ours - theirs)).ravel())
        for ours in (first, second)
    ]
    return (wrong[0] <= wrong[1])[square_YX]


def test_bilinear_shaking_lies_between_both_cuts(
    compared: Compared, cut_both_ways: tuple[SlideCoverage, SlideCoverage, NDArray[np.intp]]
) -> None:
    first, second, ours = (
        found.coverage for found in (cut_both_ways[0], cut_both_ways[1], compared.ours)
    )
    low, high = np.minimum(first, second), np.maximum(first, second)
    known = np.isfinite(ours)
    assert (ours >= low - 1e-12)[known].all()
    assert (ours <= high + 1e-12)[known].all()


def test_the_published_prior_and_posterior_of_hokkaido_rank_the_true_slides(data_dir: Path) -> None:
    """Our own prior cannot be made there: there is no slope, lithology, land cover or index."""
    folder = data_dir / "hokkaido-2018-landslide"

    def layer(name: str) -> F64:
        with rasterio.open(folder / f"2018_hokkaido_japan_30m_{name}.tif") as raster:
            values: F64 = raster.read(1)
        return values

    truth = layer("landslide_ground_truth_rasterized") > 0
    assert truth.sum() == 42_664
    prior = roc_auc(truth.ravel(), layer("prior_landslide_model").ravel())
    posterior = roc_auc(truth.ravel(), layer("posterior_landslide_model").ravel())
    assert prior == pytest.approx(0.693, abs=0.001)
    assert posterior == pytest.approx(0.889, abs=0.001)
