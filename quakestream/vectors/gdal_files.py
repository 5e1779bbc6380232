"""Reads the formats that GDAL knows, each by its own driver."""

import codecs
import json
import mmap
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyogrio

from quakestream.errors import RequestError
from quakestream.storage.limits import DOCUMENT
from quakestream.vectors import contents
from quakestream.vectors.contents import parsed_json
from quakestream.vectors.datasets import DataSet
from quakestream.vectors.indexed import read_indexed
from quakestream.vectors.selection import FID, Attributes, Box

# Integers stay integers where some are missing: long ids lose digits as floats.
EXACT = {"integer_object_nulls": True}
_ONE_LAYER = (
    *(contents.GEOJSON, contents.GEOJSON_LINES, contents.SHAPEFILE, contents.FLATGEOBUF),
    contents.MAPINFO,
)
_OPTIONS: dict[str, dict[str, Any]] = {"GML": {"DOWNLOAD_SCHEMA": "NO"}}
"""GML would ask the address in its header for a schema."""
_CODE_PAGES = {
    0x26: "cp866", 0x64: "cp852", 0x65: "cp866", 0x6B: "cp857", 0x78: "cp950", 0x79: "cp949",
    0x7A: "cp936", 0x7B: "cp932", 0x7C: "cp874", 0xC8: "cp1250", 0xC9: "cp1251", 0xCA: "cp1254",
    0xCB: "cp1253",
}  # fmt: skip
"""Code pages by the language byte of a .dbf header (those whose meaning is not in doubt)."""


def layer_names(source: DataSet) -> list[str]:
    """Layers with geometry, without empty ones where others have features.

    The one layer of kinds that have no more is named "": to ask GDAL for its name is to read
    the whole file.

    Raises:
        pyogrio.errors.DataSourceError: if GDAL cannot read it.
    """
    if source.format in _ONE_LAYER:
        return [""]
    with _quiet(source):
        names = [str(n) for n, kind in pyogrio.list_layers(source.path) if kind is not None]
        if len(names) < 2:
            return names
        counts = [pyogrio.read_info(source.path, layer=n)["features"] for n in names]
    filled = [name for name, count in zip(names, counts, strict=True) if count != 0]
    return filled or names[:1]


def read_layer(
    source: DataSet, name: str, attributes: Attributes, near: Box | None = None
) -> gpd.GeoDataFrame:
    """Features of a layer in file order, curves as lines; geometries that cannot be decoded are
    None. The CRS is None where the file has none.

    Args:
        near: features apart from this box may be left out, and are counted in `attrs`. A
            FlatGeobuf or GeoPackage with a spatial index finds the others without reading it all.

    Raises:
        RequestError: if the layer is empty, lacks a column, its text cannot be decoded, or
            another driver opens the file than its kind's.
    """
    path, options = source.path, _OPTIONS.get(source.format.name, {})
    with _quiet(source):
        info = pyogrio.read_info(path, layer=name or None, force_feature_count=True, **options)
        if info["driver"] not in source.format.drivers:
            raise RequestError("cannot be read", "", source.format.name, info["driver"])
        if info["features"] == 0:  # before the check of columns, which an empty GeoJSON lacks
            raise RequestError("holds no features", "", "features with geometry")
        fields = [str(field) for field in info["fields"]]
        ids = _feature_ids(source, fields, attributes)
        columns = attributes.among([*fields, *ids])
        with_fid = attributes.wants_fid(fields)
        request = {
            "layer": name or None,
            "columns": [c for c in columns if c in fields],
            "fid_as_index": with_fid,
            "encoding": _encoding(source),
            **options,
        }
        nearby = None
        if near is not None and not ids:
            nearby = read_indexed(source, info, near, partial(_read, path), request)
        frame = _read(path, request) if nearby is None else nearby
    if with_fid:
        frame[FID] = frame.index.to_numpy()
    for column, values in ids.items():
        if column in columns:
            frame[column] = values
    return frame.reset_index(drop=True)


@contextmanager
def _quiet(source: DataSet) -> Iterator[None]:
    """GDAL's remarks on a file are no news to the user; a missing .shx is made from the .shp."""
    restore = source.format is contents.SHAPEFILE and not source.path.with_suffix(".shx").exists()
    if restore:
        pyogrio.set_gdal_config_options({"SHAPE_RESTORE_SHX": True})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if restore:
            pyogrio.set_gdal_config_options({"SHAPE_RESTORE_SHX": None})


