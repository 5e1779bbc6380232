"""The choice between the hot path and GDAL, the cache of block indices, and broken blocks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from quakestream.domain import Grid, Scene
from quakestream.errors import (
    ReadError,
    SceneError,
    ShapeError,
    StorageError,
)
from quakestream.raster.cog import (
    COPIED,
    REFUSED,
    CogOpener,
    LayoutCache,
    header,
    noted_reasons,
    open_source,
)
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.layout import CogLayout
from quakestream.raster.cog.layouts import object_name
from quakestream.raster.cog.source import CogSource
from quakestream.raster.source import RasterioSource
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import MissingObjectError, open_store
from quakestream.storage.ranges import Fetcher, FetchPolicy
from tests.helpers.cog_case import hot
from tests.helpers.servers import web_server
from tests.helpers.tiles_case import (
    GRID,
    LOCAL,
    TRANSFORM,
    assert_same,
    gdal,
    scene_of,
    windows,
    write_cog,
    write_tiff,
)

NOT_COVERED: dict[str, tuple[dict[str, Any], str]] = {
    "mask beside it": ({"masked": True, "sidecar": True}, "a .msk beside it"),
    "several nodata values": ({"sidecar_nodata": (1, 2, 3)}, "nodata is not one count"),
    "half a count": ({"sidecar_nodata": (7.5, 7.5, 7.5)}, "nodata is no count of uint8"),
    "CMYK": ({"bands": 4, "photometric": "cmyk"}, "of 4 samples"),
    "LERC, four bands": ({"compress": "lerc", "bands": 4}, "of 4 samples"),
}


def opened(scene: Scene, grid: Grid = GRID) -> tuple[object, str]:
    with CogOpener() as opener:
        return opener(scene, grid), opener.refusals.get(scene.href, "")


def write_sidecar(path: Path, nodata: tuple[float, ...]) -> None:
    """Writes an .aux.xml with each band's nodata value."""
    bands = "".join(
        f'<PAMRasterBand band="{n}"><NoDataValue>{v}</NoDataValue></PAMRasterBand>'
        for n, v in enumerate(nodata, 1)
    )
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


