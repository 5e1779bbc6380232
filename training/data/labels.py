"""Label files: reads them and matches their items to footprints.

A footprint of unknown state is left out. It is never taken for undamaged. The rules, whose results
are counted in the report:

- with ids, an item labels the footprint of its id;
- a point labels the nearest footprint within the matching distance, or the smallest of those it
  lies in; a polygon labels every footprint with which it shares a tenth of the smaller outline;
- items of one footprint that agree count as one; if they disagree, the footprint is unknown, or
  the most severe or the nearest item counts, as requested.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from quakestream.domain import damage_words, utm_epsg
from quakestream.errors import RequestError, StorageError
from quakestream.outputs.matching import overlapping
from quakestream.outputs.truth import read_reference
from quakestream.storage import StorageOptions, local_copy
from training.data.vectors import read_field_points

Conflict = Literal["ignore", "severest", "nearest"]
CONFLICTS: tuple[Conflict, ...] = get_args(Conflict)
UNKNOWN = -1
SHOWN = 8
"""Most values that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """A class and its values in a label file, as text; their case does not matter."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Classes, mildest first, and values for buildings of unknown state.

    Raises:
        RequestError: if a class comes twice, or a value has two meanings.
    """

    classes: tuple[ClassRule, ...]
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = [rule.label for rule in self.classes]
        values = [v.lower() for rule in self.classes for v in rule.values]
        values += [v.lower() for v in self.ignored]
        for kind, given in (("class", labels), ("value", values)):
            if twice := sorted({g for g in given if given.count(g) > 1}):
                raise RequestError(f"{kind} {', '.join(twice)} comes twice", "--classes")

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(rule.label for rule in self.classes)

    def index_of(self, values: pd.Series, where: str) -> NDArray[np.int8]:
        """Class of each value; -1 for ignored and missing values.

        Args:
            values: values of a label file.
            where: names the column in errors.

        Raises:
            RequestError: if the scale does not have a value.
        """
        known = {v.lower(): i for i, rule in enumerate(self.classes) for v in rule.values}
        known |= {v.lower(): UNKNOWN for v in (*self.ignored, "")}
        text = values.map(_text)
        if unknown := sorted(set(text[~text.str.lower().isin(known)])):
            raise RequestError(
                "unknown classes",
                where,
                expected=", ".join(word for word in known if word),
                got=", ".join(map(repr, unknown[:SHOWN])),
                remedy="name every class with --classes LABEL=VALUE,..., or leave a value out "
                "with --ignore",
            )
        return np.array([known[v] for v in text.str.lower()], np.int8)

    def knows(self, values: pd.Series) -> bool:
        """True if one of the values means a class."""
        known = {v.lower() for rule in self.classes for v in rule.values}
        return bool(values.map(_text).str.lower().isin(known).any())


def label_scale(scale: damage_words.DamageScale) -> Scale:
    """A damage scale as label files use it."""
    return Scale(
        classes=tuple(ClassRule(label=c.label, values=c.all_words) for c in scale.classes),
        ignored=scale.unknown,
    )


COPERNICUS = label_scale(damage_words.COPERNICUS)
XBD = label_scale(damage_words.XBD)
FIELD = label_scale(damage_words.FIELD_SURVEY)
SCALES: dict[str, Scale] = {"copernicus": COPERNICUS, "xbd": XBD, "field": FIELD}


