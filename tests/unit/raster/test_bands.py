"""Bands in any order and nodata from the item, read as a plain RGB file with a tag is read."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from shapely.geometry import box

from quakestream.domain import NOTHING_STATED, Bands, Grid, Scene, StatedBands
from quakestream.domain.bands import band_names, colour_of, rgb_of
from quakestream.errors import SceneError
from quakestream.raster.prepare import prepare_scene
from quakestream.raster.probe import probe
from quakestream.raster.source import Pixels
from quakestream.raster.tiles import tile_source_factory, write_entry, write_root
from quakestream.raster.tiles.placement import extent_on
from quakestream.raster.tiles.references import make_references
from quakestream.raster.tiles.stored import write_stored
from quakestream.storage import open_store
from tests.helpers.cog_case import OTHER_PLACES
from tests.helpers.tiles_case import (
    GRID,
    LOCAL,
    TRANSFORM,
    assert_same,
    direct,
    gdal,
    slant,
    texture,
)

RGB: NDArray[np.uint8] = texture()
NIR: NDArray[np.uint8] = np.maximum(texture(4)[3:] // 2 + 60, 1)
"""A fourth band that is no mask."""
ORDERS = {"bgrn": (3, 2, 1), "nrgb": (2, 3, 4)}
WIDE = 7
"""Factor to counts of 16 bits."""


def write(path: Path, counts_BYX: NDArray[Any], names: Sequence[str] = (), **more: Any) -> Path:
    colours = more.pop("colours", None)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": counts_BYX.shape[2],
        "height": counts_BYX.shape[1],
        "count": len(counts_BYX),
        "dtype": counts_BYX.dtype.name,
        "crs": "EPSG:32637",
        "transform": TRANSFORM,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "photometric": "minisblack" if len(counts_BYX) > 3 else "RGB",
    } | more
    with rasterio.open(path, "w", **profile) as made:
        if colours is not None:
            made.colorinterp = colours
        made.write(counts_BYX)
        if names:
            made.descriptions = tuple(names)
    return path


def in_order(order: str, rgb_BYX: NDArray[Any] = RGB, nir_BYX: NDArray[Any] = NIR) -> Any:
    """The image's bands in the order of a name of `ORDERS`."""
    bands = dict(zip("rgbn", [*rgb_BYX, *nir_BYX], strict=True))
    return np.stack([bands[letter] for letter in order])


def probed(path: Path, stated: StatedBands = NOTHING_STATED) -> Scene:
    plain = Scene(
        id=path.stem,
        href=str(path),
        datetime=datetime(2026, 3, 16, tzinfo=UTC),
        outline=box(0, 0, 1, 1),
        stated=stated,
    )
    return probe(plain, LOCAL)


def read(scene: Scene, grid: Grid = GRID, *, by_gdal: bool = False) -> Pixels:
    with (gdal if by_gdal else direct)(scene, grid) as source:
        return source.read(extent_on(scene, grid))


def names(order: str) -> tuple[str, ...]:
    words = {"r": "red", "g": "green", "b": "blue", "n": "nir"}
    return tuple(words[letter] for letter in order)


@pytest.mark.parametrize(
    ("how", "order", "interleave"),
    [
        ("run file", "bgrn", "pixel"),
        ("run file", "nrgb", "band"),
        ("item", "nrgb", "pixel"),
        ("descriptions", "bgrn", "band"),
    ],
)
def test_any_order_reads_as_red_green_blue(
    how: str, order: str, interleave: str, tmp_path: Path
) -> None:
    described = names(order) if how == "descriptions" else ()
    path = write(tmp_path / "scene.tif", in_order(order), described, interleave=interleave)
    stated = {
        "run file": StatedBands(order=ORDERS[order]),
        "item": StatedBands(names=names(order)),
        "descriptions": NOTHING_STATED,
    }[how]
    scene, plain = probed(path, stated), probed(write(tmp_path / "rgb.tif", RGB))
    assert scene.bands == Bands(rgb=ORDERS[order])
    for by_gdal in (False, True):
        assert_same(read(scene, by_gdal=by_gdal), read(plain, by_gdal=by_gdal))
    assert prepare_scene(scene, LOCAL).statistics == prepare_scene(plain, LOCAL).statistics
    assert scene.version != plain.version


