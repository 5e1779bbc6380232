"""Which files hold a bundle's bands, and what their counts mean, by the item."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quakestream.catalog.layers import ItemLayers, item_layers
from quakestream.catalog.missions import baseline_of, mission_of
from quakestream.domain import BandNeed
from quakestream.domain.spectrum import band_of
from quakestream.storage import StorageOptions
from tests.helpers.sentinel import BANDS, write_raster

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PRITHVI = ("blue", "green", "red", "nir08", "swir16", "swir22")


def found(
    assets: dict[str, Any],
    bands: tuple[str, ...],
    *,
    properties: dict[str, Any] | None = None,
    name: str = "item",
    gsd_m: float = 10.0,
    only: tuple[str, ...] = (),
    substitutes: tuple[tuple[str, tuple[str, ...]], ...] = (),
    **more: Any,
) -> ItemLayers:
    item = {"id": name, "properties": properties or {}, "assets": assets, **more}
    places = {key: (asset["href"], ()) for key, asset in assets.items()}
    need = BandNeed(bands=bands, substitutes=substitutes, gsd_m=gsd_m)
    return item_layers(item, places, need, only, StorageOptions())


def hrefs(layers: ItemLayers) -> list[str]:
    return [layer.file.href for layer in layers.layers]


def meanings(layers: ItemLayers) -> set[tuple[float | None, float | None, tuple[float, ...]]]:
    return {(layer.scale, layer.offset, layer.nodata) for layer in layers.layers}


def planetary_computer() -> dict[str, Any]:
    """Assets as Planetary Computer's sentinel-2-l2a lists them: B05 to B8A are all `rededge`."""
    said = {"rededge071", "rededge075", "rededge078", "nir08"}
    return {
        band: {
            "href": f"{band}_{gsd}m.tif",
            "type": COG,
            "roles": ["data"],
            "gsd": gsd,
            "eo:bands": [
                {
                    "name": band,
                    "common_name": "rededge" if common in said else common,
                    "center_wavelength": um,
                }
            ],
        }
        for band, (common, gsd, um) in BANDS.items()
    } | {
        "visual": {
            "href": "TCI_10m.tif",
            "type": COG,
            "roles": ["data"],
            "gsd": 10,
            "eo:bands": [{"common_name": c} for c in ("red", "green", "blue")],
        },
        "SCL": {"href": "SCL_20m.tif", "type": COG, "roles": ["data"]},
    }


def test_bands_of_planetary_computer_are_told_by_their_numbers() -> None:
    common = tuple(common for common, _, _ in BANDS.values())
    layers = found(planetary_computer(), common, properties={"platform": "Sentinel-2B"})
    assert hrefs(layers) == [f"{band}_{gsd}m.tif" for band, (_, gsd, _) in BANDS.items()]
    assert layers.mask is not None
    assert (layers.mask.name, layers.mask.file.href) == ("scl", "SCL_20m.tif")


def test_bands_of_an_unknown_mission_are_told_by_their_wavelengths() -> None:
    assets = {
        f"x{n}": {
            "href": f"x{n}.tif",
            "type": COG,
            "eo:bands": [{"name": f"x{n}", "center_wavelength": um * factor}],
            "raster:bands": [{"scale": 0.0001}],
        }
        for n, (um, factor) in enumerate([(0.865, 1), (665, 1), (2.2, 1000)])
    }
    layers = found(assets, ("red", "nir08", "swir22"))
    assert hrefs(layers) == ["x1.tif", "x0.tif", "x2.tif"]
    assert meanings(layers) == {(0.0001, 0.0, ())}


