"""The synthetic earthquake: same seed same bytes, one ground under all scenes, a known answer."""

import hashlib
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression

from quakestream.domain import Grid, Window
from quakestream.synthetic import DEMO, TINY, SceneLayout, SyntheticEarthquake, make_earthquake
from quakestream.synthetic.baseline import difference_per_footprint, roc_auc
from quakestream.synthetic.sensor import world_affine
from quakestream.synthetic.shaking import (
    GRADES,
    PER_LN_VS30,
    PER_MMI,
    VS30_REFERENCE_M_S,
    BuildingDamage,
    Shaking,
    fragility,
)
from quakestream.synthetic.town import Town
from quakestream.synthetic.world import SyntheticWorld, transform_points

F64 = NDArray[np.float64]

ACROSS = replace(
    TINY,
    name="across",
    lon=DEMO.lon,
    scenes=(
        *TINY.scenes,
        replace(TINY.scenes[1], id="post-neighbour", zone="neighbour"),
    ),
)
"""A tiny town at a UTM zone boundary, seen after the event from both zones."""
QUARTER = replace(TINY, name="quarter", extent_m=(560.0, 560.0))
"""Large enough for a stable AUC, small enough to render in two seconds."""


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    return make_earthquake(tmp_path_factory.mktemp("tiny"), seed=3, size=TINY)


@pytest.fixture(scope="module")
def across(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    return make_earthquake(tmp_path_factory.mktemp("across"), seed=11, size=ACROSS)


def test_same_seed_same_bytes(tiny: SyntheticEarthquake, tmp_path: Path) -> None:
    again = make_earthquake(tmp_path, seed=3, size=TINY)
    assert digests(again.out) == digests(tiny.out)
    assert len(digests(tiny.out)) == 12


def test_another_seed_is_another_town(tiny: SyntheticEarthquake, tmp_path: Path) -> None:
    other = make_earthquake(tmp_path, seed=4, size=TINY)
    mine, theirs = digests(tiny.out), digests(other.out)
    same = {name for name in mine if mine[name] == theirs[name]}
    # The place, the event's day and the catalogue's form do not change with the seed.
    assert same == {"aoi.geojson"}


def test_footprints_lie_within_a_metre_of_the_truth(tiny: SyntheticEarthquake) -> None:
    drawn = gpd.read_file(tiny.footprints).to_crs(32637)
    truth = gpd.read_parquet(tiny.truth).to_crs(32637)
    assert list(drawn["id"]) == list(truth["building_id"])
    error_m = drawn.centroid.distance(truth.centroid)
    assert 0.2 < error_m.mean() < 0.9
    assert error_m.max() < 1.01
    assert truth.is_valid.all()
    assert set(truth["damage_label"]) == {"intact", "destroyed"}
    destroyed = truth["damage_label"] == "destroyed"
    assert (truth.loc[destroyed, "severity"] > 0.6).all()
    assert (truth.loc[~destroyed, "severity"] < 0.6).all()
    assert ((truth["grade"] == "destroyed") == destroyed).all()
    assert ((truth["grade"] == "slight") == (truth["severity"] < 0.2)).all()
    assert set(truth["grade"]) == set(GRADES)


def test_buildings_stand_apart(tiny: SyntheticEarthquake) -> None:
    truth = gpd.read_parquet(tiny.truth).to_crs(32637)
    pairs = gpd.sjoin(truth, truth, predicate="overlaps")
    assert pairs.empty


def roof_statistics(scene: Path, truth: gpd.GeoDataFrame) -> tuple[F64, F64]:
    """Redness and roughness inside each outline, measured in the scene's own CRS."""
    with rasterio.open(scene) as file:
        pixels = file.read().astype(np.float64)
        outlines = truth.to_crs(file.crs).geometry.buffer(-1.5)
        id_YX = rasterize(
            ((outline, i) for i, outline in enumerate(outlines, start=1)),
            out_shape=file.shape,
            transform=file.transform,
            dtype="int32",
        )
    grey = pixels.mean(axis=0)
    rough = (grey - gaussian_filter(grey, 1.5)) ** 2
    count = np.maximum(np.bincount(id_YX.ravel(), minlength=len(truth) + 1), 1)

    def mean_of(values_YX: F64) -> F64:
        total = np.bincount(id_YX.ravel(), weights=values_YX.ravel(), minlength=len(truth) + 1)
        return np.asarray(total / count)[1:]

    return mean_of(pixels[0] - pixels[2]), np.log(mean_of(rough) + 1.0)


def test_scenes_of_two_zones_show_the_same_buildings(across: SyntheticEarthquake) -> None:
    home, neighbour = across.post
    with rasterio.open(home) as a, rasterio.open(neighbour) as b:
        assert (a.crs.to_epsg(), b.crs.to_epsg()) == (32637, 32636)
        assert abs(a.transform.c - b.transform.c) > 100_000.0
    truth = gpd.read_parquet(across.truth)
    red_home, rough_home = roof_statistics(home, truth)
    red_neighbour, rough_neighbour = roof_statistics(neighbour, truth)
    assert np.corrcoef(red_home, red_neighbour)[0, 1] > 0.95
    assert np.corrcoef(rough_home, rough_neighbour)[0, 1] > 0.7
    # Outlines 12 m off meet other roofs: the agreement above is one of place.
    moved = truth.to_crs(32637)
    moved["geometry"] = moved.translate(12.0, 0.0)
    red_moved, _ = roof_statistics(neighbour, moved)
    assert np.corrcoef(red_home, red_moved)[0, 1] < 0.7


@pytest.mark.parametrize("zone", ["home", "neighbour"])
def test_the_affine_georeference_is_good_to_five_centimetres(zone: str) -> None:
    world = SyntheticWorld.of(DEMO)
    epsg = world.home_epsg if zone == "home" else world.neighbour_epsg
    corners = np.array([world.at(0.0, 0.0), world.at(1.0, 1.0)])
    middle = world.to_crs(corners.mean(axis=0)[None], f"EPSG:{epsg}")[0]
    grid = Grid(epsg=epsg, gsd_m=0.5)
    found = grid.window(middle[0] - 600.0, middle[1] - 450.0, middle[0] + 600.0, middle[1] + 450.0)
    window = Window(row=found.row, col=found.col, height=1800, width=2400)
    transform = grid.window_transform(window)
    to_world = world_affine(world, epsg, transform, window.shape)
    pixel = np.random.default_rng(0).uniform([0, 0], [2400, 1800], (200, 2))
    exact = world.from_crs(transform_points(transform, pixel), f"EPSG:{epsg}")
    assert np.abs(transform_points(to_world, pixel) - exact).max() < 0.05


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in (2, 7))])
def test_differencing_does_badly(seed: int, tmp_path: Path) -> None:
    made = make_earthquake(tmp_path, seed=seed, size=QUARTER)
    truth = gpd.read_parquet(made.truth)
    difference = difference_per_footprint(made.pre[0], made.post[0], gpd.read_file(made.footprints))
    destroyed = (truth["damage_label"] == "destroyed").to_numpy()
    assert destroyed.sum() >= 15
    assert 0.45 < roc_auc(difference, destroyed) < 0.8


