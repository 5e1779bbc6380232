"""The landslide prior in `map`: fused with images, alone where there is none, as an order."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from scipy.special import expit, logit

from quakestream.pipeline.kinds.units import Unit
from quakestream.pipeline.planning.reading_order import SQUARE_CELLS, ReadingOrder
from quakestream.testing.worlds import EPSG, NORTH_M, WEST_M
from quakestream.tiling import Cell
from tests.helpers.mapping import edit, map_file, mapped
from tests.helpers.prior_case import PriorWorld, expected, make_prior_world, write_layer
from tests.helpers.sliding import sliding_world, write_slide_bundle

SHARE = 0.04


def prior_files(folder: Path) -> PriorWorld:
    """Layers and a ShakeMap around the small world, of one value each."""
    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    lon, lat = to_degrees.transform(WEST_M + 100, NORTH_M - 100)
    return make_prior_world(folder / "layers", west=lon - 0.1, south=lat - 0.05)


def name_prior(run_file: Path, made: PriorWorld, dem: str) -> None:
    inputs = made.inputs
    terrain = {
        "dem": dem,
        "lithology": inputs.lithology,
        "landcover": inputs.landcover,
        "cti": inputs.cti,
        "slope": inputs.gradient,
    }

    def change(content: dict[str, Any]) -> None:
        content["hazard"] = {"shakemaps": list(inputs.shakemaps)}
        content["terrain"] = terrain

    edit(run_file, change)


def steep_dem(folder: Path) -> str:
    """A DEM that rises everywhere, so that all ground is looked at."""
    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    lon, lat = to_degrees.transform(WEST_M + 100, NORTH_M - 100)
    step = 1 / 3600
    rise = np.arange(720)[:, None] * np.ones((1, 1080)) * 12.0
    return write_layer(folder / "dem.tif", rise % 4000, step, lon - 0.15, lat + 0.1)


def with_share(folder: Path) -> str:
    return str(write_slide_bundle(folder / "stated", prior=(1 - SHARE, SHARE)))


def prior_world(folder: Path, *, stated: bool) -> Path:
    world = sliding_world(folder, damage=False)
    name_prior(world.run_file, prior_files(folder), dem=steep_dem(folder))
    if stated:
        bundle = with_share(folder)
        edit(world.run_file, lambda content: content["models"].update(landslide=bundle))
    return world.run_file


def test_image_and_prior_together_and_both_said(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    alone = mapped(tmp_path, "alone")
    before = gpd.read_parquet(tmp_path / "alone" / "landslides.parquet")
    assert before["p_prior"].isna().all()
    assert not (tmp_path / "alone" / "prior.tif").exists()
    assert "landslide_prior" not in alone.run
    name_prior(world.run_file, prior_files(tmp_path), dem=steep_dem(tmp_path))
    bundle = with_share(tmp_path)
    edit(world.run_file, lambda content: content["models"].update(landslide=bundle))
    run = mapped(tmp_path, "out")
    after = gpd.read_parquet(tmp_path / "out" / "landslides.parquet")
    coverage, _ = expected()
    assert after["p_prior"].to_numpy() == pytest.approx(coverage, rel=1e-4)
    assert set(after["evidence"]) == {"image+prior"}
    assert after["p_image"].to_numpy() == pytest.approx(before["probability"].to_numpy(), abs=1e-6)
    both = expit(logit(after["p_image"]) + logit(coverage) - logit(SHARE))
    assert after["probability"].to_numpy() == pytest.approx(both.to_numpy(), abs=1e-4)
    assert ((after["image_share"] > 0.5) & (after["image_share"] <= 1)).all()
    assert after["landslide_id"].equals(before["landslide_id"])
    said = run.run["landslide_prior"]
    assert said["max_coverage"] == pytest.approx(coverage, abs=1e-5)
    assert set(said["layers"]) == {"lithology", "landcover", "cti", "gradient"}
    with rasterio.open(tmp_path / "out" / "prior.tif") as raster:
        assert raster.descriptions == ("coverage", "std")
        assert np.nanmax(raster.read(1)) == pytest.approx(coverage, rel=1e-4)
    assert any("prior from shaking and terrain is highest" in note for note in run.run["notes"])


def test_a_bundle_without_a_share_keeps_its_probability_beside_the_prior(tmp_path: Path) -> None:
    run = map_file(prior_world(tmp_path, stated=False), tmp_path / "out")
    found = gpd.read_parquet(tmp_path / "out" / "landslides.parquet")
    assert found["p_prior"].to_numpy() == pytest.approx(expected()[0], rel=1e-4)
    assert set(found["evidence"]) == {"image"}
    assert found["p_image"].isna().all()
    assert "landslide_prior" in run.run


def test_where_no_image_is_the_prior_is_the_answer_and_says_so(tmp_path: Path) -> None:
    map_file(prior_world(tmp_path, stated=True), tmp_path / "out")
    cells = gpd.read_parquet(tmp_path / "out" / "coverage.parquet")
    unseen = cells[cells["reason"] == "no_imagery"]
    seen = cells[cells["status"] == "scored"]
    assert len(unseen) > 0
    assert set(unseen["evidence"]) == {"prior"}
    assert set(seen["evidence"]) == {"image+prior"}
    assert cells["p_prior"].to_numpy() == pytest.approx(expected()[0], rel=1e-4)


def test_a_prior_that_cannot_be_made_is_an_issue_and_the_map_is_made(tmp_path: Path) -> None:
    run_file = prior_world(tmp_path, stated=True)
    classes = write_layer(tmp_path / "layers" / "classes.tif", 7.0, west=36.0)
    raster = str(Path(tmp_path / "layers" / "lithology.tif"))
    with rasterio.open(raster) as good, rasterio.open(classes, "r+") as bad:
        bad.transform = good.transform
    edit(run_file, lambda content: content["terrain"].update(lithology=classes))
    run = map_file(run_file, tmp_path / "out")
    assert any("values are no coefficients of lithology" in issue.cause for issue in run.issues)
    found = gpd.read_parquet(tmp_path / "out" / "landslides.parquet")
    assert len(found) > 5
    assert found["p_prior"].isna().all()
    assert not (tmp_path / "out" / "prior.tif").exists()


def test_a_map_made_again_without_the_prior_has_no_old_raster(tmp_path: Path) -> None:
    run_file = prior_world(tmp_path, stated=True)
    map_file(run_file, tmp_path / "out")
    assert (tmp_path / "out" / "prior.tif").exists()
    edit(run_file, lambda content: content.pop("terrain"))
    map_file(run_file, tmp_path / "out")
    assert not (tmp_path / "out" / "prior.tif").exists()


def place(row: int, col: int, footprints: int = 0) -> tuple[tuple[int, Unit], ...]:
    cell = Cell(epsg=EPSG, gsd_m=0.5, size_px=400, row=row, col=col)
    unit = Unit(
        cell=cell,
        view=0,
        window_W2=np.zeros((1, 2), np.int64),
        footprint_F=np.arange(footprints),
        scored=1,
        read_px=1,
    )
    return ((0, unit),)


def test_ground_is_read_by_squares_where_the_prior_is_highest_first() -> None:
    """Places with buildings come first, in their order; neighbours stay together."""
    random = np.random.default_rng(5)
    places = [place(row, col) for row in range(12) for col in range(12)]
    places.insert(70, place(50, 50, footprints=3))
    prior = {p[0][1].cell: float(random.random()) for p in places}
    del prior[places[0][0][1].cell]
    order = ReadingOrder(prior_of_cell=prior)
    found = order.ordered(places)
    assert sorted(map(id, found)) == sorted(map(id, places))
    assert found[0] is places[70]
    cells = [p[0][1].cell for p in found[1:]]
    squares = [(c.row // SQUARE_CELLS, c.col // SQUARE_CELLS) for c in cells]
    runs = [s for n, s in enumerate(squares) if n == 0 or s != squares[n - 1]]
    assert len(runs) == len(set(squares)) == 9, "a square is read in one go"
    best = [
        max(prior.get(c, -1) for c, s in zip(cells, squares, strict=True) if s == run)
        for run in runs
    ]
    assert best == sorted(best, reverse=True)
    assert ReadingOrder().ordered(places) == tuple(places)


def test_buildings_are_read_by_squares_where_most_were_shaken_most_first() -> None:
    places = [place(row, col, footprints=1) for row in range(12) for col in range(12)]
    ground = place(60, 60)
    random = np.random.default_rng(6)
    shaken = {p[0][1].cell: float(random.random()) for p in places}
    found = ReadingOrder(shaken_of_cell=shaken).ordered([ground, *places])
    assert sorted(map(id, found)) == sorted(map(id, [ground, *places]))
    assert found[-1] is ground
    cells = [p[0][1].cell for p in found[:-1]]
    squares = [(c.row // SQUARE_CELLS, c.col // SQUARE_CELLS) for c in cells]
    runs = list(dict.fromkeys(squares))
    assert squares == [square for square in runs for _ in range(SQUARE_CELLS**2)]
    sums = [sum(shaken[c] for c, s in zip(cells, squares, strict=True) if s == run) for run in runs]
    assert sums == sorted(sums, reverse=True)
    alike = ReadingOrder(shaken_of_cell=dict.fromkeys(shaken, 1.0)).ordered(places)
    cells = [p[0][1].cell for p in alike]
    squares = [(c.row // SQUARE_CELLS, c.col // SQUARE_CELLS) for c in cells]
    assert squares == sorted(squares), "in one go, too, where all are shaken alike"