def test_earth_search_offers_cogs_beside_jpeg_2000_and_pictures() -> None:
    assets: dict[str, Any] = {}
    for key, common, gsd in (
        ("red", "red", 10),
        ("rededge1", "rededge", 20),
        ("nir08", "nir08", 20),
    ):
        band = {"name": key, "common_name": common}
        for suffix, kind in (("-jp2", "image/jp2"), ("", COG)):
            assets[key + suffix] = {
                "href": key + (".jp2" if suffix else ".tif"),
                "type": kind,
                "eo:bands": [band],
                "raster:bands": [
                    {"nodata": 0, "scale": 0.0001, "offset": -0.1, "spatial_resolution": gsd}
                ],
            }
    assets["visual"] = {"href": "TCI.tif", "type": COG, "eo:bands": [{"common_name": "red"}]}
    assets["scl-jp2"] = {"href": "SCL.jp2", "type": "image/jp2"}
    assets["scl"] = {"href": "SCL.tif", "type": COG}
    need = ("red", "rededge071", "nir08")
    said = {"platform": "sentinel-2a", "s2:processing_baseline": "05.09"}
    layers = found(assets, need, properties=said)
    assert hrefs(layers) == ["red.tif", "rededge1.tif", "nir08.tif"]
    assert layers.mask is not None
    assert layers.mask.file.href == "SCL.tif"
    assert meanings(layers) == {(0.0001, -0.1, (0.0,))}
    taken_off = found(assets, need, properties={**said, "earthsearch:boa_offset_applied": True})
    assert meanings(taken_off) == {(0.0001, 0.0, (0.0,))}


@pytest.mark.parametrize(
    ("properties", "name", "offset"),
    [
        ({"s2:processing_baseline": "03.01"}, "item", 0.0),
        ({"s2:processing_baseline": "04.00"}, "item", -0.1),
        ({"processing:version": "05.11"}, "item", -0.1),
        ({"s2:product_uri": "S2A_MSIL2A_20230209T082121_N0509_R121_T37SDB.SAFE"}, "item", -0.1),
        ({}, "S2A_MSIL1C_20210209T082121_N0209_R121_T37SDB", 0.0),
        ({}, "item", 0.0),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": True}, "item", 0.0),
        (
            {"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": False},
            "item",
            -0.1,
        ),
    ],
)
def test_the_offset_of_sentinel_2_follows_the_baseline_and_counts_once(
    properties: dict[str, Any], name: str, offset: float
) -> None:
    layers = found(
        {"B04": {"href": "B04.tif", "type": COG}},
        ("red",),
        properties={"constellation": "Sentinel-2", **properties},
        name=name,
    )
    assert meanings(layers) == {(0.0001, offset, (0.0,))}


@pytest.mark.parametrize(
    ("name", "nir"),
    [("HLS.S30.T37SDB.2023040T082049.v2.0", "B8A"), ("HLS.L30.T37SDB.2023040T080000.v2.0", "B05")],
)
def test_near_infrared_of_hls_is_b8a_in_s30_and_b05_in_l30(name: str, nir: str) -> None:
    keys = [*(f"B{n:02}" for n in range(1, 13)), "B8A", "Fmask"]
    assets = {key: {"href": f"{key}.tif", "type": "image/tiff"} for key in keys}
    swir = ["B11.tif", "B12.tif"] if nir == "B8A" else ["B06.tif", "B07.tif"]
    layers = found(assets, PRITHVI, name=name, gsd_m=30.0)
    assert hrefs(layers) == ["B02.tif", "B03.tif", "B04.tif", f"{nir}.tif", *swir]
    assert meanings(layers) == {(0.0001, 0.0, (-9999.0,))}
    assert layers.mask is not None
    assert layers.mask.name == "fmask"


def test_one_asset_with_all_bands_comes_before_an_asset_per_band() -> None:
    names = ("nir", "red", "green", "blue")
    assets = {
        name: {"href": f"{name}.tif", "type": COG, "bands": [{"eo:common_name": name}]}
        for name in names
    }
    assets["stack"] = {
        "href": "stack.tif",
        "type": COG,
        "bands": [{"eo:common_name": name, "raster:scale": 0.01} for name in names],
    }
    layers = found(assets, ("blue", "green", "nir"))
    assert hrefs(layers) == ["stack.tif"] * 3
    assert [layer.band for layer in layers.layers] == [4, 3, 1]
    limited = found(assets, ("blue", "green", "nir"), only=("blue", "green", "nir"))
    assert hrefs(limited) == ["blue.tif", "green.tif", "nir.tif"]


