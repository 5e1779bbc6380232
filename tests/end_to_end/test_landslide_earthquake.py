"""Damage, landslides and their prior in one run over the synthetic earthquake with hills.

The run is compared with the truth, with other cell sizes, with the uncut rasters, and with Ray.
"""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.merge
from rasterio.features import rasterize
from scipy import ndimage

import quakestream as qs
from quakestream.domain import Grid, Window
from quakestream.outputs.left_out import LEFT_OUT
from quakestream.outputs.rasters import NODATA
from quakestream.outputs.slide_scores import SlideScore
from quakestream.pipeline.run import Result
from quakestream.reduce.metrics import binary_scores
from quakestream.synthetic import HILLS, SyntheticEarthquake, make_earthquake
from quakestream.tiling import foreign_ground
from tests.helpers.mapping import edit, map_file, same
from tests.helpers.soil_bundle import write_soil_bundle

pytestmark = pytest.mark.slow
THRESHOLD, LEAST = 125, 400
SHARE = 0.06
"""Share of slides on the hills."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    """The demo's run file for hills, with a model of colour alone in place of the shipped one."""
    made = make_earthquake(tmp_path_factory.mktemp("hills"), seed=7, size=HILLS)
    soil = write_soil_bundle(made.out / "soil", prior=(1 - SHARE, SHARE))

    def change(content: dict[str, dict[str, object]]) -> None:
        assert content["models"] == {"damage": "damage-synthetic", "landslide": "landslide-rgb"}
        assert {"dem", "lithology", "landcover", "cti"} <= content["terrain"].keys()
        content["models"]["landslide"] = str(soil)
        content.update(outputs=["scores"], execution={"cell_windows": 2})

    edit(made.run_file, change)
    return made


@pytest.fixture(scope="module")
def kept(world: SyntheticEarthquake) -> gpd.GeoDataFrame:
    """Slides of a run that leaves none out as flat."""
    edit(world.run_file, lambda content: content["terrain"].update(least_slope_deg=0))
    map_file(world.run_file, world.out / "out")
    edit(world.run_file, lambda content: content["terrain"].pop("least_slope_deg"))
    return slides(world.out / "out")


@pytest.fixture(scope="module")
def whole(world: SyntheticEarthquake, kept: gpd.GeoDataFrame) -> Result:
    """The run as it stands in the file, over the work of `kept`."""
    made = map_file(world.run_file, world.out / "out")
    assert made.run["counts"]["cells_scored"] == 0, "what is left out is no other work"
    return made