def test_roc_auc_against_known_values() -> None:
    positive = np.array([False, False, True, True])
    assert roc_auc(np.array([0.1, 0.2, 0.3, 0.4]), positive) == 1.0
    assert roc_auc(np.array([0.3, 0.1, 0.2, 0.4]), positive) == 0.75
    assert roc_auc(np.array([1.0, 1.0, 1.0, 1.0]), positive) == 0.5
    assert roc_auc(np.array([0.1, np.nan, 0.3, 0.4]), positive) == 1.0


def latent_damage(seed: int) -> BuildingDamage:
    world = SyntheticWorld.of(DEMO)
    town = Town.random(seed, DEMO, world)
    return BuildingDamage.random(seed, Shaking.of(seed, world), town.buildings.centre_N2)


def test_fragility_link_is_recovered_from_labels() -> None:
    damages = [latent_damage(seed) for seed in range(20, 32)]
    mmi = np.concatenate([d.mmi for d in damages])
    vs30 = np.concatenate([d.vs30_m_s for d in damages])
    destroyed = np.concatenate([d.destroyed for d in damages])
    inputs = np.column_stack([mmi - mmi.mean(), np.log(vs30 / VS30_REFERENCE_M_S)])
    fitted = LogisticRegression(C=1e6).fit(inputs, destroyed).coef_[0]
    # Unseen vulnerability flattens the link by about an eighth.
    assert fitted[0] == pytest.approx(0.88 * PER_MMI, rel=0.2)
    assert fitted[1] == pytest.approx(0.88 * PER_LN_VS30, rel=0.3)


def test_shaking_tells_slight_from_heavy_damage_of_what_stands() -> None:
    damages = [latent_damage(seed) for seed in range(20, 28)]
    standing = np.concatenate([~d.destroyed for d in damages])
    mmi, vs30 = (np.concatenate([getattr(d, n) for d in damages]) for n in ("mmi", "vs30_m_s"))
    known = fragility(mmi, vs30, np.zeros(len(mmi)))[standing]
    heavy = np.concatenate([d.grade == "heavy" for d in damages])[standing]
    assert 0.1 < heavy.mean() < 0.5
    assert 0.65 < roc_auc(known, heavy) < 0.85


def test_a_sixth_to_a_third_is_destroyed() -> None:
    shares = [float(latent_damage(seed).destroyed.mean()) for seed in range(20)]
    assert 0.15 < np.mean(shares) < 0.30
    assert min(shares) > 0.08
    assert max(shares) < 0.45


def test_fragility_is_monotone() -> None:
    calm, soft = np.array([7.0, 8.0, 9.0]), np.array([300.0, 300.0, 300.0])
    assert (np.diff(fragility(calm, soft, np.zeros(3))) > 0).all()
    soils = np.array([200.0, 400.0, 700.0])
    assert (np.diff(fragility(np.full(3, 8.0), soils, np.zeros(3))) < 0).all()


def test_bad_inputs_on_request(tmp_path: Path) -> None:
    made = make_earthquake(tmp_path, seed=3, size=TINY, bad_inputs=True)
    footprints = gpd.read_file(made.footprints)
    truth = gpd.read_parquet(made.truth)
    assert len(footprints) == len(truth) + 3
    assert footprints["id"].duplicated().sum() == 2
    same = footprints[footprints["id"] == footprints["id"].iloc[0]]
    assert same.geometry.iloc[0].equals(same.geometry.iloc[1])
    assert (~footprints.is_valid).sum() == 1
    assert (made.catalogue.parent / "item-without-asset" / "item-without-asset.json").exists()


def test_layouts_compose(tmp_path: Path) -> None:
    """A preset is a value: another layout is another preset, no code."""
    pre, post = TINY.scenes
    half = SceneLayout(
        id="half",
        epoch="post",
        acquired=post.acquired,
        extent=(0.0, 0.0, 0.5, 1.0),
        codec="deflate",
    )
    made = make_earthquake(tmp_path, seed=5, size=replace(TINY, scenes=(pre, half)))
    with rasterio.open(made.post[0]) as file:
        assert file.shape == (640, 320)
        assert file.compression.name == "deflate"
