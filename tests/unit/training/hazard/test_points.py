"""Hazard layers against real files: Loma Prieta 1989, Türkiye 2023, and GeoTIFFs gone wrong.

The figures in the comments were measured on these files; the bounds leave them room and
still fail for a wrong unit, a flipped axis or a shift of one pixel.
"""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from quakestream.config import HazardSection
from quakestream.errors import HazardError
from quakestream.hazard import (
    ShakeMap,
    read_shakemap,
    sample_hazard,
    sample_raster,
    sample_vs30,
)

pytestmark = pytest.mark.data
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def loma_prieta(data_dir: Path) -> Path:
    return data_dir / "lomaprieta-1989-shakemap-groundfailure"


@pytest.fixture(scope="module")
def full(loma_prieta: Path) -> ShakeMap:
    return read_shakemap(str(loma_prieta / "shakemap/grid_full.xml"))


@pytest.fixture(scope="module")
def subset(loma_prieta: Path) -> ShakeMap:
    return read_shakemap(str(loma_prieta / "shakemap/grid.xml"))


@pytest.fixture(scope="module")
def surveyed(data_dir: Path) -> pd.DataFrame:
    name = "usgs_field_building_damage_with_shakemap_values.csv"
    return pd.read_csv(data_dir / "turkiye-2023-shaking" / name)


def nodes(shakemap: ShakeMap) -> tuple[Floats, Floats]:
    lon, lat = np.meshgrid(shakemap.lon, shakemap.lat)
    return lon.ravel(), lat.ravel()


def test_every_node_of_loma_prieta_returns_its_own_values(full: ShakeMap) -> None:
    assert full.lon.shape + full.lat.shape == (241, 193)
    lon, lat = nodes(full)
    for name, values in full.fields.items():
        np.testing.assert_array_equal(full.at(name, lon, lat), values.ravel(), err_msg=name)


def test_the_reader_keeps_the_files_own_numbers(full: ShakeMap, loma_prieta: Path) -> None:
    """Against the text of the file, in its own order of rows, read in another way."""
    text = (loma_prieta / "shakemap/grid_full.xml").read_text()
    body = text.partition("<grid_data>")[2].partition("</grid_data>")[0]
    names = ["LON", "LAT", "PGA", "PGV", "MMI", "PSA03", "PSA10", "PSA30", "STDPGA", "URAT", "SVEL"]
    table = np.loadtxt(body.splitlines())
    # Coordinates in the file are rounded to 0.0001°, less than 0.3 % of a step.
    lat_index = np.rint((table[:, 1] - full.lat[0]) / np.diff(full.lat)[0]).astype(int)
    lon_index = np.rint((table[:, 0] - full.lon[0]) / np.diff(full.lon)[0]).astype(int)
    for column, name in enumerate(names[2:], start=2):
        scale = 0.01 if name.startswith(("PGA", "PSA")) else 1.0
        got = full.fields[name][lat_index, lon_index]
        np.testing.assert_allclose(got, table[:, column] * scale, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("field", "typical", "correlation"),
    [
        # Measured: median |difference| / value, correlation.
        ("PGA", 0.05, 0.95),  # 0.023, 0.969
        ("PGV", 0.10, 0.96),  # 0.054, 0.979
        ("MMI", 0.03, 0.96),  # 0.013, 0.975
        ("PSA03", 0.06, 0.98),  # 0.029, 0.992
        ("PSA10", 0.12, 0.95),  # 0.060, 0.970
        ("PSA30", 0.18, 0.93),  # 0.089, 0.956
    ],
)
def test_empty_units_mean_what_pctg_and_cms_say(
    full: ShakeMap, subset: ShakeMap, field: str, typical: float, correlation: float
) -> None:
    """grid.xml (2020, empty units) against grid_full.xml (2014, stated units).

    The two lattices are offset by a fifth of a step and share no node, and VS30 was revised
    between them, so they agree closely and not exactly.
    """
    lon, lat = nodes(subset)
    here, there = subset.fields[field].ravel(), full.at(field, lon, lat)
    assert np.isfinite(there).all()
    assert np.median(np.abs(there / here - 1)) < typical
    assert np.corrcoef(here, there)[0, 1] > correlation


