"""The demo's files, as the tools of the field read them."""

import json
from pathlib import Path

import defusedxml.ElementTree as ElementTree
import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict
from rasterio.features import rasterize

from quakestream.config import open_run
from quakestream.synthetic import DEMO, SyntheticEarthquake
from quakestream.synthetic.baseline import difference_per_footprint, roc_auc

SHAKEMAP = "{http://earthquake.usgs.gov/eqcenter/shakemap}"


@pytest.fixture(scope="module")
def truth(demo: SyntheticEarthquake) -> gpd.GeoDataFrame:
    return gpd.read_parquet(demo.truth)


def scene_items(demo: SyntheticEarthquake) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(demo.catalogue)).get_items(recursive=True))


def test_catalogue_is_valid_and_agrees_with_its_files(demo: SyntheticEarthquake) -> None:
    validate_dict(_without_extensions(demo.catalogue))
    items = scene_items(demo)
    assert [item.id for item in items] == [layout.id for layout in DEMO.scenes]
    for item in items:
        path = Path(item.get_self_href() or "")
        validate_dict(_without_extensions(path))
        href = item.assets["visual"].get_absolute_href()
        projection = ProjectionExtension.ext(item)
        with rasterio.open(href) as file:
            assert projection.code == f"EPSG:{file.crs.to_epsg()}"
            assert projection.shape == list(file.shape)
            assert projection.transform == list(file.transform)[:6]
            box = shapely.box(*rasterio.warp.transform_bounds(file.crs, 4326, *file.bounds))
        assert shapely.geometry.shape(item.geometry).within(box.buffer(1e-6))
        assert 0.0 <= item.properties["eo:cloud_cover"] < 60.0
        assert 0.0 < item.properties["view:off_nadir"] < 40.0


def _without_extensions(path: Path) -> dict[str, object]:
    """Core fields only: the extensions' schemas lie on the network."""
    content: dict[str, object] = json.loads(path.read_text())
    content.pop("stac_extensions", None)
    return content


def test_every_scene_is_a_cloud_optimised_geotiff(demo: SyntheticEarthquake) -> None:
    for path in (*demo.pre, *demo.post):
        with rasterio.open(path) as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.block_shapes == [(512, 512)] * 3
            assert file.overviews(1)
            assert file.res == (0.5, 0.5)
            assert "TIFFTAG_DATETIME" in file.tags()
            pixels, mask = file.read(), file.dataset_mask()
        assert pixels[:, mask > 0].std() > 20.0


def test_scenes_tell_nodata_in_both_ways(demo: SyntheticEarthquake) -> None:
    slanted = {path.stem: path for path in demo.post}
    with rasterio.open(slanted["post-20260317"]) as masked:
        assert masked.nodata is None
        assert 0.02 < (masked.dataset_mask() == 0).mean() < 0.2
    with rasterio.open(slanted["post-20260318"]) as zeroed:
        assert zeroed.nodata == 0
        assert zeroed.crs.to_epsg() == 32636
        assert 0.02 < (zeroed.dataset_mask() == 0).mean() < 0.2
        assert (zeroed.read()[:, zeroed.dataset_mask() == 0] == 0).all()