def slides(out: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(out / "landslides.parquet")


def comparable(frame: gpd.GeoDataFrame) -> pd.DataFrame:
    return pd.DataFrame(frame.assign(geometry=frame.geometry.to_wkb()))


def rasters(out: Path) -> list[tuple[np.ndarray, rasterio.Affine, int]]:
    """Probabilities of each zone: its files, which are cut at squares of the grid, as one."""
    files: dict[int, list[Path]] = {}
    for path in sorted((out / "scores").glob("landslide-*.tif")):
        files.setdefault(int(path.name.split("-")[1]), []).append(path)
    found = []
    for epsg, paths in files.items():
        step_BYX, transform = rasterio.merge.merge(paths, nodata=NODATA)
        found.append((step_BYX[0], transform, epsg))
    return found


def assert_same_products(one: Path, other: Path) -> None:
    """Slides, cells and the prior of two runs, to the last bit."""
    pd.testing.assert_frame_equal(comparable(slides(one)), comparable(slides(other)))
    assert (one / "prior.tif").read_bytes() == (other / "prior.tif").read_bytes()


def test_three_cell_sizes_give_equal_slides(world: SyntheticEarthquake, whole: Result) -> None:
    for side in (1, 5):
        edit(world.run_file, lambda c, side=side: c["execution"].update(cell_windows=side))
        other = map_file(world.run_file, world.out / f"out{side}")
        assert_same_products(world.out / "out", world.out / f"out{side}")
        same(whole.buildings, other.buildings)
        assert other.run["counts"]["landslides"] == whole.run["counts"]["landslides"]
        assert other.run["landslide_prior"] == whole.run["landslide_prior"]
    edit(world.run_file, lambda c: c["execution"].update(cell_windows=2))


@pytest.mark.alone
def test_ray_gives_what_the_loop_gives(
    world: SyntheticEarthquake, whole: Result, ray_backend: Any
) -> None:
    made = map_file(world.run_file, world.out / "ray", ray_backend)
    assert made.run["backend"] == "ray"
    same(whole.buildings, made.buildings)
    assert_same_products(world.out / "out", world.out / "ray")
    cells = [gpd.read_parquet(world.out / name / "coverage.parquet") for name in ("out", "ray")]
    pd.testing.assert_frame_equal(*(comparable(frame) for frame in cells))


def test_the_prior_knows_the_hills_and_moves_the_slides_on_them(
    world: SyntheticEarthquake, whole: Result
) -> None:
    found = slides(world.out / "out")
    assert set(found["evidence"]) == {"image+prior"}
    assert (found["p_prior"] > 0.01).mean() > 0.6
    moved = np.sign(found["probability"] - found["p_image"])
    assert (moved == np.sign(found["p_prior"] - SHARE)).all()
    cells = gpd.read_parquet(world.out / "out" / "coverage.parquet")
    cells = cells[(cells["kind"] == "landslides") & cells["p_prior"].notna()]
    steep = cells[cells["status"] != "too_flat"]
    flat = cells[cells["status"] == "too_flat"]
    assert steep["p_prior"].mean() > 3 * flat["p_prior"].mean()
    assert whole.run["landslide_prior"]["max_coverage"] > 0.03
    assert not whole.issues
    assert any("prior from shaking and terrain is highest" in n for n in whole.run["notes"])


def test_slides_are_those_of_the_uncut_rasters(
    world: SyntheticEarthquake, kept: gpd.GeoDataFrame
) -> None:
    """Groups of pixels of the score rasters, of the part that each zone owns."""
    areas = []
    for step_YX, transform, epsg in rasters(world.out / "out"):
        grid = Grid(epsg=epsg, gsd_m=0.5)
        west, north = transform @ (0, 0)
        height, width = step_YX.shape
        corner = grid.window(west, north - 0.5, west + 0.5, north)
        window = Window(row=corner.row, col=corner.col, height=height, width=width)
        own_YX = np.ones(step_YX.shape, np.bool_)
        foreign_YX = foreign_ground(grid, window)
        if foreign_YX is not None:
            own_YX = ~foreign_YX
        marked_YX = own_YX & (step_YX >= THRESHOLD) & (step_YX != NODATA)
        label_YX, count = ndimage.label(marked_YX)
        pixels = np.bincount(label_YX.reshape(-1), minlength=count + 1)[1:]
        areas += (pixels[pixels >= LEAST] * 0.25).tolist()
    found = kept
    in_one_zone = found[(found.bounds.minx > 36.0) | (found.bounds.maxx < 36.0)]
    one_zone = np.sort(in_one_zone["area_m2"].to_numpy())
    matched = np.isclose(one_zone[:, None], np.array(areas)[None, :], rtol=2e-3).any(axis=1)
    assert matched.all()
    assert len(found) >= len(areas) > 10


def test_flat_ground_is_left_out_and_counted(
    world: SyntheticEarthquake, whole: Result, kept: gpd.GeoDataFrame
) -> None:
    found = slides(world.out / "out")
    flat = kept[kept["slope_deg"] < 5.0]
    assert len(flat) > 10
    assert set(found["landslide_id"]) == set(kept["landslide_id"]) - set(flat["landslide_id"])
    assert whole.run[LEFT_OUT]["slides"] == len(flat)
    assert whole.run["counts"]["landslides"]["slides"] == len(found)
    near = whole.buildings["landslide_id"].dropna()
    assert set(near) <= set(found["landslide_id"])


def scored(world: SyntheticEarthquake, made: Result) -> SlideScore:
    figures = qs.score(made.store.uri, world.slides, landslides=True)
    assert isinstance(figures, SlideScore)
    assert figures.intervals.f1.low < figures.f1 < figures.intervals.f1.high
    return figures


def test_the_stand_in_finds_slides(world: SyntheticEarthquake, whole: Result) -> None:
    """Ground by pixels of the rasters, slides by their polygons."""
    truth = gpd.read_parquet(world.slides)
    truth_N, found_N = [], []
    for step_YX, transform, epsg in rasters(world.out / "out"):
        shapes = truth.to_crs(epsg).geometry
        truth_YX = rasterize(shapes, step_YX.shape, transform=transform).astype(np.bool_)
        seen_YX = step_YX != NODATA
        truth_N.append(truth_YX[seen_YX])
        found_N.append(step_YX[seen_YX] >= THRESHOLD)
    pixels = binary_scores(np.concatenate(truth_N), np.concatenate(found_N))
    assert pixels.f1 > 0.4
    figures = scored(world, whole)
    assert figures.truth == len(truth)
    assert figures.polygon_recall > 0.3


def test_the_shipped_bundle_finds_the_ground_of_slides_and_little_else(
    world: SyntheticEarthquake, whole: Result
) -> None:
    """The run file as `quakestream demo --landslides` writes it. Slides that touch are one."""
    edit(world.run_file, lambda content: content["models"].update(landslide="landslide-rgb"))
    made = map_file(world.run_file, world.out / "shipped")
    figures = scored(world, made)
    assert figures.f1 > 0.8
    assert figures.recall > 0.9
    assert figures.polygon_recall > 0.4
    assert figures.polygon_precision > 0.7


def test_the_town_is_judged_beside_the_slides(world: SyntheticEarthquake, whole: Result) -> None:
    counts = whole.run["counts"]
    assert counts["assessed"] > 500
    assert counts["landslides"]["buildings_within_50_m"] > 0
    assert any("are flatter than 3°" in note for note in whole.run["notes"])
    names = {p.name.split("-")[0] for p in (world.out / "out" / "scores").iterdir()}
    assert names == {"destroyed", "intact", "landslide"}