@pytest.mark.parametrize("place", ["finer", "other zone"])
def test_any_order_is_resampled_alike(place: str, tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", in_order("bgrn"))
    scene = probed(path, StatedBands(order=(3, 2, 1)))
    plain, grid = probed(write(tmp_path / "rgb.tif", RGB)), OTHER_PLACES[place]
    for by_gdal in (False, True):
        assert_same(read(scene, grid, by_gdal=by_gdal), read(plain, grid, by_gdal=by_gdal))


def test_sixteen_bits_in_any_order(tmp_path: Path) -> None:
    wide = [counts.astype(np.uint16) * WIDE for counts in (RGB, NIR)]
    path = write(tmp_path / "scene.tif", in_order("nrgb", *wide))
    scene = probed(path, StatedBands(names=names("nrgb")))
    plain = probed(write(tmp_path / "rgb.tif", wide[0]))
    assert scene.stretch == plain.stretch
    for by_gdal in (False, True):
        assert_same(read(scene, by_gdal=by_gdal), read(plain, by_gdal=by_gdal))


@pytest.mark.parametrize("virtual", [True, False])
def test_tile_stores_hold_the_selected_bands(virtual: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", in_order("bgrn"))
    scene = probed(path, StatedBands(order=(3, 2, 1), nodata=(1.0,)))
    store = open_store(str(tmp_path / "tiles"))
    write_root(store)
    if virtual:
        made = make_references(scene, [GRID], LOCAL)
        store.put(f"{made.entry.group}/refs.json", json.dumps(made.content).encode())
        entry = made.entry
    else:
        entry = write_stored(scene, [GRID], store)
    write_entry(store, entry)
    with tile_source_factory(store.uri)(scene, GRID) as source:
        assert_same(source.read(extent_on(scene, GRID)), read(scene))
    other = probed(path, StatedBands(order=(1, 2, 3)))
    assert entry.refusal(scene) is None
    assert "other bands" in str(entry.refusal(other))


@pytest.mark.parametrize("fill", [0, 1, 255])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_nodata_of_the_item_is_as_good_as_a_tag(fill: int, dtype: str, tmp_path: Path) -> None:
    counts_BYX = RGB.astype(dtype) * (WIDE if dtype == "uint16" else 1)
    counts_BYX[:, ~slant()] = fill
    tagged = probed(write(tmp_path / "tag.tif", counts_BYX, nodata=fill))
    path = write(tmp_path / "item.tif", counts_BYX)
    told = probed(path, StatedBands(nodata=(float(fill),) * 3))
    assert told.bands == Bands(fills=((fill,) * 3,))
    assert told.stretch == tagged.stretch
    for by_gdal in (False, True):
        expected = read(tagged, by_gdal=by_gdal)
        assert_same(read(told, by_gdal=by_gdal), expected)
        assert not expected.valid_YX[~slant()].any()
    assert prepare_scene(told, LOCAL).statistics == prepare_scene(tagged, LOCAL).statistics


@pytest.mark.parametrize("place", ["finer", "other zone"])
def test_nodata_of_the_item_takes_no_part_where_pixels_are_resampled(
    place: str, tmp_path: Path
) -> None:
    counts_BYX = RGB.copy()
    counts_BYX[:, ~slant()] = 255
    tagged = probed(write(tmp_path / "tag.tif", counts_BYX, nodata=255))
    told = probed(write(tmp_path / "item.tif", counts_BYX), StatedBands(nodata=(255.0,)))
    assert_same(read(told, OTHER_PLACES[place]), read(tagged, OTHER_PLACES[place]))


def test_nodata_of_each_band_and_of_item_and_file(tmp_path: Path) -> None:
    """Both counts are masked, and only where all three bands have them."""
    counts_BYX = np.clip(RGB, 20, 200)
    counts_BYX[:, :40] = np.array([1, 2, 3])[:, None, None]
    counts_BYX[:, 40:80] = 9
    counts_BYX[:, 80:90] = np.array([1, 2, 9])[:, None, None]
    path = write(tmp_path / "scene.tif", counts_BYX, nodata=9)
    scene = probed(path, StatedBands(nodata=(1.0, 2.0, 3.0)))
    assert "nodata is 9 in the file and 1, 2, 3 in the item: both are masked" in scene.notes
    for by_gdal in (False, True):
        valid_YX = read(scene, by_gdal=by_gdal).valid_YX
        assert not valid_YX[:80].any()
        assert valid_YX[80:].all()


@pytest.mark.parametrize("value", [-9999.0, 0.5, float("nan"), 300.0])
def test_nodata_that_no_count_can_have_is_noted(value: float, tmp_path: Path) -> None:
    scene = probed(write(tmp_path / "scene.tif", RGB), StatedBands(nodata=(value,)))
    assert scene.bands is not None
    assert not scene.bands.fills
    assert scene.notes == (f"the item's nodata {value:g} is no count of uint8 and is not used",)


@pytest.mark.parametrize(
    ("stated", "described", "colours", "message"),
    [
        (
            NOTHING_STATED,
            (),
            None,
            "nothing says which bands.*4 bands .*imagery.bands",
        ),
        (StatedBands(names=("nir", "red", "green", "")), (), None, "not one band each of red"),
        (NOTHING_STATED, ("red", "red", "green", "blue"), None, "not one band each of red"),
        (StatedBands(order=(5, 2, 1)), (), None, "names band 5: expected bands of 1 to 4"),
        (NOTHING_STATED, (), "alpha", "band 4 is called transparency and holds other values"),
        (NOTHING_STATED, (), "undefined", "band 4 is not named and holds other values"),
    ],
)
def test_what_nothing_tells_is_refused(
    stated: StatedBands, described: Sequence[str], colours: str | None, message: str, tmp_path: Path
) -> None:
    interpretation = None
    if colours:
        rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        interpretation = (*rgb, ColorInterp[colours])
    path = write(tmp_path / "scene.tif", in_order("bgrn"), described, colours=interpretation)
    with pytest.raises(SceneError, match=message):
        probed(path, stated)


def test_false_colour_is_refused_though_it_has_three_bands(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", RGB, ("NIR", "Red", "Green"))
    with pytest.raises(SceneError, match="nir, red, green by the file's band descriptions"):
        probed(path)


@pytest.mark.parametrize("colour", ["alpha", "undefined"])
def test_a_fourth_band_that_says_mask_is_one(colour: str, tmp_path: Path) -> None:
    counts_BYX = np.concatenate([RGB, slant()[None] * np.uint8(255)])
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    scene = probed(write(tmp_path / "s.tif", counts_BYX, colours=(*rgb, ColorInterp[colour])))
    assert scene.bands is not None
    assert scene.bands.alpha == 4
    for by_gdal in (False, True):
        np.testing.assert_array_equal(read(scene, by_gdal=by_gdal).valid_YX, slant())


def test_near_infrared_that_gdal_calls_alpha_masks_nothing(tmp_path: Path) -> None:
    """GDAL calls the fourth of four bands alpha; where it is 0 there is water, not nothing."""
    nir_YX = NIR.copy()
    nir_YX[:, 200:300] = 0
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    path = write(tmp_path / "scene.tif", in_order("bgrn", nir_BYX=nir_YX), colours=rgb)
    scene = probed(path, StatedBands(names=names("bgrn")))
    assert scene.notes[0].startswith("red, green and blue are bands 3, 2, 1 by the STAC item; ")
    plain = probed(write(tmp_path / "rgb.tif", RGB))
    for by_gdal in (False, True):
        assert_same(read(scene, by_gdal=by_gdal), read(plain, by_gdal=by_gdal))


def test_an_item_that_lists_other_bands_than_the_file_has_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", RGB)
    scene = probed(path, StatedBands(names=("coastal", "blue", "green", "yellow", "red")))
    assert scene.bands is not None
    assert scene.bands.rgb == (1, 2, 3)
    assert scene.notes == ("the item lists 5 bands, the file has 3: its own order is used",)


def test_keys_follow_from_the_bands(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", RGB)
    plain = probed(path)
    assert plain.version == (plain.href, plain.etag)  # as before bands were chosen
    versions = {
        probed(path, stated).version
        for stated in (
            NOTHING_STATED,
            StatedBands(order=(3, 2, 1)),
            StatedBands(nodata=(1.0,)),
            StatedBands(nodata=(2.0,)),
        )
    }
    assert len(versions) == 4
    assert replace(plain, bands=Bands(notes=("odd",))).version == plain.version
    kept = Bands(rgb=(3, 2, 1), alpha=4, fills=((1, 2, 3),))
    assert Bands.of(kept.attributes()) == kept


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("red", "red"),
        ("Red (665 nm)", "red"),
        ("BAND_R", "red"),
        ("G", "green"),
        ("B", "blue"),
        ("B4", ""),
        ("Band 3", ""),
        ("rededge", "rededge"),
        ("Red Edge", "rededge"),
        ("near infrared", "nir"),
        ("nir08", "nir"),
        ("Coastal Blue", "coastal"),
        ("red, green, blue", ""),
        ("Alpha", "alpha"),
    ],
)
def test_words_for_bands(text: str, colour: str) -> None:
    assert colour_of(text) == colour


@pytest.mark.parametrize(
    ("waves", "rgb"),
    [
        ((0.443, 0.490, 0.531, 0.565, 0.610, 0.665, 0.705, 0.865), (6, 4, 2)),  # SuperDove
        ((427, 482, 547, 604, 660, 723, 833, 949), (5, 3, 2)),  # WorldView-3, nm
        ((0.485, 0.560, 0.660, 0.830), (3, 2, 1)),  # Pléiades in file order B, G, R, NIR
        ((0.865, 0.66, 0.56), None),
    ],
)
def test_centre_wavelengths_tell_the_order(waves: Sequence[float], rgb: Any) -> None:
    assert rgb_of(band_names([((), um) for um in waves])) == rgb
    texts = ["coastal", "blue", "green i", "green ii", "yellow", "red", "rededge", "nir"]
    if rgb == (6, 4, 2):
        assert rgb_of(band_names([([t], um) for t, um in zip(texts, waves, strict=True)])) == rgb
        assert rgb_of(band_names([([t], None) for t in texts])) is None
