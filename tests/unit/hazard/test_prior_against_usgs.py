"""The landslide prior against USGS's own outputs for Loma Prieta 1989, cell by cell.

USGS's run interpolated shaking linearly on triangles, whose diagonals are arbitrary: each square
of four nodes is cut one way or the other. Bilinear shaking always lies between the two. With the
same triangles the outputs agree to rounding; bilinear they differ by what the triangles leave out.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from quakestream.fusion.nowicki_jessee import SlideCoverage
from quakestream.hazard.landslide_prior import PriorInputs, open_prior
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


@pytest.fixture(scope="module")
def on_triangles(inputs: PriorInputs) -> SlideCoverage:
    with open_prior(replace(inputs, shaking="triangles")) as prior:
        return prior.read(prior.window())


def test_on_triangles_999_cells_of_1000_agree_within_1_percent(
    compared: Compared, on_triangles: SlideCoverage
) -> None:
    for name, theirs in (("coverage", compared.coverage_YX), ("std", compared.std_YX)):
        ours = getattr(on_triangles, name)
        near = relative(ours, theirs)
        assert (near < 0.01).mean() > (0.999 if name == "coverage" else 0.998)
        assert np.percentile(near, 99) < 1e-4
        off = np.abs(ours - theirs)[np.isfinite(theirs)]
        assert off.max() < 3e-4 if name == "coverage" else 3e-3
        assert off.mean() < 1e-6


def test_bilinear_shaking_lies_between_both_cuts(compared: Compared, inputs: PriorInputs) -> None:
    cut = []
    with open_prior(inputs) as prior:
        (one,) = prior.shaking.maps
        squares = np.ones((len(one.shakemap.lat) - 1, len(one.shakemap.lon) - 1), np.bool_)
        for rising in (squares, ~squares):
            shaking = replace(prior.shaking, maps=(replace(one, rising_YX=rising),))
            cut.append(replace(prior, shaking=shaking).read(prior.window()).coverage)
    ours = compared.ours.coverage
    known = np.isfinite(ours)
    assert (ours >= np.minimum(*cut) - 1e-12)[known].all()
    assert (ours <= np.maximum(*cut) + 1e-12)[known].all()


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
