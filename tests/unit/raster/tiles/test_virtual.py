"""Virtual tiles equal what GDAL reads from the scene, or the scene is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from quakestream.domain import Grid, Scene
from quakestream.errors import MissingExtraError, ReadError, SceneError
from quakestream.raster.source import RasterioSource, RasterSource
from quakestream.raster.tiles import (
    TileSource,
    survey_tiles,
    tile_source_factory,
    write_entry,
    write_root,
)
from quakestream.raster.tiles.references import References, make_references
from quakestream.raster.tiles.source import VirtualTiles
from quakestream.storage import open_store
from tests.helpers.tiles_case import (
    GRID,
    LOCAL,
    TRANSFORM,
    assert_same,
    gdal,
    luma_apart,
    scene_of,
    windows,
    write_cog,
    write_tiff,
)

EXACT = {
    "deflate": {"compress": "deflate"},
    "deflate, predictor": {"compress": "deflate", "predictor": 2},
    "LZW": {"compress": "lzw"},
    "LZW, predictor": {"compress": "lzw", "predictor": 2},
    "zstd": {"compress": "zstd"},
    "zstd, predictor": {"compress": "zstd", "predictor": 2},
    "PackBits": {"compress": "packbits"},
    "plain": {},
    "BigTIFF": {"compress": "deflate", "bigtiff": "yes"},
    "bands apart": {"compress": "deflate", "interleave": "band"},
    "bands apart, predictor": {"compress": "lzw", "predictor": 2, "interleave": "band"},
    "whole strips": {"compress": "deflate", "tiled": False, "blockysize": 70},
    "alpha": {"compress": "deflate", "bands": 4, "alpha": "yes"},
    "nodata 0": {"compress": "deflate", "nodata": 0},
    "nodata 255": {"compress": "lzw", "nodata": 255},
    "mask": {"compress": "deflate", "masked": True},
    "mask, zstd": {"compress": "zstd", "masked": True},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "part strip": (
        {"compress": "deflate", "tiled": False, "blockysize": 64},
        "strips of 64 rows, and the last is shorter",
    ),
    "nodata in JPEG": (
        {"compress": "jpeg", "nodata": 0},
        "nodata is not exact, as it went through JPEG",
    ),
    "mask beside it": (
        {"compress": "deflate", "masked": True, "sidecar": True},
        "mask is not inside the file",
    ),
    "WebP": ({"compress": "webp"}, "compression webp has no Zarr codec"),
    "holes": (
        {"compress": "deflate", "sparse_ok": True},
        "11 of 12 blocks of its image are not in the file",
    ),
}


def stored_references(made: References, folder: Path) -> str:
    """A store of one virtual scene."""
    store = open_store(str(folder))
    write_root(store)
    store.put(f"{made.entry.group}/refs.json", json.dumps(made.content).encode())
    write_entry(store, made.entry)
    return store.uri


def virtual_source(scene: Scene, folder: Path, grid: Grid = GRID) -> RasterSource:
    uri = stored_references(make_references(scene, [grid], LOCAL), folder)
    source = tile_source_factory(uri)(scene, grid)
    assert isinstance(source, TileSource)
    return source


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_exact_codecs_read_as_gdal_reads_them(options: dict[str, Any], tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", **options))
    made = make_references(scene, [GRID], LOCAL)
    tiles = made.entry.grids[0]
    assert tiles.exact
    with virtual_source(scene, tmp_path / "store") as source, gdal(scene) as oracle:
        for window in windows(tiles.window):
            assert_same(source.read(window), oracle.read(window))
        assert not oracle.read(tiles.window).valid_YX.all()  # the test looks at validity too
        assert source.seamless


@pytest.mark.parametrize("masked", [False, True], ids=["", "mask"])
def test_jpeg_differs_in_chroma_only(masked: bool, tmp_path: Path) -> None:
    scene = scene_of(write_cog(tmp_path / "scene.tif", masked=masked, COMPRESS="JPEG"))
    made = make_references(scene, [GRID], LOCAL)
    tiles = made.entry.grids[0]
    assert not tiles.exact
    with virtual_source(scene, tmp_path / "store") as source, gdal(scene) as oracle:
        for window in windows(tiles.window):
            found, expected = source.read(window), oracle.read(window)
            apart_BYX = np.abs(found.counts_BYX.astype(int) - expected.counts_BYX)
            assert luma_apart(found, expected) < 0.3
            assert apart_BYX.mean() < 1.0
            assert apart_BYX.max() <= 40
            if masked:  # the mask is its own image, and not JPEG
                np.testing.assert_array_equal(found.valid_YX, expected.valid_YX)
        assert masked == (not oracle.read(tiles.window).valid_YX[200:].all())


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_references_cannot_express_is_refused(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "scene.tif", **options)
    if options.get("sparse_ok"):
        path.unlink()
        _write_sparse(path)
    with pytest.raises(SceneError, match=reason) as caught:
        make_references(scene_of(path), [GRID], LOCAL)
    assert str(path) in str(caught.value)


def _write_sparse(path: Path) -> None:
    profile = {"driver": "GTiff", "width": 900, "height": 700, "count": 3, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    where = {"crs": "EPSG:32637", "transform": TRANSFORM, "compress": "deflate"}
    with rasterio.open(path, "w", **profile, **blocks, **where) as made:
        window = rasterio.windows.Window(0, 0, 256, 256)
        made.write(np.full((3, 256, 256), 9, np.uint8), window=window)


def test_other_pixels_than_the_grids_are_refused(tmp_path: Path) -> None:
    coarse = TRANSFORM @ Affine.scale(2.0)
    scene = scene_of(write_tiff(tmp_path / "scene.tif", transform=coarse, compress="deflate"))
    with pytest.raises(SceneError, match=r"pixels are not those of EPSG:32637 at 0.5 m"):
        make_references(scene, [GRID], LOCAL)
    neighbour = scene_of(write_tiff(tmp_path / "other.tif", epsg=32636, compress="deflate"))
    with pytest.raises(SceneError, match=r"EPSG:32637 at 0.5 m, EPSG:32638"):
        make_references(neighbour, [GRID, Grid(epsg=32638, gsd_m=0.5)], LOCAL)


def test_a_scene_serves_the_grids_it_has_the_pixels_of(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    other = Grid(epsg=32638, gsd_m=0.5)
    uri = stored_references(make_references(scene, [GRID, other], LOCAL), tmp_path / "store")
    factory = tile_source_factory(uri)
    assert isinstance(factory(scene, GRID), TileSource)
    assert isinstance(factory(scene, other), RasterioSource)


def test_the_file_is_not_copied(tmp_path: Path) -> None:
    path = write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE")
    made = make_references(scene_of(path), [GRID], LOCAL)
    blocks = [v for v in made.content["refs"].values() if isinstance(v, list)]
    assert len(blocks) == 3 * 4  # full resolution only: 700 × 900 in blocks of 256
    assert len(json.dumps(made.content)) < 3000
    assert made.content["templates"]["u"] == f"file://{path}"
    assert made.entry.grids[0].window.row == 11677287
    assert made.entry.grids[0].window.col == 633008


def test_anyone_can_open_the_references(tmp_path: Path) -> None:
    """fsspec, zarr and imagecodecs' codecs are enough."""
    import fsspec
    import zarr

    path = write_tiff(tmp_path / "scene.tif", compress="deflate")
    made = make_references(scene_of(path), [GRID], LOCAL)
    fs = fsspec.filesystem("reference", fo=made.content, remote_protocol="file", asynchronous=True)
    group = zarr.open_group(zarr.storage.FsspecStore(fs, read_only=True), mode="r", zarr_format=2)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(group["counts"][:].transpose(2, 0, 1), dataset.read())


