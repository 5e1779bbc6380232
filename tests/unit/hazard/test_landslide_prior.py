"""The landslide prior of an event: layers as they are found, and what each fault does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.io import MemoryFile
from rasterio.transform import Affine, from_origin

from quakestream.config import HazardSection, TerrainSection
from quakestream.domain import Grid, Window
from quakestream.errors import HazardError
from quakestream.fusion.nowicki_jessee import SlideCoverage
from quakestream.hazard.landslide_prior import PriorInputs, open_prior
from quakestream.hazard.prior_raster import PriorRaster, prior_raster
from tests.helpers.prior_case import (
    COVER,
    CTI,
    EAST,
    GRADIENT,
    NORTH,
    PGV,
    ROCK,
    SOUTH,
    STEP,
    WEST,
    PriorWorld,
    expected,
    make_prior_world,
    write_grid,
    write_layer,
)

FILL = 9.96921e36


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PriorWorld:
    return make_prior_world(tmp_path_factory.mktemp("prior"))


@pytest.fixture
def world(made: PriorWorld, tmp_path: Path) -> PriorWorld:
    return replace(made, folder=tmp_path)


def raster(inputs: PriorInputs) -> PriorRaster:
    with open_prior(inputs) as prior:
        return prior_raster(prior)


def bands(made: PriorRaster) -> tuple[NDArray[Any], Affine]:
    with MemoryFile(made.cog) as memory, memory.open() as dataset:
        return dataset.read(), dataset.transform


def refused(inputs: PriorInputs) -> str:
    with pytest.raises(HazardError) as caught:
        raster(inputs)
    return str(caught.value)


def test_one_value_everywhere_is_that_of_the_formula(world: PriorWorld) -> None:
    made = raster(world.inputs)
    values, transform = bands(made)
    coverage, std = expected()
    inner = values[:, 2:-2, 2:-2]
    np.testing.assert_allclose(inner[0], coverage, rtol=1e-5)
    np.testing.assert_allclose(inner[1], std, rtol=1e-5)
    assert (transform.a, transform.e) == pytest.approx((STEP, -STEP))
    assert made.bounds[0] == pytest.approx(WEST, abs=2 * STEP)
    assert made.bounds[3] == pytest.approx(NORTH, abs=2 * STEP)
    assert not made.attention
    assert made.summary.max_coverage == pytest.approx(coverage, rel=1e-6)
    # 0.2° × 0.1° at 37° N
    assert made.summary.assessed_km2 == pytest.approx(17.76 * 11.10, rel=0.03)
    assert made.summary.above_km2[0.01] == pytest.approx(made.summary.assessed_km2)
    assert made.summary.above_km2[0.05] == 0
    assert made.summary.expected_km2 == pytest.approx(coverage * made.summary.assessed_km2)


def test_the_cog_says_what_it_holds(world: PriorWorld) -> None:
    with MemoryFile(raster(world.inputs).cog) as memory, memory.open() as dataset:
        assert dataset.descriptions == ("coverage", "std")
        assert dataset.units == ("share of ground, 0 to 1",) * 2
        assert dataset.tags()["SHAKEMAP"] == "us1 version 1"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert np.isnan(dataset.nodata)


def test_blocks_of_any_size_give_the_same_prior(
    world: PriorWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    inputs = replace(
        world.with_layer("gradient", random.random((96, 144))),
        cti=write_layer(world.folder / "c.tif", random.random((24, 36)) * 15, step=1 / 120),
        shakemaps=(
            write_grid(world.folder / "s" / "grid.xml", {"PGV": random.random((5, 9)) * 80}),
        ),
    )
    whole, _ = bands(raster(inputs))
    monkeypatch.setattr("quakestream.hazard.prior_raster._BLOCK_PX", 13)
    parts, _ = bands(raster(inputs))
    np.testing.assert_array_equal(parts, whole)
    assert np.nanstd(whole[0]) > 0


def test_points_and_a_models_grid_have_the_value_of_their_pixel(world: PriorWorld) -> None:
    random = np.random.default_rng(4)
    inputs = world.with_layer("gradient", random.random((96, 144)))
    lon, lat = random.uniform(WEST, EAST, 200), random.uniform(SOUTH, NORTH, 200)
    with open_prior(inputs) as prior:
        window = prior.window()
        whole = prior.read(window)
        points = prior.at(lon, lat)
        row, col = prior.frame.positions(lon, lat)
        place = np.rint(row).astype(int) - window.row, np.rint(col).astype(int) - window.col
        np.testing.assert_array_equal(points.coverage, whole.coverage[place])
        np.testing.assert_array_equal(points.std, whole.std[place])
        x, y = Transformer.from_crs(4326, 32637, always_xy=True).transform(36.1, 37.05)
        grid = Grid(epsg=32637, gsd_m=10.0)
        centre = grid.window(x, y, x + 10, y + 10)
        big = prior.over(grid, Window(row=centre.row, col=centre.col, height=60, width=60))
        small = prior.over(grid, Window(row=centre.row + 7, col=centre.col + 9, height=5, width=4))
        np.testing.assert_array_equal(small.coverage, big.coverage[7:12, 9:13])
        nowhere = prior.at(np.array([0.0, np.nan]), np.array([0.0, 37.05]))
    assert np.isnan(nowhere.coverage).all()
    assert prior_is_finite(big)


def prior_is_finite(found: SlideCoverage) -> bool:
    return bool(np.isfinite(found.coverage).all() and np.isfinite(found.std).all())


def test_several_events_count_by_the_strongest_shaking(world: PriorWorld) -> None:
    strong = np.full((5, 9), 10.0)
    strong[:, 5:] = 150.0
    second = write_grid(world.folder / "b" / "grid.xml", {"PGV": strong}, event="us2")
    write_grid(world.folder / "b" / "uncertainty.xml", {"STDPGV": 0.1}, event="us2")
    both = replace(world.inputs, shakemaps=(*world.inputs.shakemaps, second))
    with open_prior(both) as prior:
        found = prior.at(np.array([36.03, 36.18]), np.array([37.05, 37.05]))
    assert found.coverage == pytest.approx([expected()[0], expected(pgv_cm_s=150)[0]], rel=1e-6)
    assert found.std[1] == pytest.approx(expected(pgv_cm_s=150, sigma_ln_pgv=0.1)[1], rel=1e-6)


@pytest.mark.parametrize(("spread", "sigma"), [(0.56, 0.56), (None, 0.0)])
def test_without_uncertainty_xml_the_events_own_counts_with_a_note(
    world: PriorWorld, spread: float | None, sigma: float
) -> None:
    alone = write_grid(world.folder / "alone" / "grid.xml", {"PGV": PGV}, spread=spread)
    with open_prior(replace(world.inputs, shakemaps=(alone,))) as prior:
        found = prior.at(np.array([36.1]), np.array([37.05]))
        assert any("no uncertainty.xml beside it" in issue.cause for issue in prior.issues)
    assert found.std[0] == pytest.approx(expected(sigma_ln_pgv=sigma)[1], rel=1e-6)


def test_a_layer_of_deviations_counts_where_it_has_values(world: PriorWorld) -> None:
    stddev = np.full((96, 144), 0.5, np.float32)
    stddev[:, :72] = FILL
    with open_prior(world.with_layer("stddev", stddev)) as prior:
        found = prior.at(np.array([36.03, 36.17]), np.array([37.05, 37.05]))
    assert found.std == pytest.approx([expected()[1], expected(stddev=0.5)[1]], rel=1e-6)


def holes(value: float, base: float, step: float = STEP) -> NDArray[np.float32]:
    """A layer whose western half is one value."""
    values = np.full((round(0.2 / step), round(0.3 / step)), base, np.float32)
    values[:, : values.shape[1] // 2] = value
    return values


@pytest.mark.parametrize("fill", [FILL, -9999.0, -32768.0, float("nan"), -3.4e38])
@pytest.mark.parametrize(
    ("name", "base"), [("cti", CTI), ("lithology", ROCK), ("landcover", COVER)]
)
def test_fills_without_a_tag_are_no_values(
    world: PriorWorld, name: str, base: float, fill: float
) -> None:
    made = raster(world.with_layer(name, holes(fill, base)))
    values, _ = bands(made)
    middle = values.shape[2] // 2
    assert np.isnan(values[:, :, : middle - 5]).all()
    np.testing.assert_allclose(values[0][2:-2, middle + 5 : -2], expected()[0], rtol=1e-5)
    # Water has no topographic index; ground without a lithology needs attention.
    assert made.attention == (name != "cti")


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        (
            "lithology",
            7.0,
            "values are no coefficients of lithology: expected -4 to 0, got 7 to 7",
        ),
        ("landcover", 110.0, "values are no coefficients of land cover"),
        ("gradient", 45.0, "values are no gradients, rise over run"),
        ("cti", 4000.0, "values are no compound topographic indices"),
        ("stddev", -3.0, "values are no standard deviations"),
    ],
)
def test_a_layer_of_other_values_is_one_clear_line(
    world: PriorWorld, name: str, classes: float, words: str
) -> None:
    text = refused(world.with_layer(name, classes))
    assert words in text
    assert f"{name}-changed.tif" in text
    assert "\n" not in text


def test_swapped_layers_of_classes_are_told_by_name(world: PriorWorld) -> None:
    """Rocks of USGS's layer are 0 or less; land cover is nearly all above. 0 fills the ocean."""
    inputs = replace(
        world.inputs, lithology=world.inputs.landcover, landcover=world.inputs.lithology
    )
    text = refused(inputs)
    assert "values are no coefficients of lithology: expected -4 to 0, got 1.5 to 1.5" in text
    assert "they are those of landcover: give each layer in its own place" in text
    rocks = np.zeros((96, 144), np.float32)
    rocks[40:60, 60:90] = -1.92
    text = refused(world.with_layer("landcover", rocks))
    assert "values are no coefficients of land cover" in text
    assert "they are those of lithology" in text


