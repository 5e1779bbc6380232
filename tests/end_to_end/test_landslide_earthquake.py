"""Damage and landslides in one run over the synthetic earthquake with hills, against the truth."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.merge
from rasterio.features import rasterize
from scipy import ndimage

from quakestream.domain import Grid, Window
from quakestream.outputs.rasters import NODATA
from quakestream.pipeline.run import Result
from quakestream.reduce.metrics import binary_scores
from quakestream.synthetic import HILLS, SyntheticEarthquake, make_earthquake
from quakestream.tiling import foreign_ground
from tests.helpers.mapping import edit, map_file
from tests.helpers.soil_bundle import write_soil_bundle

pytestmark = pytest.mark.slow
THRESHOLD, LEAST = 125, 400


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    made = make_earthquake(tmp_path_factory.mktemp("hills"), seed=7, size=HILLS)
    soil = write_soil_bundle(made.out / "soil")

    def change(content: dict[str, dict[str, object]]) -> None:
        content["models"]["landslide"] = str(soil)
        content.update(outputs=["scores"], execution={"cell_windows": 2})

    edit(made.run_file, change)
    return made


@pytest.fixture(scope="module")
def whole(world: SyntheticEarthquake) -> Result:
    return map_file(world.run_file, world.out / "out")


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


def test_three_cell_sizes_give_equal_slides(world: SyntheticEarthquake, whole: Result) -> None:
    one = comparable(slides(world.out / "out"))
    for side in (1, 5):
        edit(world.run_file, lambda c, side=side: c["execution"].update(cell_windows=side))
        other = map_file(world.run_file, world.out / f"out{side}")
        pd.testing.assert_frame_equal(one, comparable(slides(world.out / f"out{side}")))
        assert other.run["counts"]["landslides"] == whole.run["counts"]["landslides"]


def test_slides_are_those_of_the_uncut_rasters(world: SyntheticEarthquake, whole: Result) -> None:
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
    found = slides(world.out / "out")
    in_one_zone = found[(found.bounds.minx > 36.0) | (found.bounds.maxx < 36.0)]
    one_zone = np.sort(in_one_zone["area_m2"].to_numpy())
    matched = np.isclose(one_zone[:, None], np.array(areas)[None, :], rtol=2e-3).any(axis=1)
    assert matched.all()
    assert len(found) >= len(areas) > 10


def test_the_stand_in_finds_slides_and_both_scores_are_told(
    world: SyntheticEarthquake, whole: Result
) -> None:
    truth = gpd.read_parquet(world.slides)
    truth_N, found_N = [], []
    for step_YX, transform, epsg in rasters(world.out / "out"):
        shapes = truth.to_crs(epsg).geometry
        truth_YX = rasterize(shapes, step_YX.shape, transform=transform).astype(np.bool_)
        seen_YX = step_YX != NODATA
        truth_N.append(truth_YX[seen_YX])
        found_N.append(step_YX[seen_YX] >= THRESHOLD)
    pixels = binary_scores(np.concatenate(truth_N), np.concatenate(found_N))
    one = slides(world.out / "out").to_crs(32637).geometry.to_numpy()
    other = truth.to_crs(32637).geometry.to_numpy()
    shared = np.array([[a.intersection(b).area for b in other] for a in one])
    union = np.array([[a.union(b).area for b in other] for a in one])
    hit = shared / union >= 0.3
    recall, _precision = hit.any(axis=0).mean(), hit.any(axis=1).mean()
    assert pixels.f1 > 0.4
    assert recall > 0.3


def test_the_town_is_judged_beside_the_slides(world: SyntheticEarthquake, whole: Result) -> None:
    counts = whole.run["counts"]
    assert counts["assessed"] > 500
    assert counts["landslides"]["buildings_within_50_m"] > 0
    assert any("are flatter than 3°" in note for note in whole.run["notes"])
    names = {p.name.split("-")[0] for p in (world.out / "out" / "scores").iterdir()}
    assert names == {"destroyed", "intact", "landslide"}
