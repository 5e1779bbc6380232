"""Field types of the run file: places, times and intervals.

A validator raises `ConfigError`, whose `where` is a key below the field, if any.
"""

import datetime as dt
import math
import os
import posixpath
import re
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from quakestream.errors import ConfigError

SCHEMES = ("s3", "gs", "az", "http", "https", "memory", "file")
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_WKT = re.compile(
    r"^\s*(SRID=\d+;\s*)?(MULTI)?(POLYGON|POINT|LINESTRING)\s*[ZM]*\s*(\(|EMPTY)"
    r"|^\s*(SRID=\d+;\s*)?GEOMETRYCOLLECTION\s*[ZM]*\s*(\(|EMPTY)",
    re.IGNORECASE,
)
_NUMBER = r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*"
_BBOX = re.compile(rf"^{_NUMBER}(,{_NUMBER}){{3}}$")

EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


def is_uri(text: str) -> bool:
    """True for `scheme://...`, False for a path of this machine."""
    return _URI.match(text) is not None


def folder_of(place: str) -> str:
    """The folder that holds a path or a URI."""
    if not is_uri(place):
        return os.path.dirname(os.path.abspath(os.path.expanduser(place)))
    scheme, rest = place.split("://", 1)
    return f"{scheme}://{posixpath.dirname(rest)}"


def resolve(place: str, folder: str) -> str:
    """An absolute path or a URI; a relative place is relative to `folder`."""
    if is_uri(place):
        return place
    if is_uri(folder):
        if place.startswith("/"):
            return place
        scheme, rest = folder.split("://", 1)
        return f"{scheme}://{posixpath.normpath(posixpath.join(rest, place))}"
    return os.path.normpath(os.path.join(folder, os.path.expanduser(place)))


def checked_place(value: str, info: ValidationInfo) -> str:
    """A place, resolved against the `folder` of the validation context if there is one.

    Raises:
        ConfigError: if it is empty, has an unknown scheme, or holds a password.
    """
    if not value.strip():
        raise ConfigError("wrong value", expected="a path or URI", got="empty text")
    match = _URI.match(value)
    if match:
        scheme = match.group(1).lower()
        if _ALIASES.get(scheme, scheme) not in SCHEMES:
            schemes = ", ".join(SCHEMES)
            raise ConfigError("unknown scheme", "", f"a path or a URI of {schemes}", f"{scheme}://")
        try:
            password = urlsplit(value).password
        except ValueError as error:  # brackets that are no IPv6 address
            raise ConfigError("not an address", expected="https://host/file", got=value) from error
        if password:
            raise ConfigError(
                "URI holds a password", remedy="set credentials in the environment instead"
            )
    folder = (info.context or {}).get("folder")
    return value if folder is None else resolve(value, folder)


Place = Annotated[str, AfterValidator(checked_place)]
"""A path (absolute once loaded) or a URI."""


def _checked_model(value: str, info: ValidationInfo) -> str:
    looks_like_path = "/" in value or value.endswith(".zip") or value.startswith("~")
    return checked_place(value, info) if looks_like_path or not value.strip() else value