def _read(path: Path, request: dict[str, Any]) -> gpd.GeoDataFrame:
    common = {**request, "force_2d": True, "on_invalid": "ignore"}
    exact = {"use_arrow": True, "arrow_to_pandas_kwargs": EXACT}
    try:
        return _checked_text(pyogrio.read_dataframe(path, **common, **exact), path)
    except NotImplementedError:  # curves: Arrow hands them over as they are
        linear = pyogrio.read_dataframe(path, **{**common, "columns": []}, use_arrow=False)
        if not request["columns"]:
            return linear
        table = pyogrio.read_dataframe(path, **request, read_geometry=False, **exact)
        table = _checked_text(table, path)
        return gpd.GeoDataFrame(table, geometry=linear.geometry.array, crs=linear.crs)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def _checked_text(frame: Any, path: Path) -> Any:
    """The frame. Arrow decodes text when it is looked at, which is too late for an error."""
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.StringDtype):
            try:
                pa.array(frame[name].array).validate(full=True)
            except pa.ArrowException as error:
                raise not_utf8(path, error) from error
    return frame


def not_utf8(path: Path, error: Exception) -> RequestError:
    """The error for text in another encoding than the file says."""
    if path.suffix.lower() == ".shp":
        said = "its .cpg says so" if path.with_suffix(".cpg").exists() else "it has no .cpg"
        remedy = (
            "write the right encoding into the .cpg (1254 for Turkish, 1252 for western Europe, "
            "1256 for Arabic), or save it as GeoPackage"
        )
    else:
        said, remedy = "text of this format is", "save it as UTF-8 or as GeoPackage"
    return RequestError("its text is not UTF-8", "", f"UTF-8, as {said}", first_line(error), remedy)


def first_line(error: Exception) -> str:
    """What a library says of a file, short enough for one line."""
    return str(error).strip().partition("\n")[0][:160]


def _encoding(source: DataSet) -> str | None:
    """The encoding of a shapefile's text where it is certain and GDAL would take another.

    Without a .cpg, GDAL takes Latin-1 unless the .dbf names a code page; many programs write
    UTF-8. With a .cpg that is wrong, the code page of the .dbf counts.
    """
    table = source.path.with_suffix(".dbf")
    if source.format is not contents.SHAPEFILE or not table.exists():
        return None
    utf8 = _is_utf8(table)
    if not source.path.with_suffix(".cpg").exists():
        return "UTF-8" if utf8 else None
    says = source.path.with_suffix(".cpg").read_text("latin-1")[:40].strip().upper()
    if says.replace("-", "") not in ("UTF8", "65001") or utf8:
        return None
    with table.open("rb") as file:
        language = file.read(30)[29:]
    return _CODE_PAGES.get(language[0]) if language else None


def _is_utf8(table: Path) -> bool:
    """True if the text of a .dbf is UTF-8 and not only ASCII."""
    with table.open("rb") as file:
        rows_begin = int.from_bytes(file.read(10)[8:10], "little")
    return text_is_utf8(table, rows_begin) == "beyond ASCII"


def text_is_utf8(path: Path, start: int = 0) -> Literal["no", "ASCII", "beyond ASCII"]:
    """Whether a file is text in UTF-8 from a byte on."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    beyond = False
    with path.open("rb") as file:
        file.seek(start)
        try:
            while chunk := file.read(1 << 20):
                beyond |= not decoder.decode(chunk).isascii()
        except UnicodeDecodeError:
            return "no"
    return "beyond ASCII" if beyond else "ASCII"


def _feature_ids(
    source: DataSet, fields: list[str], attributes: Attributes
) -> dict[str, list[Any]]:
    """The `id` members of GeoJSON features. GDAL makes no column of numeric ones."""
    wanted = {*attributes.required, *attributes.optional}
    json_kinds = (contents.GEOJSON, contents.GEOJSON_LINES)
    if "id" not in wanted or "id" in fields or source.format not in json_kinds:
        return {}
    path = source.path
    if path.stat().st_size > DOCUMENT.most_bytes or not _mentions_ids(path):
        return {}
    ids: list[Any]
    if source.format is contents.GEOJSON:
        document = parsed_json(path.read_bytes())
        features = document.get("features", [document]) if isinstance(document, dict) else []
    else:
        with path.open("rb") as file:
            features = [parsed_json(line.strip(b"\x1e \r\n")) for line in file if line.strip()]
    ids = [f.get("id") if isinstance(f, dict) else None for f in features]
    return {"id": ids} if any(i is not None for i in ids) else {}


def _mentions_ids(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return re.search(rb'"id"\s*:', text) is not None


def expanded_lines(path: Path) -> Path:
    """GeoJSON lines in which each is a feature; collections on a line are taken apart.

    Raises:
        RequestError: if a line is not JSON.
    """
    with path.open("rb") as file:
        if not re.search(rb'"type"\s*:\s*"FeatureCollection"', file.read(contents.HEAD_BYTES)):
            return path
        file.seek(0)
        target = path.with_name("expanded.geojsonl")
        with target.open("w") as out:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf").strip(b"\x1e \t\r\n")
                if not text:
                    continue
                value = parsed_json(text)
                if not isinstance(value, dict):
                    raise RequestError("is damaged", "", "JSON on every line", f"line {number}")
                is_many = value.get("type") == "FeatureCollection"
                for feature in value.get("features", []) if is_many else [value]:
                    out.write(json.dumps(feature) + "\n")
    return target