@pytest.mark.parametrize(
    ("gsd_m", "suffix"), [(10.0, "10m"), (20.0, "20m"), (30.0, "20m"), (60.0, "60m")]
)
def test_of_several_sizes_the_coarsest_that_is_fine_enough_is_read(
    gsd_m: float, suffix: str
) -> None:
    assets = {
        f"B02_{size}": {"href": f"B02_{size}.jp2", "type": "image/jp2"}
        for size in ("10m", "20m", "60m")
    }
    layers = found(assets, ("blue",), gsd_m=gsd_m, properties={"platform": "sentinel-2a"})
    assert hrefs(layers) == [f"B02_{suffix}.jp2"]


def test_a_missing_band_is_named_with_what_the_item_offers() -> None:
    assets = {
        "visual": {
            "href": "v.tif",
            "type": COG,
            "bands": [{"eo:common_name": c} for c in ("red", "green", "blue")],
        }
    }
    layers = found(assets, PRITHVI)
    assert layers.missing == ("nir08", "swir16", "swir22")
    assert layers.offered == ("red", "green", "blue")
    assert layers.layers == ()


def test_a_substitute_stands_for_a_band_that_is_missing() -> None:
    assets = {"B08": {"href": "B08.tif", "type": COG}, "B04": {"href": "B04.tif", "type": COG}}
    layers = found(
        assets,
        ("red", "nir08"),
        substitutes=(("nir08", ("nir",)),),
        properties={"platform": "sentinel-2a"},
    )
    assert [(x.name, x.source) for x in layers.layers] == [("red", "red"), ("nir08", "nir")]


def test_descriptions_in_the_file_name_bands_that_the_item_does_not(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "stack.tif",
        np.ones((3, 64, 64), np.uint16),
        10,
        descriptions=("swir22", "Band 8 (near infrared)", "Red"),
    )
    layers = found({"data": {"href": str(path), "type": COG}}, ("red", "swir22", "nir"))
    assert [layer.band for layer in layers.layers] == [3, 1, 2]


@pytest.mark.parametrize(
    ("texts", "um", "mission", "name"),
    [
        (["B8A"], None, "sentinel-2", "nir08"),
        (["B08"], None, "sentinel-2", "nir"),
        (["B05"], None, "hls-l30", "nir08"),
        (["B05"], None, "hls-s30", "rededge071"),
        (["SR_B5"], None, "landsat", "nir08"),
        (["B02_10m"], None, "sentinel-2", "blue"),
        (["rededge", "B06"], None, "sentinel-2", "rededge075"),
        (["rededge", "B06"], 0.74, "", "rededge075"),
        (["rededge"], None, "", ""),
        (["B4"], None, "", ""),
        (["SWIR 1"], None, "", "swir16"),
        (["x"], 945.0, "", "nir09"),
        (["yellow"], 0.61, "", ""),
        (["alpha"], None, "", ""),
    ],
)
def test_names_numbers_and_wavelengths(
    texts: list[str], um: float | None, mission: str, name: str
) -> None:
    assert band_of(texts, um, mission) == name


def test_missions_and_baselines_are_told_by_what_items_say() -> None:
    assert mission_of({"id": "a", "collection": "sentinel-2-l2a"}) == "sentinel-2"
    assert mission_of({"id": "a", "collection": "hls2-l30"}) == "hls-l30"
    assert mission_of({"id": "LC08_L2SP_174035_20230209", "properties": {}}) == "landsat"
    assert mission_of({"id": "10300100E1B2", "properties": {"platform": "WV02"}}) == ""
    assert baseline_of({"id": "x", "properties": {"s2:processing_baseline": "no"}}) == 0.0