ModelRef = Annotated[str, AfterValidator(_checked_model)]
"""The name of a shipped bundle, or a `Place` that holds a slash or ends in `.zip`."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Places = Annotated[list[Place], BeforeValidator(_as_list)]
"""One place or several; always a list once loaded."""


LAYER_MARK = "|layername="
"""Parts a file from the layer in it, as QGIS writes it."""


def aoi_kind(aoi: str) -> Literal["bbox", "wkt", "place"]:
    """The kind of an `aoi`: `w,s,e,n` in degrees, WKT (EPSG:4326), or a vector file."""
    if _BBOX.match(aoi):
        return "bbox"
    return "wkt" if _WKT.match(aoi) else "place"


def aoi_bbox(aoi: str) -> tuple[float, float, float, float]:
    """West, south, east, north of an `aoi` of kind `bbox`, degrees; west > east crosses 180°,
    and so do longitudes beyond 180.

    Raises:
        ConfigError: if the numbers are not a box on the Earth.
    """
    west, south, east, north = (float(part) for part in aoi.split(","))
    if not (all(map(math.isfinite, (west, south, east, north))) and -90 <= south < north <= 90):
        raise ConfigError(
            "not a box", expected="west,south,east,north in degrees with south < north", got=aoi
        )
    beyond = -360 <= west < east <= 360 and east - west <= 360
    if not (beyond or (-180 <= east <= west <= 180 and west != east)):
        raise ConfigError("not a box", expected="different longitudes of -180 to 180", got=aoi)
    if 0 < west - east < 180:  # read as a box across 180°, it is wider than half of the Earth
        raise ConfigError(
            "the west edge lies east of the east edge",
            expected="west,south,east,north in degrees",
            got=aoi,
            remedy="swap the first and the third number",
        )
    return west, south, east, north


def _aoi_text(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value):
        return ",".join(repr(v) for v in value)
    if isinstance(value, dict) and set(value) in ({"path"}, {"path", "layer"}):
        path, layer = value["path"], value.get("layer")
        if isinstance(path, str) and isinstance(layer, str | None):
            return f"{path}{LAYER_MARK}{layer}" if layer else path
    return value


def _checked_aoi(value: str, info: ValidationInfo) -> str:
    kind = aoi_kind(value)
    if kind == "bbox":
        aoi_bbox(value)
    return checked_place(value, info) if kind == "place" else value


Aoi = Annotated[
    str,
    BeforeValidator(_aoi_text, json_schema_input_type=str | list[float] | dict[str, str]),
    AfterValidator(_checked_aoi),
]
"""A box, WKT, or a vector file; its layer, if one is named, stands after `LAYER_MARK`."""


def _in_utc(moment: dt.datetime) -> dt.datetime:
    # A time without a zone is refused and never read as UTC: where local time is meant, a
    # scene of the same day would change from post to pre without a word.
    if moment.tzinfo is None:
        text = moment.isoformat()
        raise ConfigError(
            "no time zone",
            got=text,
            remedy=f"write {text}Z if that is UTC, or add the offset (+03:00)",
        )
    return moment.astimezone(dt.UTC)


def _parse_instant(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            "not a time", "", "a time such as 2023-02-06T01:17:34Z", repr(text)
        ) from None
    if len(text.strip()) <= len("2023-02-06"):
        raise ConfigError(
            "not a time", "", f"a time such as {text.strip()}T01:17:34Z", "a date alone"
        )
    return _in_utc(moment)


def _instant(value: Any) -> Any:
    if isinstance(value, str):
        return _parse_instant(value)
    if isinstance(value, dt.datetime):
        return _in_utc(value)
    if isinstance(value, dt.date):
        raise ConfigError(
            "not a time", "", f"a time such as {value.isoformat()}T01:17:34Z", "a date alone"
        )
    return value


Instant = Annotated[dt.datetime, BeforeValidator(_instant)]
"""A time with a zone, in UTC once loaded."""


def _edge(text: str, *, last: bool) -> dt.datetime:
    if text in ("", ".."):
        return LATEST if last else EARLIEST
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return _parse_instant(text)
    clock = dt.time.max if last else dt.time.min
    return dt.datetime.combine(day, clock, tzinfo=dt.UTC)


def parse_interval(text: str) -> tuple[dt.datetime, dt.datetime]:
    """First and last instant of a STAC interval: `a/b`, `a/..`, `../b`, or one day.

    A date without a time is the whole UTC day.

    Raises:
        ConfigError: if the text is not an interval, or ends before it begins.
    """
    parts = [part.strip() for part in text.split("/")]
    if len(parts) > 2 or parts in ([""], [".."]):
        raise ConfigError("not an interval", "", "2023-02-06/2023-03-01", repr(text))
    start, end = _edge(parts[0], last=False), _edge(parts[-1], last=True)
    if end < start:
        raise ConfigError(
            "interval ends before it begins", got=text, remedy="write the earlier date first"
        )
    return start, end


def _interval_text(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return _in_utc(value).isoformat()
    return value.isoformat() if isinstance(value, dt.date) else value


def _checked_interval(value: str) -> str:
    parse_interval(value)
    return value


Interval = Annotated[str, BeforeValidator(_interval_text), AfterValidator(_checked_interval)]


def _band_order(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    numbers = [n for n in value if type(n) is int and n >= 1]
    if len(value) != 3 or len(set(numbers)) != 3:
        expected = "three different numbers from 1: red, green, blue"
        raise ConfigError("wrong value", expected=expected, got=repr(list(value)))
    return tuple(numbers)


BandOrder = Annotated[
    tuple[int, int, int] | None,
    BeforeValidator(_band_order, json_schema_input_type=list[int] | None),
]
"""Numbers of the red, green and blue band; a list in the file, a tuple once loaded."""


def _asset_names(value: Any) -> Any:
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        expected = "the name of an asset, such as visual, or a list of names"
        remedy = "put it in quotes" if isinstance(value, int | float) else ""
        raise ConfigError("wrong value", expected=expected, got=repr(value), remedy=remedy)
    return tuple(value) if isinstance(value, list) else value


AssetNames = Annotated[
    str | tuple[str, ...],
    BeforeValidator(_asset_names, json_schema_input_type=str | list[str]),
]
"""One asset, or several; a list in the file, a tuple once loaded."""

ProductName = Literal["scores", "gpkg", "fgb", "kml", "pmtiles", "hxl", "ems", "stac", "pdf"]
PRODUCTS: tuple[str, ...] = get_args(ProductName)
"""Products that a run file can ask for under `outputs`."""


def _product_names(value: Any) -> Any:
    """Distinct names in the order of `PRODUCTS`, from a list or a mapping `{scores: true}`.

    Raises:
        ConfigError: if a product is unknown.
    """
    if isinstance(value, dict):
        for name, enabled in value.items():
            if type(enabled) is not bool:
                raise ConfigError("wrong value", str(name), "true or false", repr(enabled))
        value = [name for name, enabled in value.items() if enabled]
    if not isinstance(value, list | tuple):
        raise ConfigError("wrong value", expected="a list of products", got=repr(value))
    works = f"products that work: {', '.join(PRODUCTS)}"
    for name in value:
        if name not in PRODUCTS:
            raise ConfigError("unknown product", got=repr(name), remedy=works)
    return tuple(name for name in PRODUCTS if name in value)


Outputs = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _product_names, json_schema_input_type=list[ProductName] | dict[ProductName, bool]
    ),
]
"""Names of products; a list or a mapping in the file, a tuple once loaded."""