def test_vs30_raster_and_shakemap_agree_best_where_they_lie(
    subset: ShakeMap, loma_prieta: Path
) -> None:
    """SVEL of the ShakeMap against the global VS30 grid, averaged over a ShakeMap cell.

    The two come from different VS30 models (geology here, slope there). On the 829 land
    nodes: correlation of ln 0.757, median ratio 1.019, typical difference 19 %. What makes it
    an oracle for position is that a shift of the points by one pixel (0.0083°) either way
    makes the agreement worse. The raster has no CRS and says 180 m/s over the sea, the
    ShakeMap 600.
    """
    uri = str(loma_prieta / "model_inputs/global_vs30_mps.grd")
    lon, lat = nodes(subset)
    site = subset.fields["SVEL"].ravel()
    pixel = 1 / 120
    note = sample_raster(uri, lon, lat).note

    def agreement(east: int, north: int) -> tuple[float, float, int]:
        around = np.array(
            [
                sample_raster(uri, lon + (east + i) * pixel, lat + (north + j) * pixel).values_N
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
        )
        land = (around != 180).all(axis=0) & (site != 600)
        mean = np.log(around[:, land]).mean(axis=0)
        ratio = float(np.exp(np.median(mean - np.log(site[land]))))
        return float(np.corrcoef(mean, np.log(site[land]))[0, 1]), ratio, int(land.sum())

    assert "EPSG:4326" in note
    correlation, ratio, count = agreement(0, 0)
    assert count > 800
    assert correlation > 0.74
    assert ratio == pytest.approx(1.0, abs=0.05)
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert agreement(*shift)[0] < correlation, shift


def test_the_uncertainty_file_and_netcdf_without_georeference_are_refused(
    loma_prieta: Path,
) -> None:
    with pytest.raises(HazardError, match=r"uncertainty\.xml"):
        read_shakemap(str(loma_prieta / "shakemap/uncertainty.xml"))
    point = np.array([-122.0]), np.array([37.0])
    with pytest.raises(HazardError, match=r"godt_2008\.grd"):
        sample_raster(str(loma_prieta / "model_outputs/godt_2008.grd"), *point)


def test_the_truncated_shakemap_is_an_issue_with_both_counts(data_dir: Path) -> None:
    uri = str(data_dir / "turkiye-2023-shaking/us6000jllz_grid_truncated_9rows.xml")
    with pytest.raises(HazardError, match=r"expected 585 × 457 = 267,345 rows, got 9 rows"):
        read_shakemap(uri)
    table = sample_hazard(np.array([36.9]), np.array([37.58]), HazardSection(shakemaps=[uri]))
    assert [issue.subject for issue in table.issues] == [uri]
    assert "pga_g" in table.missing_N[0]


def test_the_headers_axes_pass_through_the_nodes_the_survey_was_sampled_at(
    data_dir: Path, surveyed: pd.DataFrame, tmp_path: Path
) -> None:
    """The real header of us6000jllz v17 over made-up rows that hold their own indices.

    The survey's table names the ShakeMap node of each building (20 of them). With axes made
    from the limits they are whole positions; with the nominal 0.0333° they would be off by a
    quarter of a step here.
    """
    file = data_dir / "turkiye-2023-shaking/us6000jllz_grid_truncated_9rows.xml"
    header = file.read_text().partition("<grid_data>")[0]
    lon, lat = np.linspace(28.5917, 48.0583, 585), np.linspace(44.4167, 29.2167, 457)
    rows = [
        f"{x:.4f} {y:.4f} 5 {i} {j} 0 0 0 300" for j, y in enumerate(lat) for i, x in enumerate(lon)
    ]
    body = "\n".join(rows)
    (tmp_path / "grid.xml").write_text(f"{header}<grid_data>{body}</grid_data></shakemap_grid>")
    shakemap = read_shakemap(str(tmp_path / "grid.xml"))
    assert shakemap.version == "17"
    at = surveyed["sample_lon"].to_numpy(), surveyed["sample_lat"].to_numpy()
    assert len(set(zip(*at, strict=True))) == 20
    for position in (shakemap.at("PGA", *at) * 100, shakemap.at("PGV", *at)):
        assert np.abs(position - np.rint(position)).max() < 0.005  # measured 0.0021
    for nominal in ((at[0] - 28.5917) / 0.0333, (44.4167 - at[1]) / 0.0333):
        assert np.abs(nominal - np.rint(nominal)).max() > 0.2


def test_vs30_tables_cover_the_surveyed_buildings(data_dir: Path, surveyed: pd.DataFrame) -> None:
    """Three VS30 models of one region. Only level and coverage can be compared.

    The survey holds the USGS mosaic at 20 ShakeMap nodes up to 1.3 km away. GEM's site model
    (559 of 559 buildings) is slope-based: median ratio 0.85, and **no correlation** with it
    (-0.21). The Antakya grid reaches 45 buildings: median ratio 0.89, correlation 0.77
    over two nodes.
    """
    folder = data_dir / "turkiye-2023-shaking"
    lon, lat = surveyed["longitude"].to_numpy(), surveyed["latitude"].to_numpy()
    theirs = surveyed["vs30"].to_numpy()
    gem = sample_vs30(str(folder / "gem_site_model_vs30.csv"), lon, lat).values_N
    assert np.isfinite(gem).all()
    assert 0.7 < np.median(gem / theirs) < 1.1
    antakya = sample_vs30(str(folder / "antakya_vs30_grid.csv"), lon, lat).values_N
    covered = np.isfinite(antakya)
    assert covered.sum() == 45
    assert set(surveyed["City/Town"][covered]) == {"Antakya"}
    assert np.abs(antakya[covered] / theirs[covered] - 1).max() < 0.2  # measured 0.12
    assert np.corrcoef(antakya[covered], theirs[covered])[0, 1] > 0.6


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (2, "amplitude_dispersion_index"),
        (3, "dpm_sentinel1"),
        (4, "dpm_alos2"),
        (5, "ndbi"),
        (6, "pga_g"),
    ],
)
def test_kahramanmaras_layers_at_the_field_points(data_dir: Path, column: int, name: str) -> None:
    """All 24,352 points; they lie on pixel centres, and the rasters were made from them."""
    folder = data_dir / "kahramanmaras-2023-main"
    points = np.loadtxt(folder / "labels/field_damage_points_with_features.txt")
    uri = str(folder / f"fusion/{name}.tif")
    found = sample_raster(uri, points[:, 0], points[:, 1]).values_N
    assert np.isfinite(found).all()
    assert np.abs(found - points[:, column]).max() < 1e-4  # measured at most 1e-6
    # Half a pixel aside the layer is another: what agrees above is the position too.
    aside = sample_raster(uri, points[:, 0] + 0.5 * 0.0002778, points[:, 1]).values_N
    known = np.isfinite(aside)
    if name != "pga_g":  # nearly constant over the city
        assert np.mean(np.abs(aside[known] - points[known, column]) > 1e-4) > 0.2