@pytest.mark.parametrize(("options", "reason"), NOT_COVERED.values(), ids=NOT_COVERED)
def test_what_is_not_covered_is_read_through_gdal(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "scene.tif"
    values = options.get("sidecar_nodata", ())
    write_tiff(path, **{k: v for k, v in options.items() if k != "sidecar_nodata"})
    if values:
        write_sidecar(path, values)
    scene = scene_of(path)
    source, why = opened(scene)
    assert isinstance(source, RasterioSource)
    assert reason in why
    with source, gdal(scene) as oracle:
        window = extent_on(scene, GRID)
        assert_same(source.read(window), oracle.read(window))


def test_a_sidecar_changes_what_is_valid(tmp_path: Path) -> None:
    """Validity comes from GDAL, since an .aux.xml may declare it."""
    path = write_tiff(tmp_path / "scene.tif", compress="deflate")
    scene = scene_of(path)
    write_sidecar(path, (120, 120, 120))
    with CogOpener() as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        window = extent_on(scene, GRID)
        assert_same(source.read(window), oracle.read(window))
        assert oracle.read(window).valid_YX[:90, :70].all()  # black, but not nodata


def test_files_that_are_no_tiff_or_no_colour(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    profile = {"driver": "PNG", "width": 64, "height": 64, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, crs="EPSG:32637", transform=TRANSFORM) as made:
        made.write(np.ones((3, 64, 64), np.uint8))
    scene = scene_of(path)
    source, why = opened(scene)
    assert isinstance(source, RasterioSource)
    assert "PNG" in why
    grey = write_tiff(tmp_path / "grey.tif", bands=1, photometric="minisblack")
    source, why = opened(replace(scene, href=str(grey), etag=""))
    assert isinstance(source, RasterioSource)
    assert "fewer bands than in its plan: it was changed: got 1 band" in why


def test_counts_are_those_the_scene_was_probed_with(tmp_path: Path) -> None:
    wide = scene_of(write_tiff(tmp_path / "wide.tif", dtype="uint16", compress="deflate"))
    visual = scene_of(write_tiff(tmp_path / "visual.tif", compress="deflate"))
    for scene, other, bits in ((wide, visual, 8), (visual, wide, 16)):
        changed = replace(other, href=scene.href, etag="")
        source, why = opened(changed)
        assert isinstance(source, RasterioSource)
        assert f"expected uint{bits}" in why
        with pytest.raises(SceneError, match=r"than in its plan.*plan again"), source:
            pass


def test_a_scene_nobody_can_open_is_an_error(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif"))
    Path(scene.href).unlink()
    with pytest.raises(SceneError, match=r"scene\.tif: cannot open"):
        open_source(scene, GRID)
    (tmp_path / "scene.tif").write_text("<html>Please log in</html>")
    with pytest.raises(SceneError, match=r"cannot open: not a raster of a supported format"):
        open_source(scene, GRID)


def test_an_index_is_made_once_for_each_version(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", compress="deflate")
    scene = scene_of(path)
    store = open_store(str(tmp_path / "indices"))
    first = LayoutCache(store).layout(scene, LOCAL)
    assert store.list() == [object_name(scene.href, scene.etag)]
    again = LayoutCache(store)
    path.rename(tmp_path / "gone.tif")  # opening the file would fail now
    known = again.layout(scene, LOCAL)
    assert known is again.layout(scene, LOCAL)
    assert known.key == first.key == (scene.href, scene.etag)
    np.testing.assert_array_equal(known.levels[0].offset_N, first.levels[0].offset_N)
    with pytest.raises(MissingObjectError):
        again.layout(replace(scene, etag="another version"), LOCAL)
    store.put(object_name(scene.href, scene.etag), b"half an index")
    with pytest.raises(MissingObjectError):
        LayoutCache(store).layout(scene, LOCAL)


def test_an_index_survives_parquet(tmp_path: Path) -> None:
    path = write_cog(tmp_path / "scene.tif", masked=True, COMPRESS="JPEG")
    made = make_layout(str(path), LOCAL, "v1")
    read = CogLayout.from_parquet(made.to_parquet())
    for name in ("href", "etag", "crs_wkt", "transform", "fill", "colour", "why_not"):
        assert getattr(read, name) == getattr(made, name)
    assert len(read.levels) == len(read.masks) == 3
    for ours, theirs in zip((*read.levels, *read.masks), (*made.levels, *made.masks), strict=True):
        assert ours.attributes() == theirs.attributes()
        np.testing.assert_array_equal(ours.offset_N, theirs.offset_N)
        np.testing.assert_array_equal(ours.bytes_N, theirs.bytes_N)
    assert read.levels[0].coding.jpeg_tables
    with pytest.raises(ShapeError, match="not a block index"):
        CogLayout.from_parquet(b"PAR1")
    with pytest.raises(ShapeError, match="expected 12 blocks, got 11"):
        replace(made.levels[0], offset_N=made.levels[0].offset_N[1:])


@pytest.mark.parametrize("codec", ["deflate", "zstd", "lzw", "webp", "lerc", "jpeg", "none"])
@pytest.mark.parametrize("damage", ["cut off", "spoilt"])
def test_a_broken_block_is_named(codec: str, damage: str, tmp_path: Path) -> None:
    """The error names the block, and its neighbours are read."""
    how = {"photometric": "ycbcr"} if codec == "jpeg" else {}
    path = write_tiff(tmp_path / "scene.tif", compress=codec, **how)
    scene = scene_of(path)
    level = make_layout(scene.href, LOCAL).levels[0]
    held = extent_on(scene, GRID)
    block = 2 * level.across + 3  # the last block of the file
    start, size = int(level.offset_N[block]), int(level.bytes_N[block])
    assert start + size == path.stat().st_size
    data = path.read_bytes()
    with CogOpener() as opener, hot(scene, opener, GRID) as source:
        if damage == "cut off":
            path.write_bytes(data[: start + size // 2])
        else:
            path.write_bytes(data[:start] + b"\x11" * size)
        if codec == "none" and damage == "spoilt":
            return  # any bytes are pixels
        with pytest.raises(ReadError, match=r"\(scene scene, block 2,3\): ") as caught:
            source.read(held)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        beside = replace(held, height=512)
        path_ok = write_tiff(tmp_path / "ok.tif", compress=codec, **how)
        with hot(replace(scene, href=str(path_ok), etag=""), opener, GRID) as whole:
            assert_same(source.read(beside), whole.read(beside))


def test_half_a_jpeg_is_not_a_grey_one(tmp_path: Path) -> None:
    """libjpeg fills the missing part and only warns, and GDAL shows it."""
    path = write_tiff(tmp_path / "scene.tif", compress="jpeg", photometric="ycbcr")
    scene = scene_of(path)
    level = make_layout(scene.href, LOCAL).levels[0]
    start, size = int(level.offset_N[4]), int(level.bytes_N[4])
    data = bytearray(path.read_bytes())
    data[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with CogOpener() as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        assert oracle.read(extent_on(scene, GRID)).valid_YX.any()
        with pytest.raises(ReadError, match=r"block 1,0\): JPEG data has no end"):
            source.read(extent_on(scene, GRID))


def test_a_broken_mask_or_overview_says_so(tmp_path: Path) -> None:
    path = write_cog(tmp_path / "scene.tif", masked=True, COMPRESS="DEFLATE")
    scene = scene_of(path)
    layout = make_layout(scene.href, LOCAL)
    coarse = Grid(epsg=32637, gsd_m=1.0)
    data = path.read_bytes()
    for level, words in (
        (layout.masks[0], r"block 0,0 of the mask\)"),
        (layout.levels[1], r"block 0,0 of overview 1\)"),
        (layout.masks[1], r"block 0,0 of the mask of overview 1\)"),
    ):
        start, size = int(level.offset_N[0]), int(level.bytes_N[0])
        path.write_bytes(data[:start] + b"\xff" * size + data[start + size :])
        grid = coarse if "overview" in words else GRID
        with CogSource(scene, grid, layout) as source, pytest.raises(ReadError, match=words):
            source.read(extent_on(scene, grid))


class RefusingFetcher:
    """A fetcher whose store raises a given cause."""

    policy = FetchPolicy()

    def __init__(self, cause: Exception) -> None:
        self._cause = cause

    def size(self) -> int:
        raise StorageError("cannot look up the scene") from self._cause

    def fetch(self, start: int, length: int) -> bytes:
        raise StorageError("cannot read the scene") from self._cause

    def close(self) -> None:
        """Nothing is open."""


_: type[Fetcher] = RefusingFetcher


def test_a_store_that_is_away_is_an_error_and_not_a_reason_for_another_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The readers differ in the last bits of JPEG, so the choice must not depend on the network."""
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="jpeg", photometric="ycbcr"))
    with CogOpener() as opener:
        with monkeypatch.context() as patch:
            patch.setattr(
                header, "open_fetcher", lambda *_: RefusingFetcher(TimeoutError("timed out"))
            )
            with pytest.raises(SceneError, match=r"scene\.tif: cannot look up"):
                opener(scene, GRID)
        assert opener.refusals == {}
        assert isinstance(opener(scene, GRID), CogSource)  # it is back


def test_a_server_without_ranges_shows_the_pixels_that_others_show(tmp_path: Path) -> None:
    """GDAL decodes JPEG otherwise: the same scene had other verdicts on another server."""
    path = write_tiff(tmp_path / "scene.tif", compress="jpeg", photometric="ycbcr")
    store = open_store(str(tmp_path / "indices"))
    with (
        web_server(tmp_path, ranges=False) as server,
        CogOpener(layouts=LayoutCache(store)) as opener,
    ):
        scene = scene_of(f"{server.url}/scene.tif")
        with opener(scene, GRID) as there, opener(scene_of(path), GRID) as here:
            assert isinstance(there, CogSource)
            for window in windows(extent_on(scene, GRID)):
                assert_same(there.read(window), here.read(window))
        assert server.sent["/scene.tif"] >= path.stat().st_size
    assert noted_reasons(store, COPIED) == {"scene": "the server ignores byte ranges"}


def test_a_store_that_lets_only_gdal_in_leaves_gdal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    store = open_store(str(tmp_path / "indices"))
    monkeypatch.setattr(header, "open_fetcher", lambda *_: RefusingFetcher(PermissionError("403")))
    with CogOpener(layouts=LayoutCache(store)) as opener:
        assert isinstance(opener(scene, GRID), RasterioSource)
        assert "cannot look up" in opener.refusals[scene.href]
    assert noted_reasons(store, REFUSED) == {"scene": opener.refusals[scene.href]}


def test_an_index_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    (tmp_path / "indices").write_text("a file where the folder should be")
    with CogOpener(layouts=LayoutCache(open_store(str(tmp_path / "indices")))) as opener:
        assert isinstance(opener(scene, GRID), CogSource)