def test_unknown_classes_of_lithology_are_a_named_reason(world: PriorWorld) -> None:
    values = np.full((96, 144), ROCK, np.float32)
    values[40:50, 60:70] = 99  # a class that nobody replaced
    made = raster(world.with_layer("lithology", values))
    assert made.attention
    assert [i.cause for i in made.issues] == ["unknown lithology in 100 shaken pixels"]
    assert np.isnan(bands(made)[0][0]).sum() >= 100


def test_no_shaking_and_level_ground_are_values_and_no_holes(world: PriorWorld) -> None:
    calm = write_grid(world.folder / "calm" / "grid.xml", {"PGV": 0.0})
    values, _ = bands(raster(replace(world.inputs, shakemaps=(calm,))))
    np.testing.assert_allclose(values[0][2:-2, 2:-2], np.exp(-7.592), rtol=1e-3)
    values, _ = bands(raster(world.with_layer("gradient", 0.01)))
    assert (values[0][2:-2, 2:-2] == 0).all()
    assert (values[1][2:-2, 2:-2] > 0).all()


def test_layers_without_crs_or_georeference_take_what_can_be_told(world: PriorWorld) -> None:
    bare = world.with_layer("lithology", ROCK, crs=None)
    made = raster(bare)
    assert any("read as EPSG:4326" in issue.cause for issue in made.issues)
    assert not made.attention


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_layer_without_georeference_takes_that_of_the_slopes_if_shapes_agree(
    world: PriorWorld,
) -> None:
    bare: dict[str, Any] = {"crs": None, "transform": Affine.identity()}
    made = raster(world.with_layer("lithology", ROCK, **bare))
    assert made.summary.max_coverage == pytest.approx(expected()[0], rel=1e-6)
    assert any("read with that of" in issue.cause for issue in made.issues)
    text = refused(world.with_layer("landcover", COVER, step=0.01, **bare))
    assert "raster has no georeference" in text
    assert "gradient.tif has another shape" in text