def parse_scale(texts: Sequence[str], ignored: Sequence[str] = ()) -> Scale:
    """A scale from `--classes`: a name of `SCALES`, or a list of `LABEL` or `LABEL=VALUE,VALUE`.

    Raises:
        RequestError: if the scale has fewer than two classes, or an entry is malformed.
    """
    if len(texts) == 1 and texts[0] in SCALES:
        known = SCALES[texts[0]]
        return Scale(classes=known.classes, ignored=(*known.ignored, *ignored))
    rules = []
    for text in texts:
        label, separator, values = text.partition("=")
        parts = tuple(v.strip() for v in values.split(",")) if separator else (label,)
        if not label or not all(parts):
            raise RequestError(
                "malformed class", f"--classes {text!r}", expected="LABEL or LABEL=VALUE,VALUE"
            )
        rules.append(ClassRule(label=label.strip(), values=parts))
    if len(rules) < 2:
        raise RequestError(
            "too few classes",
            f"--classes {' '.join(texts)}",
            expected=f"two classes or more, mildest first, or one of {', '.join(SCALES)}",
        )
    return Scale(classes=tuple(rules), ignored=tuple(ignored))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRequest:
    """A label file, and how its items are matched to footprints."""

    uri: str
    scale: Scale
    column: str | None = None
    """Column of the classes; None takes the one column whose values all belong to the scale."""
    constant: str | None = None
    """Class of every item, for files without a column, such as outlines of destroyed buildings."""
    id_column: str = "building_id"
    """Items are joined by this column if the file has it, else by place."""
    match_m: float = 5.0
    conflict: Conflict = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelItems:
    """Items of a label file."""

    frame: gpd.GeoDataFrame
    """EPSG:4326; columns `label` (int8, -1 unknown) and, if joined by id, `building_id`."""
    by_id: bool
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """Counts of a label file's items."""

    how: str
    items: int
    items_ignored: int
    """Items of unknown state."""
    items_unmatched: int
    """Items without a footprint of their id, or without one that is near enough."""
    footprints: int
    conflicting: int
    """Footprints whose items disagree."""
    labelled: dict[str, int] = field(default_factory=dict)
    """Number of footprints per class."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedLabels:
    """A class for each of N footprints."""

    label_N: NDArray[np.int8]
    """Index into the scale's classes, -1 unknown."""
    report: LabelReport


def read_labels(request: LabelRequest, storage: StorageOptions | None = None) -> LabelItems:
    """Reads points or polygons of any vector format, xBD labels, field points, or a table of ids.

    Raises:
        RequestError: if the file is missing or empty, has no CRS or no class column, or holds a
            value that the scale does not have.
    """
    frame = _read(request.uri, storage or StorageOptions())
    by_id = request.id_column in frame.columns
    if request.constant is not None:
        if request.constant not in request.scale.labels:
            raise RequestError(
                "unknown class",
                f"--all-are {request.constant}",
                expected=f"one of {', '.join(request.scale.labels)}",
            )
        column = f"all {request.constant}"
        label_N = np.full(len(frame), request.scale.labels.index(request.constant), np.int8)
    else:
        column = _column(frame, request)
        where = f"column {column!r} of {request.uri}"
        label_N = request.scale.index_of(frame[column], where)
    items = frame[["geometry"]].reset_index(drop=True).assign(label=label_N)
    if by_id:
        items["building_id"] = frame[request.id_column].map(_text).to_numpy(object)
    return LabelItems(frame=items, by_id=by_id, column=column)


def recognised(
    uri: str,
    column: str | None = None,
    ignored: Sequence[str] = (),
    storage: StorageOptions | None = None,
) -> Scale:
    """Recognises the scale of a label file, by the named column or by any column that fits.

    Bare numbers are taken for field classes only in a column that was named, or in a file of
    field points.

    Raises:
        RequestError: if the file cannot be read, or no scale of `SCALES` fits.
    """
    frame = _read(uri, storage or StorageOptions())
    columns = [str(c) for c in frame.columns]
    candidates = [column] if column is not None and column in columns else columns
    for name, known in SCALES.items():
        scale = Scale(classes=known.classes, ignored=(*known.ignored, *ignored))
        for candidate in candidates:
            numbers = pd.api.types.is_numeric_dtype(frame[candidate])
            if candidate == "geometry" or (numbers and candidate not in (column, "class")):
                continue
            try:
                label_N = scale.index_of(frame[candidate], name)
            except RequestError:
                continue
            if (label_N >= 0).any():
                return scale
    raise RequestError(
        "damage scale not recognised",
        f"labels {uri}",
        expected=f"a column with the words of {', '.join(SCALES)}",
        got=f"columns {', '.join(c for c in candidates if c != 'geometry')}",
        remedy="name the classes with --classes, mildest first, and the column with --label-column",
    )