def test_kahramanmaras_buildings_get_what_the_sparse_layers_have(data_dir: Path) -> None:
    folder = data_dir / "kahramanmaras-2023-main/fusion"
    lon, lat = np.meshgrid(np.linspace(36.9221, 36.9327, 40), np.linspace(37.5762, 37.5811, 30))
    hazard = HazardSection(
        layers={"pga_layer": str(folder / "pga_g.tif"), "dpm": str(folder / "dpm_alos2.tif")}
    )
    table = sample_hazard(lon.ravel(), lat.ravel(), hazard)
    assert table.issues == []
    pga = table.values["pga_layer"].dropna()
    assert 0.2 < len(pga) / lon.size < 0.9
    assert pga.between(0.26, 0.28).all()
    assert table.values["dpm"].dropna().between(0, 1).all()
    assert all("pga_g" in missing for missing in table.missing_N)


def test_odd_and_fuzzed_geotiffs_give_values_or_one_plain_error(data_dir: Path) -> None:
    files = sorted(
        path
        for path in (data_dir / "cog-edge-cases").rglob("*")
        if path.suffix.lower() in (".tif", ".tiff", ".vrt")
    )
    lon, lat = (a.ravel() for a in np.meshgrid(np.arange(-180, 181, 4.0), np.arange(-88, 89, 4.0)))
    outcomes = {"values": 0, "refused": 0}
    tracemalloc.start()
    try:
        for path in files:
            table = sample_hazard(lon, lat, HazardSection(layers={"odd": str(path)}))
            assert len(table.values) == lon.size
            refused = table.versions["layers"]["odd"] is None
            assert bool(table.issues) >= refused
            assert all(str(path) == issue.subject for issue in table.issues)
            outcomes["refused" if refused else "values"] += 1
        assert tracemalloc.get_traced_memory()[1] < 500e6
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > 5, outcomes
