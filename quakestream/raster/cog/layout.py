"""The block index of a scene: where its blocks lie and how they are coded, as one value.

A Parquet file holds one row per block (`image, offset, bytes`), image after image and blocks in
the order of the TIFF. Everything else is JSON in the schema's metadata.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from affine import Affine
from numpy.typing import NDArray

from quakestream.errors import SceneError, ShapeError
from quakestream.raster.cog.codec_table import Codec
from quakestream.raster.messages import counted
from quakestream.redaction import redacted

LAYOUT_VERSION = 2
"""Must be raised when the format or its meaning changes. Older indices are made again."""
_KEY = b"quakestream_cog"

Validity = Literal["black", "nodata", "alpha", "mask"]


class NotCoveredError(SceneError):
    """The hot path cannot read a scene, now or later. GDAL may read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How pixels became the bytes of a block."""

    codec: Codec
    dtype: str
    """numpy's name of the dtype, with the file's byte order: `|u1`, `<u2`, `>u2`, `<f4`, ..."""
    bits: int
    """Bits per sample: those of the dtype, or 1 for a packed mask."""
    predictor: int = 1
    """TIFF's predictor: 1 none, 2 horizontal difference, 3 floating point."""
    ycbcr: bool = False
    """True for JPEG blocks in brightness and chroma."""
    jpeg_tables: bytes = b""
    """Tables that all JPEG blocks share; empty where each block has its own."""
    lerc_inside: Codec = "none"
    """Codec that LERC blocks were packed with once more."""

    @property
    def exact(self) -> bool:
        """True if all decoders give the same pixels. Those of JPEG differ in rounding, chroma."""
        return self.codec != "jpeg"

    def attributes(self) -> dict[str, Any]:
        return {**asdict(self), "jpeg_tables": base64.b64encode(self.jpeg_tables).decode()}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "jpeg_tables": base64.b64decode(content["jpeg_tables"])})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Level:
    """One image of a file: the full resolution, an overview, or a mask of either.

    Raises:
        ShapeError: if the blocks do not cover the image.
    """

    height: int
    width: int
    block_height: int
    """Rows of a tile or a strip."""
    block_width: int
    """Columns of a tile; a strip's are the image's."""
    samples: int
    """Bands of the image."""
    planar: bool
    """True if each band has blocks of its own."""
    strips: bool
    """True if the blocks are strips, of which the last holds only the remaining rows."""
    coding: Coding
    offset_N: NDArray[np.int64]
    """Offset of each block in the file: row by row, and band after band where `planar`."""
    bytes_N: NDArray[np.int64]
    """Encoded bytes of each block; 0 where it is not in the file (sparse)."""

    def __post_init__(self) -> None:
        expected = self.across * self.down * self.planes
        if not len(self.offset_N) == len(self.bytes_N) == expected:
            raise ShapeError(
                "block index does not cover the image",
                f"{self.height} × {self.width} pixels in blocks of "
                f"{self.block_height} × {self.block_width}",
                expected=counted(expected, "block"),
                got=f"{counted(len(self.offset_N), 'offset')} and "
                f"{counted(len(self.bytes_N), 'size')}",
            )

    @property
    def across(self) -> int:
        """Blocks in a row."""
        return math.ceil(self.width / self.block_width)

    @property
    def down(self) -> int:
        """Blocks in a column."""
        return math.ceil(self.height / self.block_height)

    @property
    def planes(self) -> int:
        return self.samples if self.planar else 1

    @property
    def block_samples(self) -> int:
        """Bands that one block holds."""
        return 1 if self.planar else self.samples

    def block(self, plane: int, row: int, col: int) -> int:
        """Index of a block in `offset_N`."""
        return (plane * self.down + row) * self.across + col

    def shape_of(self, row: int) -> tuple[int, int, int]:
        """(rows, columns, bands) of a decoded block in a row of blocks."""
        rows = self.block_height
        if self.strips:
            rows = min(rows, self.height - row * self.block_height)
        return rows, self.block_width, self.block_samples

    def packed_shape(self, row: int) -> tuple[int, int, int]:
        """`shape_of`, but with the columns of a packed mask counted in bytes."""
        rows, cols, samples = self.shape_of(row)
        return rows, -(-cols // 8) if self.coding.bits == 1 else cols, samples

    def attributes(self) -> dict[str, Any]:
        names = ("height", "width", "block_height", "block_width", "samples", "planar", "strips")
        return {**{n: getattr(self, n) for n in names}, "coding": self.coding.attributes()}

    @classmethod
    def of(
        cls, content: Mapping[str, Any], offset_N: NDArray[np.int64], bytes_N: NDArray[np.int64]
    ) -> Self:
        coding = Coding.of(content["coding"])
        return cls(**{**content, "coding": coding}, offset_N=offset_N, bytes_N=bytes_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """Which samples are red, green and blue, and how a file marks pixels without ground."""

    bands: tuple[int, ...]
    """Indices (from 0) of red, green, blue."""
    validity: Validity
    """What marks pixels without ground. `black`, where nothing is declared: three counts of 0.
    `nodata`: `nodata` of the file or `fills` of the item, or both."""
    nodata: int | None = None
    nodata_bands: tuple[int, ...] = ()
    """Samples (from 0) that are compared with `nodata`: a pixel is valid if any of them differs."""
    alpha: int | None = None
    """Index (from 0) of the alpha sample; None unless `validity` is `alpha`."""
    fills: tuple[tuple[int, int, int], ...] = ()
    """Counts of red, green and blue that together mark pixels without ground as well. They come
    from the item."""

    @property
    def used(self) -> tuple[int, ...]:
        """Samples to decode: red, green and blue, then those that validity needs besides."""
        samples = [*self.bands, *self.nodata_bands]
        if self.alpha is not None:
            samples.append(self.alpha)
        return tuple(dict.fromkeys(samples))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        lists = ("bands", "nodata_bands")
        fills = tuple((r, g, b) for r, g, b in content["fills"])
        return cls(**{**content, **{n: tuple(content[n]) for n in lists}, "fills": fills})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CogLayout:
    """The block index of one version of a scene. It holds nothing open."""

    href: str
    etag: str
    crs_wkt: str
    """The scene's CRS; empty where the file names none."""
    transform: Affine
    """Maps (col, row) of the full resolution to the CRS."""
    levels: tuple[Level, ...]
    """The full resolution and its overviews, finest first."""
    masks: tuple[Level, ...] = ()
    """Internal masks, one for each level; empty where the file has none."""
    fill: float = 0.0
    """Count of blocks that are not in the file: nodata where it is declared, as in GDAL."""
    colour: Colour | None = None
    """None if the hot path cannot read the file as a colour image; `why_not` gives the reason."""
    why_not: str = ""
    bands: str = ""
    """Token of the bands that `colour` was made for; empty for plain red, green and blue."""

    @property
    def key(self) -> tuple[str, str]:
        return self.href, self.etag

    def to_parquet(self) -> bytes:
        """The layout as a Parquet file. Its href is redacted: who reads it knows the scene."""
        images = (*self.levels, *self.masks)
        image_N = np.repeat(np.arange(len(images)), [len(i.offset_N) for i in images])
        content = {
            "version": LAYOUT_VERSION,
            "href": redacted(self.href),
            "etag": self.etag,
            "crs": self.crs_wkt,
            "transform": list(self.transform)[:6],
            "levels": [level.attributes() for level in self.levels],
            "masks": [mask.attributes() for mask in self.masks],
            "fill": None if math.isnan(self.fill) else self.fill,
            "colour": None if self.colour is None else asdict(self.colour),
            "why_not": self.why_not,
            "bands": self.bands,
        }
        table = pa.table(
            {
                "image": image_N.astype(np.int16),
                "offset": np.concatenate([i.offset_N for i in images]),
                "bytes": np.concatenate([i.bytes_N for i in images]),
            }
        ).replace_schema_metadata({_KEY: json.dumps(content, allow_nan=False)})
        file = BytesIO()
        pq.write_table(table, file, compression="zstd")
        return file.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> Self:
        """Reads the layout from a Parquet file.

        Raises:
            ShapeError: if the file is not a block index, or of another version.
        """
        try:
            table = pq.read_table(BytesIO(data))
            content = json.loads((table.schema.metadata or {})[_KEY])
            if content["version"] != LAYOUT_VERSION:
                raise ShapeError(
                    "block index has another version",
                    expected=str(LAYOUT_VERSION),
                    got=str(content["version"]),
                )
            return cls._of(content, table)
        except (pa.ArrowException, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ShapeError(f"not a block index: {type(error).__name__}: {error}") from error

    @classmethod
    def _of(cls, content: Mapping[str, Any], table: pa.Table) -> Self:
        image_N = table["image"].to_numpy()
        offset_N, bytes_N = (table[name].to_numpy() for name in ("offset", "bytes"))
        images = []
        for n, attributes in enumerate([*content["levels"], *content["masks"]]):
            first, last = np.searchsorted(image_N, [n, n + 1])
            images.append(Level.of(attributes, offset_N[first:last], bytes_N[first:last]))
        levels = len(content["levels"])
        colour = content["colour"]
        return cls(
            href=content["href"],
            etag=content["etag"],
            crs_wkt=content["crs"],
            transform=Affine(*content["transform"]),
            levels=tuple(images[:levels]),
            masks=tuple(images[levels:]),
            fill=math.nan if content["fill"] is None else content["fill"],
            colour=None if colour is None else Colour.of(colour),
            why_not=content["why_not"],
            bands=content["bands"],
        )
