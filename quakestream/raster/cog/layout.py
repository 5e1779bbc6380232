"""Where a scene's blocks lie and how they are coded: a value that is made once and travels.

As Parquet: one row a block (`image, offset, bytes`), images one after the other and
blocks in the order of the TIFF; everything else is JSON in the schema's metadata.
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

LAYOUT_VERSION = 1
"""Raised whenever what is written or what it means changes: older ones are made anew."""
_KEY = b"quakestream_cog"

Codec = Literal["none", "jpeg", "deflate", "lzw", "zstd", "lerc", "webp", "lzma", "packbits"]
Validity = Literal["black", "nodata", "alpha", "mask"]


class NotCoveredError(SceneError):
    """The hot path does not read a scene, and never will: GDAL may."""


def refused(href: str, reason: str) -> NotCoveredError:
    return NotCoveredError(f"{href} is read through GDAL: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How pixels became the bytes of a block."""

    codec: Codec
    dtype: str
    """As numpy writes it, with the file's byte order: `|u1`, `<u2`, `>u2`, `<f4`, ..."""
    bits: int
    """Per sample: those of the dtype, or 1 for a packed mask."""
    predictor: int = 1
    """1 none, 2 horizontal difference, 3 floating point."""
    ycbcr: bool = False
    """JPEG whose colours were turned to brightness and chroma."""
    jpeg_tables: bytes = b""
    """Tables all JPEG blocks share; empty where each has its own."""
    lerc_inside: Codec = "none"
    """What LERC blocks were compressed with once more."""

    @property
    def exact(self) -> bool:
        """True if every decoder gives the same pixels. JPEG's differ in rounding and chroma."""
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
    """True if the last block of a column holds only the rows that are left."""
    coding: Coding
    offset_N: NDArray[np.int64]
    """Of each block, bytes: row by row of blocks, band after band where `planar`."""
    bytes_N: NDArray[np.int64]
    """Encoded size of each block; 0 where it is not in the file (sparse)."""

    def __post_init__(self) -> None:
        expected = self.across * self.down * self.planes
        if not len(self.offset_N) == len(self.bytes_N) == expected:
            raise ShapeError(
                f"an image of {self.height} × {self.width} in blocks of {self.block_height} × "
                f"{self.block_width} has {expected} blocks, got {len(self.offset_N)} offsets "
                f"and {len(self.bytes_N)} sizes"
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
        """`shape_of`, with the columns of a packed mask in bytes."""
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
    """Which samples are red, green and blue, and what tells ground from nothing."""

    bands: tuple[int, ...]
    """Indices (from 0) of red, green, blue."""
    validity: Validity
    """`black` where nothing is declared: a pixel whose three counts are 0 was not seen."""
    nodata: int | None = None
    nodata_bands: tuple[int, ...] = ()
    """Samples (from 0) of which any must differ from `nodata` for a pixel to be valid."""
    alpha: int | None = None
    """Index (from 0) of the alpha sample."""

    @property
    def used(self) -> tuple[int, ...]:
        """Samples that must be decoded: red, green, blue, then what validity needs more."""
        wanted = [*self.bands, *self.nodata_bands]
        if self.alpha is not None:
            wanted.append(self.alpha)
        return tuple(dict.fromkeys(wanted))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        lists = ("bands", "nodata_bands")
        return cls(**{**content, **{name: tuple(content[name]) for name in lists}})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CogLayout:
    """The block index of one version of a scene. Nothing is open."""

    href: str
    etag: str
    crs_wkt: str
    """Empty where the file names none."""
    transform: Affine
    """Pixel (col, row) of the full resolution to the CRS."""
    levels: tuple[Level, ...]
    """Finest first."""
    masks: tuple[Level, ...] = ()
    """Internal masks, one for each level; none where the file has none."""
    fill: float = 0.0
    """What blocks that are not in the file hold: nodata where it is declared, as GDAL has it."""
    colour: Colour | None = None
    """None where the file is not a colour image the hot path can show; `why_not` says why."""
    why_not: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.href, self.etag

    def to_parquet(self) -> bytes:
        """The layout as a Parquet file."""
        images = (*self.levels, *self.masks)
        image_N = np.repeat(np.arange(len(images)), [len(i.offset_N) for i in images])
        content = {
            "version": LAYOUT_VERSION,
            "href": self.href,
            "etag": self.etag,
            "crs": self.crs_wkt,
            "transform": list(self.transform)[:6],
            "levels": [level.attributes() for level in self.levels],
            "masks": [mask.attributes() for mask in self.masks],
            "fill": None if math.isnan(self.fill) else self.fill,
            "colour": None if self.colour is None else asdict(self.colour),
            "why_not": self.why_not,
        }
        table = pa.table(
            {
                "image": image_N.astype(np.int16),
                "offset": np.concatenate([i.offset_N for i in images]),
                "bytes": np.concatenate([i.bytes_N for i in images]),
            }
        ).replace_schema_metadata({_KEY: json.dumps(content, allow_nan=False)})
        made = BytesIO()
        pq.write_table(table, made, compression="zstd")
        return made.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> Self:
        """The layout of a Parquet file.

        Raises:
            ShapeError: if it is not one, or of another version.
        """
        try:
            table = pq.read_table(BytesIO(data))
            content = json.loads((table.schema.metadata or {})[_KEY])
            if content["version"] != LAYOUT_VERSION:
                raise ShapeError(
                    f"a block index of version {content['version']}, takes {LAYOUT_VERSION}"
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
        )
