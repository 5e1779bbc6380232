"""Counts that agree with their nouns, and causes without the name of their object."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.errors import RasterioError

from quakestream.errors import SceneError, StorageError
from quakestream.raster.datasets import open_dataset
from quakestream.raster.messages import counted, plain, reason_of, root_cause
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import write_scene


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "byte") for n in (0, 1, 2, 1024)] == [
        "0 bytes",
        "1 byte",
        "2 bytes",
        "1,024 bytes",
    ]


def test_a_reason_leaves_out_where() -> None:
    error = StorageError("cannot read: timed out", "s3://b/a.tif", remedy="run again")
    assert reason_of(error) == "cannot read: timed out; run again"
    assert reason_of(ValueError("odd")) == "odd"
    assert reason_of(TimeoutError()) == "TimeoutError"


def test_the_innermost_cause_says_what_happened() -> None:
    inner, outer = OSError("No space left"), RuntimeError("see above")
    outer.__cause__ = inner
    assert root_cause(outer) == "No space left"
    assert root_cause(inner) == "No space left"


SIDE_PX, BLOCK_PX = 256, 128


def cause_of(path: Path) -> str:
    with (
        pytest.raises((RasterioError, SceneError)) as caught,
        open_dataset(str(path), StorageOptions()) as dataset,
    ):
        dataset.read()
    return root_cause(caught.value)


@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("none", ""),
        ("deflate", "deflate"),
        ("lzw", "LZW"),
        ("zstd", "zstd"),
        ("webp", "WebP"),
        ("lerc", "LERC"),
        ("lzma", "LZMA"),
        ("packbits", "PackBits"),
        ("jpeg", "JPEG"),
    ],
)
def test_what_libtiff_says_of_a_cut_or_spoilt_file_is_put_in_plain_words(
    tmp_path: Path, codec: str, name: str, tiled: bool
) -> None:
    path = tmp_path / "scene.tif"
    counts_BYX = np.random.default_rng(0).integers(1, 255, (3, SIDE_PX, SIDE_PX), np.uint8)
    options: dict[str, Any] = {"compress": codec, "tiled": tiled, "interleave": "pixel"}
    if not tiled:
        options |= {"blockxsize": SIDE_PX, "blockysize": 16}
    write_scene(path, counts_BYX, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert cause_of(path) == "block truncated: 100 bytes missing"
    if name:
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes(6000) + whole[middle + 6000 :])
        assert cause_of(path) == f"block is damaged: its {name} data cannot be decoded"
    path.write_bytes(whole[:4])
    assert cause_of(path) == "file is cut: its header is not whole"
    path.write_bytes(whole[:40])
    assert cause_of(path) == "file is cut: its directory at byte 8 is not whole"


def test_other_messages_stay() -> None:
    for text in ("No space left", "HTTP response code: 403", "x.tif: no CRS", "Decode: 3"):
        assert plain(text) == text
