"""A level of a block index as a Zarr array (version 2) of kerchunk references."""

import base64
import json
from typing import Any

from quakestream.raster.cog.codec_table import TRAITS, jpeg_colour_spaces
from quakestream.raster.cog.layout import CogLayout, Level


def array_references(name: str, level: Level, layout: CogLayout, fill: float) -> dict[str, Any]:
    """Metadata of an array, and a reference to each of its blocks.

    The template `u` stands for the scene's URI.

    Args:
        layout: gives the array its georeference.
        fill: count of the pixels that no block holds.
    """
    metadata = {
        "zarr_format": 2,
        "shape": _on_axes(level, level.height, level.width, level.samples),
        "chunks": _chunks(level),
        "dtype": "|u1",
        "fill_value": int(fill),
        "order": "C",
        "compressor": _compressor(level),
        "filters": _filters(level),
    }
    attributes = {
        "_ARRAY_DIMENSIONS": _axes(level),
        "crs_wkt": layout.crs_wkt,
        "transform": list(layout.transform)[:6],
    }
    references: dict[str, Any] = {
        f"{name}/.zarray": json.dumps(metadata),
        f"{name}/.zattrs": json.dumps(attributes),
    }
    blocks = zip(level.offset_N.tolist(), level.bytes_N.tolist(), strict=True)
    for index, (offset, size) in enumerate(blocks):
        line, col = divmod(index, level.across)
        plane, row = divmod(line, level.down)
        key = ".".join(map(str, _on_axes(level, row, col, plane)))
        references[f"{name}/{key}"] = ["{{u}}", offset, size]
    return references


def _axes(level: Level) -> list[str]:
    if level.planar:
        return ["S", "Y", "X"]
    return ["Y", "X", "S"] if level.samples > 1 else ["Y", "X"]


def _on_axes(level: Level, y: int, x: int, sample: int) -> list[int]:
    """Numbers in the order of the array's axes."""
    values = {"Y": y, "X": x, "S": sample}
    return [values[axis] for axis in _axes(level)]


def _chunks(level: Level) -> list[int]:
    return _on_axes(level, level.block_height, level.block_width, level.block_samples)


def _compressor(level: Level) -> dict[str, Any] | None:
    """numcodecs' configuration of the codec; None for plain blocks."""
    coding = level.coding
    name = TRAITS[coding.codec].zarr_id
    if not name:
        return None
    if coding.codec != "jpeg":
        return {"id": name}
    stored, shown = jpeg_colour_spaces(level.block_samples, ycbcr=coding.ycbcr)
    tables = base64.b64encode(coding.jpeg_tables).decode() if coding.jpeg_tables else None
    return {"id": name, "tables": tables, "colorspace_jpeg": stored, "colorspace_data": shown}


def _filters(level: Level) -> list[dict[str, Any]] | None:
    """numcodecs' configurations of what follows the codec."""
    if level.coding.bits == 1:
        unpack = {"id": "imagecodecs_packints", "dtype": "|u1", "bitspersample": 1}
        return [{**unpack, "bitorder": None, "runlen": level.block_width}]
    if level.coding.predictor == 2:
        axis = _axes(level).index("X") - len(_axes(level))
        shape = _chunks(level)
        return [
            {"id": "imagecodecs_delta", "axis": axis, "dist": 1, "dtype": "|u1", "shape": shape}
        ]
    return None
