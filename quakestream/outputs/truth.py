"""Reads reference damage on any known scale.

Grades are mapped to the xBD scale (`no, minor, major, destroyed`). `severe` is major or
destroyed, harmless is `no`. Grades in between, and items without a grade, are left out and
counted. An unknown value is an error and never guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import pandas as pd

from quakestream.domain import ScaleClass
from quakestream.domain.damage_words import EMS98, SCORED_SCALES, SEVERITY, Grade
from quakestream.errors import RequestError, StorageError
from quakestream.storage import StorageOptions
from quakestream.vectors import Attributes, VectorRequest, read_vectors

_ID = "building_id"
OWN_SCALE = "the bundle's own"
_EMS98_PREFIX = re.compile(r"^(ems[-_ ]?98)?[ _-]*(damage )?(grade|dg|d|g)?[ _-]*(?=[0-5]$)", re.I)
_USUAL_COLUMNS = ("damage_gra", "subtype", "damage_label", "label", "class", "ems98", "grade")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """Reference items with a grade each."""

    items: gpd.GeoDataFrame
    """EPSG:4326. Columns `value` (unchanged), `grade`, `severe` (1, 0, or -1 for neither),
    `class_index` on the bundle's scale (-1 without such a class), and `building_id` where the
    file has ids."""
    column: str
    scale: str
    """Name of the recognised scale."""

    @property
    def by_id(self) -> bool:
        return "building_id" in self.items.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthRequest:
    """A reference file, its column, and the meaning of values on an unknown scale."""

    uri: str
    layer: str | None = None
    """Layer to read where the file holds several."""
    column: str | None = None
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    beside: bool = True
    """False where the command takes no second file of destroyed buildings."""

    @property
    def if_all_destroyed(self) -> str:
        """What to do with a file that holds destroyed buildings and no others."""
        if self.beside:
            return if_all_destroyed(self.uri)
        return "if it holds destroyed buildings alone, add some that stand"


def if_all_destroyed(uri: str) -> str:
    """What to do with a file that holds destroyed buildings and no others."""
    return (
        "if it holds destroyed buildings alone, it is the positive file, beside graded or harmless "
        f"buildings: --truth graded.json --positive-file {uri}"
    )


def read_truth(
    request: TruthRequest, classes: Sequence[ScaleClass], storage: StorageOptions | None = None
) -> Truth:
    """Reads points or polygons of any vector format, xBD label JSON, or a table with ids.

    Raises:
        RequestError: if the file, its CRS, its label column or a value is unusable.
    """
    frame = read_reference(request.uri, request.layer, storage)
    column = request.column or _label_column(frame, request, classes)
    if column not in frame.columns:
        raise RequestError(
            f"has no column {column!r}",
            f"reference {request.uri}",
            got=f"columns {', '.join(_columns(frame))}",
            remedy="choose one with --label-column",
        )
    scale, mapping = _recognise(frame[column], request, classes)
    values = frame[column].map(text_of)
    items = frame[["geometry"]].assign(value=values, grade=values.map(mapping).fillna("ignored"))
    items["severe"] = items["grade"].map(SEVERITY).astype(int)
    items["class_index"] = _class_indices(items, scale, classes)
    if "building_id" in frame.columns:
        items["building_id"] = frame["building_id"].astype(str)
    return Truth(items=items, column=column, scale=scale)


def read_reference(
    uri: str, layer: str | None = None, storage: StorageOptions | None = None
) -> gpd.GeoDataFrame:
    """A vector file in EPSG:4326; a table with `building_id` needs no geometry.

    Raises:
        RequestError: if it cannot be read, is empty, or has neither CRS nor ids.
    """
    request = VectorRequest(
        uri=uri,
        layer=layer,
        attributes=Attributes(every=True, optional=(_ID,)),
        needs_geometry=False,
    )
    try:
        frame = read_vectors(request, storage or StorageOptions(), RequestError)
    except (RequestError, StorageError) as error:
        where = f"reference {error.where or uri}"
        raise RequestError.of(replace(error.problem, where=where)) from error
    if frame.crs is None and _ID not in frame.columns:
        raise RequestError(
            "has neither geometry nor a building_id column",
            f"reference {uri}",
            remedy="add columns `longitude` and `latitude`, or the ids of buildings.parquet",
        )
    return frame


def _label_column(
    frame: gpd.GeoDataFrame, request: TruthRequest, classes: Sequence[ScaleClass]
) -> str:
    """The column whose values are a damage scale; usual names have priority."""
    candidates = []
    for column in _columns(frame):
        try:
            _recognise(frame[column], request, classes)
        except RequestError:
            continue
        candidates.append(column)
    for usual in _USUAL_COLUMNS:
        if usual in candidates:
            return usual
    if len(candidates) == 1:
        return candidates[0]
    raise RequestError(
        "damage column is not clear",
        f"reference {request.uri}",
        expected="one column with a known damage scale",
        got=f"{len(candidates)} of {', '.join(_columns(frame))}",
        remedy="give the column with --label-column, its values with --positive and --negative; "
        + request.if_all_destroyed,
    )


def _recognise(
    column: pd.Series, request: TruthRequest, classes: Sequence[ScaleClass]
) -> tuple[str, dict[str, Grade]]:
    """Name of the scale, and the grade of each value.

    Raises:
        RequestError: if no scale has all values.
    """
    values = sorted(set(column.dropna().map(text_of)))
    if request.positive or request.negative:
        return "as given", _as_given(values, request)
    families: dict[str, dict[str, Grade]] = {
        OWN_SCALE: {c.label.lower(): c.grade for c in classes},
        **{scale.name: scale.grades() for scale in SCORED_SCALES},
    }
    for name, family in families.items():
        ems98 = name == EMS98.name
        keys = {v: _EMS98_PREFIX.sub("", v) if ems98 else v.lower() for v in values}
        if ems98 and keys.keys() == set(keys.values()) and not _names_ems98(column):
            continue  # bare numbers may be anything
        if values and all(key in family for key in keys.values()):
            return name, {v: family[key] for v, key in keys.items()}
    raise RequestError(
        "values are on no known damage scale",
        f"column {column.name!r}",
        expected="Copernicus, xBD, EMS-98 or the bundle's labels",
        got=str(values[:6]),
        remedy="give their meaning with --positive and --negative; " + request.if_all_destroyed,
    )


def _class_indices(items: gpd.GeoDataFrame, scale: str, classes: Sequence[ScaleClass]) -> pd.Series:
    """The bundle's class of each item: by label on its own scale, else by grade.

    The one severe class of a bundle stands for every severe grade. A grade without a class, or
    with several, is -1.
    """
    if scale == OWN_SCALE:
        own = {c.label.lower(): c.index for c in classes}
        indices: pd.Series = items["value"].str.lower().map(own).fillna(-1).astype(int)
        return indices
    of_grade: dict[str, int] = {}
    severe = [c.index for c in classes if SEVERITY[c.grade] == 1]
    for grade in ("no", "minor", "major", "destroyed"):
        same = [c.index for c in classes if c.xbd == grade]
        if SEVERITY[grade] == 1 and len(severe) == 1:
            same = severe
        if len(same) == 1:
            of_grade[grade] = same[0]
    by_grade: pd.Series = items["grade"].map(of_grade).fillna(-1).astype(int)
    return by_grade


def _as_given(values: list[str], request: TruthRequest) -> dict[str, Grade]:
    named = {*request.positive, *request.negative}
    if unknown := sorted(named - set(values)):
        raise RequestError(
            f"--positive or --negative names unknown values {unknown}",
            f"reference {request.uri}",
            got=f"values {values[:10]}",
            remedy=request.if_all_destroyed if set(values) <= set(request.positive) else "",
        )
    grades: dict[str, Grade] = dict.fromkeys(values, "ignored")
    grades |= dict.fromkeys(request.positive, "destroyed")
    grades |= dict.fromkeys(request.negative, "no")
    return grades


def _names_ems98(column: pd.Series) -> bool:
    return bool(re.search(r"ems|grade", str(column.name), re.I))


def text_of(value: Any) -> str:
    """A value of a label column as text; whole numbers of columns with gaps lose their `.0`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _columns(frame: gpd.GeoDataFrame) -> list[str]:
    return [str(c) for c in frame.columns if c not in ("geometry", "building_id")]