def test_an_entry_of_an_older_version_is_refused(tmp_path: Path) -> None:
    """The scene itself is read, and an issue tells the user why."""
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    uri = stored_references(make_references(scene, [GRID], LOCAL), tmp_path / "store")
    path = tmp_path / "store" / "scene" / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"] |= {"version": 2, "layout": {"axes": "YXS", "bands": [0, 1, 2]}}
    path.write_text(json.dumps(content))
    (issue,) = survey_tiles(uri, [(scene, GRID)], LOCAL).issues
    assert "tiles have version 2, this program reads version 5" in issue.cause
    assert isinstance(tile_source_factory(uri)(scene, GRID), RasterioSource)


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "deflate", "predictor": 2},
        {"compress": "lzw", "predictor": 2, "interleave": "band"},
        {"compress": "packbits", "tiled": False, "blockysize": 70},
        {"compress": "lzma", "bands": 4, "alpha": "yes"},
        {"compress": "zstd", "nodata": 255},
        {"compress": "jpeg", "photometric": "ycbcr"},
    ],
    ids=str,
)
def test_references_are_those_that_kerchunk_makes(options: dict[str, Any], tmp_path: Path) -> None:
    """Blocks, shapes, codecs and filters are equal; libjpeg's colour spaces have other names."""
    from kerchunk.tiff import tiff_to_zarr

    path = write_tiff(tmp_path / "scene.tif", **options)
    refs = make_references(scene_of(path), [GRID], LOCAL).content["refs"]
    theirs = tiff_to_zarr(f"file://{path}")
    blocks = {key: value[1:] for key, value in theirs.items() if isinstance(value, list)}
    ours = {key.partition("/")[2]: v[1:] for key, v in refs.items() if isinstance(v, list)}
    assert ours == blocks
    array, other = json.loads(refs["counts/.zarray"]), json.loads(theirs[".zarray"])
    if options["compress"] == "jpeg":
        assert array["compressor"]["tables"] == other["compressor"]["tables"]
        array["compressor"] = other["compressor"]
    assert array == other
    dimensions = "_ARRAY_DIMENSIONS"
    assert (
        json.loads(refs["counts/.zattrs"])[dimensions] == json.loads(theirs[".zattrs"])[dimensions]
    )