def test_layers_elsewhere_or_of_a_part_are_named(world: PriorWorld) -> None:
    assert "slopes do not cover the ShakeMap" in refused(
        world.with_layer("gradient", GRADIENT, west=80.0)
    )
    assert "no ground has a landslide prior" in refused(
        world.with_layer("lithology", ROCK, west=80.0)
    )
    made = raster(world.with_layer("cti", CTI, west=WEST + 0.1))
    assert made.attention
    assert [i.cause for i in made.issues] == ["covers 50% of the ShakeMap"]


def test_a_shakemap_without_velocity_is_one_clear_line(world: PriorWorld) -> None:
    shakemap = write_grid(world.folder / "m" / "grid.xml", {"MMI": 7.0})
    assert "ShakeMap has no PGV" in refused(replace(world.inputs, shakemaps=(shakemap,)))


@pytest.mark.parametrize("layers_west", [-180.0, 0.0])
def test_the_antimeridian_is_no_edge(tmp_path: Path, layers_west: float) -> None:
    """Layers of the whole Earth, and a ShakeMap from 179.9 to 180.1° E."""
    step = 0.05
    corner = from_origin(layers_west, 38, step, step)

    def whole(name: str, value: float) -> str:
        return write_band(tmp_path / f"{name}.tif", value, corner, (40, 7200))

    inputs = PriorInputs(
        shakemaps=(write_grid(tmp_path / "s" / "grid.xml", {"PGV": PGV}, west=179.9),),
        gradient=whole("g", GRADIENT),
        lithology=whole("l", ROCK),
        landcover=whole("c", COVER),
        cti=whole("t", CTI),
    )
    made = raster(inputs)
    values, transform = bands(made)
    assert np.isfinite(values[0]).sum() >= 4 * 2
    np.testing.assert_allclose(values[0][np.isfinite(values[0])], expected()[0], rtol=1e-5)
    centre = (transform @ (values.shape[2] / 2, 0))[0] % 360
    assert centre == pytest.approx(180, abs=0.06)
    assert made.bounds[2] - made.bounds[0] < 0.4