def shares(path: Path, outlines: gpd.GeoSeries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per outline: share of valid pixels, and share that is as bright as cloud."""
    with rasterio.open(path) as file:
        mask, pixels = file.dataset_mask() > 0, file.read()
        shapes = ((o, i) for i, o in enumerate(outlines.to_crs(file.crs), start=1))
        id_YX = rasterize(shapes, file.shape, transform=file.transform, dtype="int32")
    count = len(outlines) + 1
    total = np.maximum(np.bincount(id_YX.ravel(), minlength=count), 1)
    valid = np.bincount(id_YX.ravel(), weights=mask.ravel(), minlength=count)
    bright_YX = pixels.min(axis=0) > 200
    bright = np.bincount(id_YX.ravel(), weights=bright_YX.ravel(), minlength=count)
    return (valid / total)[1:], (bright / total)[1:]


def test_every_reason_occurs(demo: SyntheticEarthquake) -> None:
    outlines = gpd.read_file(demo.footprints).geometry
    pre, seen, valid, clear = (np.zeros(len(outlines), bool) for _ in range(4))
    for item in scene_items(demo):
        covered = outlines.within(shapely.geometry.shape(item.geometry)).to_numpy()
        if item.id.startswith("pre"):
            pre |= covered
            continue
        valid_share, bright = shares(Path(item.assets["visual"].get_absolute_href()), outlines)
        seen |= covered
        valid |= covered & (valid_share >= 0.5)
        clear |= covered & (valid_share >= 0.5) & (bright < 0.8)
    assert (~seen).sum() >= 5, "no_imagery"
    assert (seen & ~pre).sum() >= 5, "no_pre"
    assert (seen & pre & ~valid).sum() >= 3, "nodata"
    assert (seen & pre & valid & ~clear).sum() >= 3, "cloud"
    assert (pre & clear).mean() > 0.8


def test_differencing_does_badly_on_the_demo(
    demo: SyntheticEarthquake, truth: gpd.GeoDataFrame
) -> None:
    destroyed = (truth["damage_label"] == "destroyed").to_numpy()
    difference = difference_per_footprint(demo.pre[0], demo.post[1], gpd.read_file(demo.footprints))
    assert 0.5 < roc_auc(difference, destroyed) < 0.8


def test_shakemap_says_what_shook_the_buildings(
    demo: SyntheticEarthquake, truth: gpd.GeoDataFrame
) -> None:
    root = ElementTree.parse(demo.shakemap).getroot()
    names = [field.get("name") for field in root.iter(f"{SHAKEMAP}grid_field")]
    assert names == ["LON", "LAT", "PGA", "PGV", "MMI", "PSA03", "PSA10", "PSA30", "SVEL"]
    spec = root.find(f"{SHAKEMAP}grid_specification")
    text = root.findtext(f"{SHAKEMAP}grid_data")
    assert spec is not None
    assert text is not None
    rows = np.array([line.split() for line in text.strip().splitlines()], dtype=float)
    assert len(rows) == int(spec.get("nlon", "0")) * int(spec.get("nlat", "0"))
    assert rows[:, 0].min() == pytest.approx(float(spec.get("lon_min", "nan")))
    assert rows[:, 1].max() == pytest.approx(float(spec.get("lat_max", "nan")))
    assert (rows[:, 2:] > 0).all()
    place = truth.to_crs(32637).centroid.to_crs(4326)
    nearest = np.hypot(
        rows[:, 0][:, None] - place.x.to_numpy(), rows[:, 1][:, None] - place.y.to_numpy()
    ).argmin(axis=0)
    error = rows[nearest, 4] - truth["mmi"].to_numpy()
    assert np.abs(error).mean() < 0.25
    assert np.corrcoef(rows[nearest, 4], truth["mmi"])[0, 1] > 0.8


def sampled(path: Path, truth: gpd.GeoDataFrame) -> tuple[NDArray[np.float64], float]:
    place = truth.to_crs(32637).centroid.to_crs(4326)
    with rasterio.open(path) as file:
        values = np.array([v[0] for v in file.sample(zip(place.x, place.y, strict=True))])
        assert file.crs.to_epsg() == 4326
        return np.where(values == file.nodata, np.nan, values), float(file.nodata)


def test_vs30_is_the_soil_under_the_buildings(
    demo: SyntheticEarthquake, truth: gpd.GeoDataFrame
) -> None:
    values, _ = sampled(demo.vs30, truth)
    error = np.abs(values / truth["vs30_m_s"].to_numpy() - 1.0)
    assert error.mean() < 0.06
    assert error.max() < 0.25
    assert values.max() > 1.4 * values.min()


def test_damage_proxy_is_noisy_informative_and_incomplete(
    demo: SyntheticEarthquake, truth: gpd.GeoDataFrame
) -> None:
    values, nodata = sampled(demo.dpm, truth)
    assert nodata == -9999.0
    known = np.isfinite(values)
    assert 0.02 < 1.0 - known.mean() < 0.5
    assert values[known].min() >= 0.0
    assert values[known].max() <= 1.0
    destroyed = (truth["damage_label"] == "destroyed").to_numpy()
    assert 0.6 < roc_auc(values, destroyed) < 0.97


def test_run_file_is_what_the_main_job_takes(
    demo: SyntheticEarthquake, truth: gpd.GeoDataFrame
) -> None:
    run = open_run(demo.run_file)
    assert run.event.id == "synthetic-7"
    assert run.imagery.catalog == str(demo.catalogue)
    assert run.footprints.path == str(demo.footprints)
    assert run.models.damage == "damage-synthetic"
    area = gpd.read_file(demo.aoi).union_all()
    assert truth.representative_point().within(area).all()