@pytest.mark.parametrize("damage", ["cut off", "gone", "spoilt"])
def test_a_damaged_scene_is_a_read_error(damage: str, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", compress="deflate")
    scene = scene_of(path)
    uri = stored_references(make_references(scene, [GRID], LOCAL), tmp_path / "store")
    source = tile_source_factory(uri)(scene, GRID)
    held = make_references(scene, [GRID], LOCAL).entry.grids[0].window
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[: len(data) // 2] + b"\xff" * (len(data) - len(data) // 2))
    with source, pytest.raises(ReadError, match=r"tiles of scene scene \(rows .*cannot read tiles"):
        source.read(held)


def test_references_that_are_none_are_a_read_error(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    made = make_references(scene, [GRID], LOCAL)
    uri = stored_references(made, tmp_path / "store")
    (tmp_path / "store" / "scene" / "refs.json").write_text('{"version": 1, "refs": {}}')
    with pytest.raises(ReadError, match="not kerchunk references"):
        tile_source_factory(uri)(scene, GRID)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'quakestream\[tiles\]'"):
        make_references(scene, [GRID], LOCAL)


@pytest.mark.data
def test_real_scenes_within_the_bound(data_dir: Path) -> None:
    """JPEG with halved chroma differs by rounding in brightness, and by the decoder in bands."""
    paths = sorted(data_dir.glob("*2023*/imagery/*50cm.tif"))
    assert len(paths) == 16
    for path in paths[::5]:
        scene = scene_of(path)
        made = make_references(scene, [GRID], LOCAL)
        tiles = made.entry.grids[0]
        blocks = VirtualTiles(made.layout, made.content, LOCAL)
        with TileSource(scene, tiles, blocks) as source, gdal(scene) as oracle:
            found, expected = source.read(tiles.window), oracle.read(tiles.window)
        apart_BYX = np.abs(found.counts_BYX.astype(int) - expected.counts_BYX)
        assert luma_apart(found, expected) < 0.3, path.name
        assert apart_BYX.mean() < 2.5, path.name
        assert (found.valid_YX != expected.valid_YX).mean() < 1e-4, path.name