def write_band(path: Path, value: float, transform: Affine, shape: tuple[int, int]) -> str:
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="float32",
        crs="EPSG:4326", transform=transform, compress="deflate",
    ) as target:  # fmt: skip
        target.write(np.full(shape, value, np.float32), 1)
    return str(path)


def test_slopes_of_a_dem_serve_where_there_is_no_gradient(
    world: PriorWorld, tmp_path: Path
) -> None:
    """A DEM of 1 arc-second that rises 0.36 m a metre is averaged to the model's 230 m."""
    step = 1 / 3600
    height, width = round(0.2 / step), round(0.3 / step)
    rise = 111_000 * step * GRADIENT * np.arange(height)[:, None] * np.ones((1, width)) / 10
    transform = from_origin(WEST - 0.05, NORTH + 0.05, step, step)
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", height=height, width=width, count=1,
        dtype="float32", crs="EPSG:4326", transform=transform,
    ) as target:  # fmt: skip
        target.write(rise.astype(np.float32), 1)
    inputs = replace(world.inputs, gradient=None, dem=str(tmp_path / "dem.tif"))
    with open_prior(inputs) as prior:
        assert 200 < abs(prior.frame.transform.e) * 111_000 < 250  # rows of 8 arc-seconds
        found = prior.at(np.array([36.1]), np.array([37.05]))
    slope = float(np.degrees(np.arctan(GRADIENT / 10 * 111_000 / 110_980)))
    assert found.coverage[0] == pytest.approx(expected(slope_deg=slope)[0], rel=0.01)


def test_a_run_names_the_files_or_has_no_prior() -> None:
    shaken = HazardSection(shakemaps=["/s/grid.xml"])
    dem = TerrainSection(dem="/d.tif")
    full = TerrainSection(dem="/d.tif", lithology="/l.tif", landcover="/c.tif", cti="/t.tif")
    assert PriorInputs.of_run(shaken, None) is None
    assert PriorInputs.of_run(shaken, dem) is None
    assert PriorInputs.of_run(HazardSection(), full) is None
    inputs = PriorInputs.of_run(shaken, full)
    assert inputs is not None
    assert (inputs.dem, inputs.gradient, inputs.cti) == ("/d.tif", None, "/t.tif")