def match_labels(
    items: LabelItems, footprints: gpd.GeoDataFrame, request: LabelRequest
) -> MatchedLabels:
    """Matches a class to each footprint, by the rules in the docstring of this module.

    Args:
        items: items of a label file.
        footprints: `building_id` and `geometry`, EPSG:4326; missing geometries match nothing.
        request: how items are matched.

    Raises:
        RequestError: if no item matches a footprint.
    """
    frame = items.frame
    buildings = footprints[["building_id", "geometry"]].reset_index(drop=True)
    known = frame[frame["label"] != UNKNOWN]
    if items.by_id:
        pairs, how = _by_id(known, buildings), f"by {request.id_column}"
    else:
        pairs, how = _by_place(known, buildings, request.match_m)
    if pairs.empty:
        raise _none_matched(items, buildings, request, how)
    pairs["label"] = known["label"].loc[pairs["item"]].to_numpy()
    label_N, conflicting = _one_each(pairs, len(buildings), request.conflict)
    counts = np.bincount(label_N[label_N >= 0], minlength=len(request.scale.classes))
    return MatchedLabels(
        label_N=label_N,
        report=LabelReport(
            how=how,
            items=len(frame),
            items_ignored=len(frame) - len(known),
            items_unmatched=len(known) - int(pairs["item"].nunique()),
            footprints=len(buildings),
            conflicting=conflicting,
            labelled=dict(zip(request.scale.labels, counts.tolist(), strict=True)),
        ),
    )


def _read(uri: str, storage: StorageOptions) -> gpd.GeoDataFrame:
    try:
        if not uri.endswith(".txt"):
            return read_reference(uri, storage=storage)
        with local_copy(uri, storage) as path:
            points = read_field_points(path)
    except (RequestError, StorageError) as error:
        where = f"labels: {error.where}" if error.where else "labels"
        raise RequestError(error.what, where, error.expected, error.got, error.remedy) from error
    place = gpd.points_from_xy(points.lon_N, points.lat_N)
    return gpd.GeoDataFrame({"class": points.label_N}, geometry=place, crs=4326)


def _column(frame: gpd.GeoDataFrame, request: LabelRequest) -> str:
    columns = [str(c) for c in frame.columns if c not in ("geometry", request.id_column)]
    if request.column is not None:
        if request.column not in columns:
            raise RequestError(
                f"no column {request.column!r}",
                f"labels {request.uri}",
                got=f"columns {', '.join(columns)}",
                remedy="choose one with --label-column",
            )
        return request.column
    whole, partly = [], []
    for column in columns:
        try:
            label_N = request.scale.index_of(frame[column], column)
        except RequestError:
            if request.scale.knows(frame[column]):
                partly.append(column)
            continue
        if (label_N >= 0).any():
            whole.append(column)
    # A column that fits partly is chosen too, so that the error names its unknown values.
    chosen = whole or partly
    if len(chosen) != 1:
        raise RequestError(
            f"{len(chosen)} columns hold the classes {', '.join(request.scale.labels)}",
            f"labels {request.uri}",
            expected="one",
            got=f"columns {', '.join(columns)}",
            remedy="name the column with --label-column",
        )
    return chosen[0]


def _by_id(items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame) -> pd.DataFrame:
    row_of = pd.Series(buildings.index, index=buildings["building_id"].astype(str))
    rows = items["building_id"].map(row_of).dropna().astype(np.int64)
    return pd.DataFrame({"item": rows.index, "building": rows.to_numpy(), "distance_m": 0.0})


