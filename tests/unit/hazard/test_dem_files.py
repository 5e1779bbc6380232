"""Elevation models as tiles, STAC items and Zarr arrays give what one raster gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from rasterio.transform import from_origin

from quakestream.config.elevation import DemSource
from quakestream.domain import Window
from quakestream.errors import HazardError
from quakestream.hazard.dem_files import dem_version
from quakestream.hazard.terrain import Ground, open_dem
from quakestream.storage import StorageOptions
from tests.helpers.servers import web_server
from tests.unit.hazard.test_terrain import EAST, FOOT_M, NORTH, SLOPE, read, window_at, write_dem

PX, SIDE = 30.0, 80
WEST_M, NORTH_M = EAST - SIDE / 2 * PX, NORTH + SIDE / 2 * PX
WINDOW = window_at(EAST, NORTH)


def plane() -> NDArray[np.float32]:
    """A plane of 0.3 m a metre to the east and 0.4 m to the north."""
    at = (np.arange(SIDE) + 0.5 - SIDE / 2) * PX
    return np.asarray(1000 + 0.3 * at[None, :] - 0.4 * at[:, None], np.float32)


def tile(path: Path, rows: slice, cols: slice, off_m: float = 0.0, **more: Any) -> str:
    north, west = NORTH_M - (rows.start or 0) * PX, WEST_M + (cols.start or 0) * PX + off_m
    return write_dem(
        path, plane()[rows, cols], "EPSG:32637", from_origin(west, north, PX, PX), **more
    )


def tiles(folder: Path, **more: Any) -> list[str]:
    """Four tiles that meet in the middle of the window that is read."""
    halves = slice(0, 40), slice(40, 80)
    return [
        tile(folder / f"r{r}c{c}.tif", rows, cols, **more)
        for r, rows in enumerate(halves)
        for c, cols in enumerate(halves)
    ]


@pytest.fixture
def whole(tmp_path: Path) -> Ground:
    return read(tile(tmp_path / "dem.tif", slice(0, SIDE), slice(0, SIDE)), WINDOW)


def same(one: Ground, other: Ground) -> None:
    for name in ("elevation_YX", "slope_YX", "valid_YX"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def items(folder: Path, hrefs: list[str], **assets: Any) -> str:
    features = [
        {"type": "Feature", "id": f"i{n}", "assets": {"dem-30m": {"href": h, "roles": ["data"]}}}
        for n, h in enumerate(hrefs)
    ]
    for feature in features:
        feature["assets"] |= assets  # type: ignore[operator]
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def test_tiles_are_read_as_one_raster(tmp_path: Path, whole: Ground) -> None:
    assert whole.slope_YX.mean() == pytest.approx(SLOPE, abs=0.01)
    same(read(DemSource(places=tuple(tiles(tmp_path))).text, WINDOW), whole)


def test_items_name_the_tiles_by_asset_or_by_role(tmp_path: Path, whole: Ground) -> None:
    tiles(tmp_path)
    hrefs = [f"./r{r}c{c}.tif" for r in (0, 1) for c in (0, 1)]
    same(read(items(tmp_path, hrefs), WINDOW), whole)
    text = items(tmp_path, hrefs, slope={"href": "slope.tif", "roles": ["data"]})
    with pytest.raises(HazardError, match=r"item i0 has no asset of elevations.*terrain\.asset"):
        read(text, WINDOW)
    same(read(DemSource(places=(text,), asset="dem-30m").text, WINDOW), whole)


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_array_has_the_place_of_its_coordinates(
    tmp_path: Path, whole: Ground, version: Any
) -> None:
    uri = zarr_dem(tmp_path / "dem.zarr", version)
    same(read(uri, WINDOW), whole)
    same(read(f"{uri}/elevation", WINDOW), whole)
    with pytest.raises(HazardError, match="holds no array 'slope' of values: expected"):
        read(DemSource(places=(uri,), asset="slope").text, WINDOW)


def test_a_zarr_array_of_a_web_server_is_read_by_its_name(tmp_path: Path, whole: Ground) -> None:
    """A web server lists nothing: the array is named, and brings its coordinates."""
    zarr_dem(tmp_path / "dem.zarr", 3)
    with web_server(tmp_path) as server:
        uri = f"{server.url}/dem.zarr"
        same(read(f"{uri}/elevation", WINDOW), whole)
        assert dem_version(f"{uri}/elevation", StorageOptions())
        with pytest.raises(HazardError, match=r"expected an array .* got none; name the array"):
            read(uri, WINDOW)


def zarr_dem(path: Path, version: Any) -> str:
    """The plane as xarray writes it: coordinates of pixel centres, a CRS in `spatial_ref`."""
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    at = (np.arange(SIDE) + 0.5) * PX
    content = {"elevation": plane(), "y": NORTH_M - at, "x": WEST_M + at}
    axes = {"elevation": ["y", "x"], "y": ["y"], "x": ["x"]}
    for name, values in content.items():
        named = {"dimension_names": axes[name]} if version == 3 else {}
        array = group.create_array(name, data=values, chunks=(32,) * values.ndim, **named)
        if version == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = axes[name]
    group["elevation"].attrs.update({"grid_mapping": "spatial_ref", "units": "m"})
    crs = group.create_array("spatial_ref", data=np.array(0))
    crs.attrs["crs_wkt"] = "EPSG:32637"
    return str(path)


def test_a_unit_is_given_where_the_file_states_none(tmp_path: Path, whole: Ground) -> None:
    uri = str(tmp_path / "dem.tif")
    feet = read(DemSource(places=(uri,), unit="ft").text, WINDOW)
    np.testing.assert_allclose(feet.elevation_YX, whole.elevation_YX * FOOT_M, rtol=1e-5)
    with pytest.raises(HazardError, match="unknown unit of elevations: expected m or ft"):
        read(DemSource(places=(uri,), unit="furlong").text, WINDOW)
    stated = tile(tmp_path / "m.tif", slice(0, SIDE), slice(0, SIDE), unit="m")
    same(read(DemSource(places=(stated,), unit="ft").text, WINDOW), whole)


def test_what_fits_no_elevation_model_is_one_clear_line(tmp_path: Path) -> None:
    one = tile(tmp_path / "one.tif", slice(0, 40), slice(0, SIDE))
    off = tile(tmp_path / "off.tif", slice(40, SIDE), slice(0, SIDE), off_m=7.0)
    with pytest.raises(HazardError, match=r"tiles of the DEM lie on several lattices.*gdalwarp"):
        read(DemSource(places=(one, off)).text, WINDOW)
    feet = tile(tmp_path / "feet.tif", slice(40, SIDE), slice(0, SIDE), unit="ft")
    with pytest.raises(HazardError, match="tiles of the DEM are in several units"):
        read(DemSource(places=(one, feet)).text, WINDOW)
    page = tmp_path / "catalog.json"
    page.write_text('{"type": "Catalog", "links": []}')
    with pytest.raises(HazardError, match="expected a STAC item or item collection"):
        read(str(page), WINDOW)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(HazardError, match="cannot be read as Zarr"):
        read(str(tmp_path / "empty.zarr"), WINDOW)


def test_the_version_is_of_every_file(tmp_path: Path) -> None:
    places = tiles(tmp_path)
    text = items(tmp_path, [Path(p).name for p in places])
    options = StorageOptions()
    before = dem_version(text, options)
    assert before == dem_version(text, options)
    tile(Path(places[3]), slice(40, 80), slice(40, 80), nodata=-1.0)
    assert dem_version(text, options) != before
    uri = zarr_dem(tmp_path / "dem.zarr", 3)
    first = dem_version(uri, options)
    zarr.open_array(f"{uri}/elevation", mode="r+")[0, 0] = 7.0
    assert dem_version(uri, options) != first


def test_a_source_is_its_text() -> None:
    plain = DemSource(places=("/a#b.tif",))
    assert plain.text == "/a#b.tif"
    full = DemSource(places=("s3://b/a.json", "/c d.tif"), asset="dem & more", unit="us ft")
    assert DemSource.of(full.text) == full
    assert DemSource.of(plain.text) == plain


@pytest.mark.parametrize("order", [1, -1])
def test_tiles_on_both_sides_of_180_are_read_across_it(tmp_path: Path, order: int) -> None:
    """A plane that rises by 5,000 m a degree to the east, over tiles at 179.5° and -180°."""
    step, lat = 1 / 600, -16.0
    east_deg = (np.arange(300) + 0.5) * step
    places = []
    for name, west, first in (("e", 179.5, 0.0), ("w", -180.0, 0.5)):
        values = np.tile(5000 * (first + east_deg), (120, 1)).astype(np.float32)
        at = from_origin(west, lat, step, step)
        places.append(write_dem(tmp_path / f"{name}.tif", values, "EPSG:4326", at))
    with open_dem(DemSource(places=tuple(places[::order])).text) as dem:
        found = dem.max_slope(np.array([[179.9, -16.11, -179.9, -16.09]]))
        window = Window(row=60, col=dem.layer.frame.turn_px - 2, height=1, width=4)
        np.testing.assert_allclose(np.diff(dem.layer.read(window)), 5000 * step, rtol=1e-3)
    metres = 111_320 * np.cos(np.radians(16.1))
    assert found == pytest.approx(np.degrees(np.arctan(5000 / metres)), rel=2e-3)
