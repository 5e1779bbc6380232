"""Bands and nodata as items of every STAC version state them."""

from typing import Any

import pytest

from quakestream.catalog.bands import stated_bands
from quakestream.domain.bands import rgb_of

BGRN = ("blue", "green", "red", "nir")
UM = (0.485, 0.56, 0.66, 0.83)
NAMED = [{"name": f"B{n}", "common_name": word} for n, word in enumerate(BGRN, start=1)]


@pytest.mark.parametrize(
    ("asset", "properties"),
    [
        # 0.9: the asset has numbers of the item's bands
        ({"eo:bands": [0, 1, 2, 3]}, {"eo:bands": NAMED}),
        # 1.0: at the asset, or only at the item
        ({"eo:bands": NAMED}, {}),
        ({}, {"eo:bands": NAMED}),
        ({"eo:bands": [{"name": word} for word in ("B", "G", "R", "N")]}, {}),
        ({"eo:bands": [{"description": word.title()} for word in BGRN]}, {}),
        # the asset names bands that the item describes
        ({"eo:bands": [{"name": f"B{n}"} for n in (1, 2, 3, 4)]}, {"eo:bands": NAMED}),
        ({"eo:bands": ["B1", "B2", "B3", "B4"]}, {"eo:bands": NAMED}),
        # 1.1
        ({"bands": [{"eo:common_name": word} for word in BGRN]}, {}),
        ({"bands": [{"name": word} for word in BGRN]}, {}),
        ({"bands": [{"name": f"B{n}"} for n in (1, 2, 3, 4)]}, {"bands": [
            {"name": f"B{n}", "eo:common_name": word} for n, word in enumerate(BGRN, start=1)
        ]}),
        # wavelengths alone, in micrometres and (against the standard) in nanometres
        ({"bands": [{"eo:center_wavelength": um} for um in UM]}, {}),
        ({"eo:bands": [{"center_wavelength": um} for um in UM]}, {}),
        ({"bands": [{"eo:center_wavelength": um * 1000} for um in UM]}, {}),
        ({"bands": [{"eo:center_wavelength": str(um)} for um in UM]}, {}),
        # the common name decides where the name says something else
        ({"bands": [
            {"name": other, "eo:common_name": word}
            for other, word in zip(("red", "green", "blue", "nir"), BGRN, strict=True)
        ]}, {}),
        # a list that says nothing leaves the decision to the next one
        ({"bands": [{"data_type": "uint8"}] * 4, "eo:bands": NAMED}, {}),
    ],
)  # fmt: skip
def test_every_version_tells_the_order(asset: Any, properties: Any) -> None:
    stated = stated_bands(asset, properties)
    assert stated.names == BGRN
    assert rgb_of(stated.names) == (3, 2, 1)


@pytest.mark.parametrize(
    ("asset", "names"),
    [
        ({"bands": [{"name": "NIR"}, {"name": "Red"}, {"name": "Green"}]}, ("nir", "red", "green")),
        ({"eo:bands": [7, -1, True, None]}, ()),
        ({"bands": "red, green, blue"}, ()),
        ({"bands": {"red": 1}}, ()),
        ({"bands": [{"eo:center_wavelength": value} for value in ("x", 0, -1, None)]}, ()),
        ({"bands": [{"eo:common_name": 5}, {"eo:common_name": ["red"]}, {}]}, ()),
    ],
)
def test_what_names_no_colours(asset: Any, names: tuple[str, ...]) -> None:
    stated = stated_bands(asset, {})
    assert (stated.names if any(stated.names) else ()) == names


def test_bands_of_the_item_that_are_not_of_this_asset_do_not_count() -> None:
    """They are used only where they name red, green and blue once."""
    of_all = [{"name": name} for name in ("pan", "red", "red", "green")]
    assert stated_bands({}, {"eo:bands": of_all}).names == ()


@pytest.mark.parametrize(
    ("asset", "properties", "nodata"),
    [
        ({"bands": [{"nodata": 0}] * 3}, {}, (0.0, 0.0, 0.0)),
        ({"raster:bands": [{"nodata": 1}, {"nodata": 2}, {"nodata": 3}]}, {}, (1.0, 2.0, 3.0)),
        ({"bands": [{"raster:nodata": 255}, {}, {}]}, {}, (255.0, None, None)),
        ({"nodata": "255"}, {}, (255.0,)),
        ({"raster:nodata": 9}, {"nodata": 8}, (9.0,)),
        ({}, {"nodata": 8}, (8.0,)),
        ({"nodata": True}, {}, ()),
        ({"nodata": "none"}, {}, ()),
        ({"bands": [{"nodata": []}]}, {}, ()),
    ],
)
def test_nodata_of_every_version(asset: Any, properties: Any, nodata: tuple[Any, ...]) -> None:
    assert stated_bands(asset, properties).nodata == nodata


def test_nodata_may_be_no_number() -> None:
    (value,) = stated_bands({"nodata": "nan"}, {}).nodata
    assert value != value
