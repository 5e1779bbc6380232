"""Rasters and tables at points: any CRS, holes that stay holes, files that say too little."""

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin
from rasterio.warp import Resampling, reproject

from quakestream.errors import HazardError, StorageError
from quakestream.hazard import sample_raster, sample_vs30

RNG = np.random.default_rng(20230206)
LONLAT = from_origin(36.0, 38.0, 0.01, 0.01)


def write(
    path: Path,
    values: NDArray[Any],
    *,
    crs: str | None = "EPSG:4326",
    transform: Affine = LONLAT,
    nodata: float | None = None,
    **profile: Any,
) -> str:
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path, "w", driver="GTiff", width=bands.shape[2], height=bands.shape[1],
        count=len(bands), dtype=bands.dtype, crs=crs, transform=transform, nodata=nodata, **profile,
    ) as target:  # fmt: skip
        target.write(bands)
    return str(path)


def at(uri: str, *points: tuple[float, float]) -> NDArray[np.float64]:
    lon, lat = np.array(points, np.float64).T
    return sample_raster(uri, lon, lat).values_N


def test_gdal_bilinear_in_another_crs_is_the_oracle(tmp_path: Path) -> None:
    values = RNG.random((90, 110))
    utm = from_origin(300_000, 4_160_000, 30, 30)
    uri = write(tmp_path / "utm.tif", values, crs="EPSG:32637", transform=utm)
    to_lonlat = Transformer.from_crs(32637, 4326, always_xy=True)
    x, y = 300_000 + RNG.uniform(60, 3200, 25), 4_160_000 - RNG.uniform(60, 2600, 25)
    lon, lat = to_lonlat.transform(x, y)
    found = sample_raster(uri, lon, lat).values_N
    expected = [_gdal_bilinear(values, utm, *point) for point in zip(lon, lat, strict=True)]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def _gdal_bilinear(values: NDArray[Any], transform: Affine, lon: float, lat: float) -> float:
    # One pixel at a time: along a row GDAL interpolates its coordinates.
    size = 0.0002
    one = np.full((1, 1), np.nan)
    reproject(
        values, one, src_transform=transform, src_crs="EPSG:32637", dst_crs="EPSG:4326",
        dst_transform=from_origin(lon - size / 2, lat + size / 2, size, size),
        dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    return float(one[0, 0])


def test_a_rotated_raster_is_read_where_it_lies(tmp_path: Path) -> None:
    values = np.add.outer(np.arange(40.0) * 100, np.arange(50.0))
    transform = Affine.translation(36.5, 37.5) @ Affine.rotation(30) @ Affine.scale(0.01, -0.01)
    uri = write(tmp_path / "rotated.tif", values, transform=transform)
    lon, lat = transform @ (20.25, 10.75)
    assert at(uri, (lon, lat)) == pytest.approx([10.25 * 100 + 19.75])


def test_south_up_and_0_to_360_files(tmp_path: Path) -> None:
    values = np.add.outer(np.arange(20.0) * 100, np.arange(30.0))
    transform = Affine(0.01, 0, 238.0, 0, 0.01, 36.0)
    uri = write(tmp_path / "up.tif", values, transform=transform)
    assert at(uri, (-122 + 0.055, 36.075), (238.055, 36.075)) == pytest.approx([705, 705])


@pytest.mark.parametrize("tile", [7, 1024])
def test_holes_and_edges_take_the_pixel_they_lie_in_or_nothing(
    tmp_path: Path, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixel by pixel against the rule written as a plain loop, for any reading tile."""
    monkeypatch.setattr("quakestream.hazard.rasters._TILE_PX", tile)
    values = RNG.random((23, 31))
    values[RNG.random(values.shape) < 0.3] = -9999
    uri = write(tmp_path / "holes.tif", values, nodata=-9999)
    row, col = RNG.uniform(-1, 24, 2000), RNG.uniform(-1, 32, 2000)
    lon, lat = 36.0 + col * 0.01, 38.0 - row * 0.01
    found = sample_raster(uri, lon, lat).values_N
    expected = [_loop(values, r, c) for r, c in zip(row, col, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert 200 < np.isnan(found).sum() < 1200


def _loop(values: NDArray[np.float64], row: float, col: float) -> float:
    if not (0 <= row < values.shape[0] and 0 <= col < values.shape[1]):
        return float("nan")
    top, left = int(np.floor(row - 0.5)), int(np.floor(col - 0.5))
    if 0 <= top < values.shape[0] - 1 and 0 <= left < values.shape[1] - 1:
        block = values[top : top + 2, left : left + 2]
        if (block != -9999).all():
            down, right = row - 0.5 - top, col - 0.5 - left
            return float(np.array([1 - down, down]) @ block @ np.array([1 - right, right]))
    own = values[int(row), int(col)]
    return float("nan") if own == -9999 else float(own)


def test_masks_alpha_and_nan_are_holes(tmp_path: Path) -> None:
    values = np.full((4, 4), 7.0)
    values[0, 0] = np.nan
    plain = write(tmp_path / "nan.tif", values)
    two = np.full((2, 4, 4), 255, np.uint8)
    two[1, 0, 0] = 0
    with_alpha = write(tmp_path / "alpha.tif", two, photometric="MINISBLACK", alpha="YES")
    masked = tmp_path / "mask.tif"
    write(masked, np.full((4, 4), 7, np.uint8))
    with rasterio.open(masked, "r+") as target:
        mask = np.full((4, 4), 255, np.uint8)
        mask[0, 0] = 0
        target.write_mask(mask)
    for uri, value in ((plain, 7), (with_alpha, 255), (str(masked), 7)):
        found = at(uri, (36.005, 37.995), (36.025, 37.975))
        assert np.isnan(found[0]), uri
        assert found[1] == value


def test_scale_and_offset_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "scaled.tif"
    write(path, np.full((4, 4), 50, np.int16))
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.1,), (-20.0,)
    assert at(str(path), (36.02, 37.98)) == pytest.approx([-15.0])


def test_a_raster_without_crs_is_degrees_only_if_it_can_be(tmp_path: Path) -> None:
    values = np.full((4, 4), 300.0)
    uri = write(tmp_path / "plain.grd", values, crs=None)
    sample = sample_raster(uri, np.array([36.02]), np.array([37.98]))
    assert sample.values_N[0] == 300
    assert "read as EPSG:4326" in sample.note
    metres = write(tmp_path / "m.tif", values, crs=None, transform=from_origin(3e5, 4e6, 30, 30))
    with pytest.raises(HazardError, match="no CRS"):
        at(metres, (36.02, 37.98))


def test_what_cannot_be_sampled_is_refused_with_the_reason(tmp_path: Path) -> None:
    rgb = write(tmp_path / "rgb.tif", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(HazardError, match="expected one band of values, got 3"):
        at(rgb, (36.02, 37.98))
    slc = write(tmp_path / "slc.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(HazardError, match="expected real values"):
        at(slc, (36.02, 37.98))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        bare = write(tmp_path / "bare.tif", np.zeros((4, 4)), crs=None, transform=Affine.identity())
    with pytest.raises(HazardError, match="no georeference"):
        at(bare, (36.02, 37.98))
    (tmp_path / "text.tif").write_text("404 not found")
    with pytest.raises(HazardError, match="cannot be read as a raster"):
        at(str(tmp_path / "text.tif"), (36.02, 37.98))
    cut = Path(write(tmp_path / "cut.tif", RNG.random((400, 400)), crs="EPSG:4326"))
    cut.write_bytes(cut.read_bytes()[:20_000])
    with pytest.raises(HazardError, match=r"cut\.tif: cannot be read"):
        at(str(cut), (36.02, 37.98), (39.9, 34.1))


def test_points_nowhere_are_missing_and_none_is_no_trouble(tmp_path: Path) -> None:
    uri = write(tmp_path / "utm.tif", np.ones((4, 4)), crs="EPSG:32637",
                transform=from_origin(3e5, 4.16e6, 30, 30))  # fmt: skip
    assert np.isnan(at(uri, (np.nan, 37.5), (36.7, np.nan), (0, 0), (-143, -37), (36, 95))).all()
    assert sample_raster(uri, np.empty(0), np.empty(0)).values_N.shape == (0,)


def test_a_raster_in_a_store_gdal_does_not_know(tmp_path: Path) -> None:
    write(tmp_path / "v.tif", np.full((4, 4), 420.0))
    fsspec.filesystem("memory").pipe_file("/hazard/v.tif", (tmp_path / "v.tif").read_bytes())
    assert at("memory://hazard/v.tif", (36.02, 37.98)) == pytest.approx([420])


# -- VS30 tables ---------------------------------------------------------------------------------


def table(path: Path, header: str, mark: str = ",", head: str = "") -> str:
    sites = [(36 + i * 0.01, 37 + j * 0.01, 300 + 10 * i + j) for i in range(5) for j in range(5)]
    lines = [header, *(mark.join(f"{v:.6f}" for v in site) for site in sites)]
    path.write_text(head + "\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("header", "mark", "head"),
    [
        ("lon,lat,vs30", ",", ""),
        ("longitude,latitude,VS30", ",", "\ufeff"),
        ("X;Y;Vs30 (m/s)", ";", "# made by hand\n"),
        ("x\ty\tvs30_m_s", "\t", "#a\n#b\n"),
        ("lon  lat  svel", "  ", ""),
    ],
)
def test_tables_under_the_names_people_use(
    tmp_path: Path, header: str, mark: str, head: str
) -> None:
    uri = table(tmp_path / "vs30.csv", header, mark, head)
    lon = np.array([36.021, 36.04, 36.05, 36.06, 36.02, np.nan])
    lat = np.array([37.012, 37.04, 37.04, 37.04, 36.98, 37.0])
    found = sample_vs30(uri, lon, lat).values_N
    # Median spacing is a hundredth of a degree of longitude, 888 m: reach 1332 m.
    np.testing.assert_array_equal(found, [321, 344, 344, np.nan, np.nan, np.nan])


def test_columns_in_any_order_bad_rows_and_the_antimeridian(tmp_path: Path) -> None:
    path = tmp_path / "vs30.csv"
    path.write_text(
        "id,vs30,measured,lat,lon\na,250,no,-17,179.99\nb,260,no,-17,-179.99\nc,,no,-17,180\n"
        "d,-999,no,-17,180\ne,n/a,no,-17,180\nf,270,no,-17,179.97\n"
    )
    found = sample_vs30(str(path), np.array([-179.995, 179.998, 180.0001]), np.full(3, -17.0))
    np.testing.assert_array_equal(found.values_N, [260, 250, 260])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as CSV"),
        ("lon,lat,depth\n1,2,3\n", "a column is missing: expected one of vs30"),
        ("36.1,37.2,400\n36.2,37.2,400\n", "a column is missing: expected one of lon"),
        ("lon,lat,vs30\n36,37,400\n36,37,410\n", "too few sites: expected at least two"),
        ("lon,lat,vs30\n36,37,-1\n36,38,0\n", "too few sites: expected at least two"),
        ('lon,lat,vs30\n1,"2,3\n', "cannot be read as CSV"),
    ],
)
def test_a_table_that_is_none_says_why(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "vs30.csv"
    path.write_text(text)
    with pytest.raises(HazardError) as caught:
        sample_vs30(str(path), np.array([36.0]), np.array([37.0]))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_vs30_rasters_have_no_value_at_or_below_zero(tmp_path: Path) -> None:
    values = np.array([[0.0, 400.0], [-1.0, 500.0]])
    uri = write(tmp_path / "vs30.tif", values)
    found = sample_vs30(uri, np.array([36.004, 36.016]), np.array([37.996, 37.984])).values_N
    np.testing.assert_array_equal(found, [np.nan, 500])
    with pytest.raises(StorageError):
        sample_vs30(str(tmp_path / "none.csv"), np.array([36.0]), np.array([37.0]))


def test_a_projected_crs_written_in_another_way(tmp_path: Path) -> None:
    wkt = CRS.from_epsg(32637).to_wkt()
    uri = write(
        tmp_path / "w.tif",
        np.full((4, 4), 1.5),
        crs=wkt,
        transform=from_origin(3e5, 4.16e6, 30, 30),
    )
    lon, lat = Transformer.from_crs(32637, 4326, always_xy=True).transform(300_060, 4_159_940)
    assert at(uri, (lon, lat)) == pytest.approx([1.5])
