"""The field points as they are read, and files that are none."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio

from quakestream.errors import RequestError, ShapeError
from training.data.vectors import FIELD_CLASSES, FIELD_FEATURES, FieldPoints, read_field_points

GOOD = "36.8 37.5 0.1 0.2 -9999 0.4 0.3 4\n36.9 37.6 0.1 nan 0.3 0.4 0.3 0\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "points.txt"
    file.write_text(text)
    return file


def test_missing_values_are_nan_and_places_are_metres(tmp_path: Path) -> None:
    points = read_field_points(written(tmp_path, GOOD))
    assert len(points) == 2
    assert points.features_NM.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(points.features_NM).sum(axis=1), [1, 1])
    assert points.label_N.tolist() == [4, 0]
    apart_m = np.hypot(np.diff(points.x_m_N)[0], np.diff(points.y_m_N)[0])
    geod = pyproj.Geod(ellps="WGS84")
    assert apart_m == pytest.approx(geod.inv(36.8, 37.5, 36.9, 37.6)[2], rel=1e-3)
    assert points.take(np.array([False, True])).label_N.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("36.8 37.5 0.1\n", "expected 8, got 3"),
        ("a b c\n", "cannot be read"),
        (GOOD.replace(" 4\n", " 5\n"), "row 1: unknown class: .*got 5"),
        (GOOD.replace(" 0\n", " 0.5\n"), "row 2: unknown class: .*got 0.5"),
        (GOOD.replace("36.8", "536.8"), "row 1"),
        (GOOD.replace("37.6", "nan"), "row 2"),
    ],
)
def test_a_file_that_is_no_table_of_points_is_refused_in_one_line(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read_field_points(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"kahramanmaras.*: no field points"):
        read_field_points(tmp_path)


def test_columns_of_different_length_are_no_points(tmp_path: Path) -> None:
    points = read_field_points(written(tmp_path, GOOD))
    with pytest.raises(ShapeError):
        FieldPoints(
            lon_N=points.lon_N,
            lat_N=points.lat_N,
            x_m_N=points.x_m_N,
            y_m_N=points.y_m_N,
            features_NM=points.features_NM[:, :3],
            label_N=points.label_N,
        )


@pytest.mark.data
def test_the_real_points_agree_with_the_rasters_they_were_made_from(data_dir: Path) -> None:
    points = read_field_points(data_dir)
    counts = np.bincount(points.label_N, minlength=len(FIELD_CLASSES))
    assert counts.tolist() == [15725, 5780, 402, 1938, 507]
    assert np.isfinite(points.features_NM).all()
    layers = {
        "adi": "amplitude_dispersion_index",
        "dpm_s1": "dpm_sentinel1",
        "dpm_alos2": "dpm_alos2",
        "ndbi": "ndbi",
        "pga_g": "pga_g",
    }
    assert tuple(layers) == FIELD_FEATURES
    for m, layer in enumerate(layers.values()):
        with rasterio.open(data_dir / f"kahramanmaras-2023-main/fusion/{layer}.tif") as raster:
            row_N, col_N = rasterio.transform.rowcol(raster.transform, points.lon_N, points.lat_N)
            sampled = raster.read(1)[np.asarray(row_N, int), np.asarray(col_N, int)]
        same = np.isclose(sampled, points.features_NM[:, m], atol=1e-4)
        assert same.mean() > 0.9, layer  # where classes share a cell, one value was kept