def _by_place(
    items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame, match_m: float
) -> tuple[pd.DataFrame, str]:
    """Pairs (item, building, distance) of items that label a building."""
    there = buildings[~(buildings.geometry.isna() | buildings.geometry.is_empty)]
    placed = items[~(items.geometry.isna() | items.geometry.is_empty)]
    area = placed.geometry.geom_type.isin(("Polygon", "MultiPolygon")).to_numpy()
    parts, how = [], []
    if area.any():
        parts.append(overlapping(placed[area], there).assign(distance_m=0.0))
        how.append("polygons sharing 10% of the smaller outline")
    if not area.all():
        parts.append(_nearest(placed[~area], there, match_m))
        how.append(f"points within {match_m:g} m of the nearest footprint")
    empty = pd.DataFrame({"item": [], "building": [], "distance_m": []})
    pairs = pd.concat(parts, ignore_index=True) if parts else empty
    return pairs.astype({"item": np.int64, "building": np.int64}), " and ".join(how)


def _nearest(items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame, match_m: float) -> pd.DataFrame:
    """Each point with its nearest building, or with the smallest of those it lies in."""
    west, south, east, north = buildings.total_bounds
    crs = utm_epsg((west + east) / 2, (south + north) / 2)
    points = np.asarray(items.geometry.representative_point().to_crs(crs).values, object)
    outlines = np.asarray(buildings.geometry.to_crs(crs).values, object)
    tree = shapely.STRtree(outlines)
    (item_P, building_P), distance_P = tree.query_nearest(
        points, max_distance=match_m, return_distance=True, all_matches=True
    )
    near = pd.DataFrame(
        {
            "item": items.index.to_numpy()[item_P],
            "building": buildings.index.to_numpy()[building_P],
            "distance_m": distance_P,
            "area_m2": shapely.area(outlines[building_P]),
        }
    )
    ranked = near.sort_values(["item", "distance_m", "area_m2", "building"])
    return ranked.drop_duplicates("item")[["item", "building", "distance_m"]]


def _one_each(pairs: pd.DataFrame, count: int, conflict: Conflict) -> tuple[NDArray[np.int8], int]:
    """A class per building, and the number of buildings whose items disagree."""
    classes = pairs.groupby("building")["label"].nunique()
    disputed = classes.index[classes > 1]
    if conflict == "severest":
        ranked = pairs.sort_values(["building", "label"], ascending=[True, False])
    else:
        # Of items that are equally near the most severe counts, so that file order has no effect.
        ranked = pairs.sort_values(
            ["building", "distance_m", "label"], ascending=[True, True, False]
        )
    first = ranked.drop_duplicates("building").set_index("building")["label"]
    label_N = np.full(count, UNKNOWN, np.int8)
    label_N[first.index.to_numpy(np.int64)] = first.to_numpy(np.int8)
    if conflict == "ignore":
        label_N[disputed.to_numpy(np.int64)] = UNKNOWN
    return label_N, len(disputed)


def _none_matched(
    items: LabelItems, buildings: gpd.GeoDataFrame, request: LabelRequest, how: str
) -> RequestError:
    where = f"labels {request.uri}"
    known = items.frame[items.frame["label"] != UNKNOWN]
    if known.empty:
        return RequestError("every value is ignored", where)
    if items.by_id:
        return RequestError(
            f"none of {len(known)} values of {request.id_column} is the id of a footprint",
            where,
            expected=f"ids such as {buildings['building_id'].iloc[0]!r}",
            got=repr(known["building_id"].iloc[0]),
            remedy="name the column with --label-id",
        )
    return RequestError(
        f"none of {len(known)} lies on a footprint ({how})",
        where,
        expected=f"items within {_bounds(buildings)}",
        got=f"items within {_bounds(known)}",
        remedy="check the CRS of both files",
    )


def _bounds(frame: gpd.GeoDataFrame) -> str:
    return ", ".join(f"{v:.4f}" for v in frame.total_bounds)


def _text(value: Any) -> str:
    """A value as text: 3 for 3.0, and an empty text for a missing value."""
    if value is None or value != value or str(value) == "<NA>":
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
