"""What is known of buildings: label files read, and matched to footprints.

A footprint whose state nobody knows is no example of anything: it is left out, never taken for
undamaged. The rules, each counted in the report:

- with ids, an item speaks of the footprint of its id;
- a point speaks of the nearest footprint within the matching distance, the smallest of those it
  lies in; a polygon of every footprint it shares a tenth of the smaller outline with;
- items of one footprint that agree are one; those that disagree leave it unknown, or the most
  severe or the nearest counts, as asked.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from quakestream.domain import utm_epsg
from quakestream.errors import RequestError, StorageError
from quakestream.outputs.matching import overlapping
from quakestream.outputs.truth import read_vectors
from quakestream.storage import StorageOptions, local_copy
from training.data.vectors import FIELD_CLASSES, read_field_points

Conflict = Literal["ignore", "severest", "nearest"]
CONFLICTS: tuple[Conflict, ...] = get_args(Conflict)
UNKNOWN = -1
SHOWN = 8
"""Values an error names at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """A class, and the values of a label file that mean it (as text, whatever their case)."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Classes mildest first, and values that mean that nobody knows.

    Raises:
        RequestError: if a class comes twice or a value means two things.
    """

    classes: tuple[ClassRule, ...]
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = [rule.label for rule in self.classes]
        values = [v.lower() for rule in self.classes for v in rule.values]
        values += [v.lower() for v in self.ignored]
        for kind, given in (("class", labels), ("value", values)):
            if twice := sorted({g for g in given if given.count(g) > 1}):
                raise RequestError(f"--classes: {kind} {', '.join(twice)} comes twice")

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(rule.label for rule in self.classes)

    def index_of(self, values: pd.Series, where: str) -> NDArray[np.int8]:
        """Class of each value; -1 for ignored and missing ones.

        Raises:
            RequestError: if a value is not one of the scale's.
        """
        known = {v.lower(): i for i, rule in enumerate(self.classes) for v in rule.values}
        known |= {v.lower(): UNKNOWN for v in (*self.ignored, "")}
        text = values.map(_text)
        if unknown := sorted(set(text[~text.str.lower().isin(known)])):
            raise RequestError(
                f"{where} holds unknown classes {unknown[:SHOWN]}; expected {', '.join(known)}: "
                "name every class with --classes LABEL=VALUE,..., or leave a value out with "
                "--ignore"
            )
        return np.array([known[v] for v in text.str.lower()], np.int8)

    def knows(self, values: pd.Series) -> bool:
        """True if one of the values means a class."""
        known = {v.lower() for rule in self.classes for v in rule.values}
        return bool(values.map(_text).str.lower().isin(known).any())


def _same(labels: Sequence[str], ignored: Sequence[str] = ()) -> Scale:
    rules = tuple(ClassRule(label=label, values=(label,)) for label in labels)
    return Scale(classes=rules, ignored=tuple(ignored))


COPERNICUS = Scale(
    classes=(
        ClassRule(label="no_visible_damage", values=("No visible damage",)),
        ClassRule(label="possibly_damaged", values=("Possibly damaged",)),
        ClassRule(label="damaged", values=("Damaged",)),
        ClassRule(label="destroyed", values=("Destroyed",)),
    ),
    ignored=("Not analysed", "Not applicable", "Unknown"),
)
XBD = _same(("no-damage", "minor-damage", "major-damage", "destroyed"), ("un-classified",))
FIELD = Scale(
    classes=tuple(
        ClassRule(label=label, values=(label, str(i))) for i, label in enumerate(FIELD_CLASSES)
    )
)
SCALES: dict[str, Scale] = {"copernicus": COPERNICUS, "xbd": XBD, "field": FIELD}


def scale_of(texts: Sequence[str], ignored: Sequence[str] = ()) -> Scale:
    """A scale from `--classes`: one name of `SCALES`, or `LABEL` or `LABEL=VALUE,VALUE` each,
    mildest first.

    Raises:
        RequestError: if it is no scale of two classes or more.
    """
    if len(texts) == 1 and texts[0] in SCALES:
        known = SCALES[texts[0]]
        return Scale(classes=known.classes, ignored=(*known.ignored, *ignored))
    rules = []
    for text in texts:
        label, separator, values = text.partition("=")
        parts = tuple(v.strip() for v in values.split(",")) if separator else (label,)
        if not label or not all(parts):
            raise RequestError(f"--classes {text!r}: expected LABEL or LABEL=VALUE,VALUE")
        rules.append(ClassRule(label=label.strip(), values=parts))
    if len(rules) < 2:
        raise RequestError(
            f"--classes {' '.join(texts)}: expected two classes or more, mildest first, or one of "
            f"{', '.join(SCALES)}"
        )
    return Scale(classes=tuple(rules), ignored=tuple(ignored))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRequest:
    """Which file says what is known, and how its items find their footprints."""

    uri: str
    scale: Scale
    column: str | None = None
    """Column of the classes; None takes the one column whose values are all the scale's."""
    constant: str | None = None
    """Class of every item, for files without a column, such as outlines of destroyed buildings."""
    id_column: str = "building_id"
    """Where the file has such a column, items are joined by it, else by place."""
    match_m: float = 5.0
    conflict: Conflict = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelItems:
    """Items of a label file."""

    frame: gpd.GeoDataFrame
    """EPSG:4326; `label` (int8, -1 unknown) and, where joined by id, `building_id`."""
    by_id: bool
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """What became of a label file's items."""

    how: str
    items: int
    items_ignored: int
    """Items whose value means that nobody knows."""
    items_unmatched: int
    """Items with no footprint of their id, or none near enough."""
    footprints: int
    conflicting: int
    """Footprints whose items disagree."""
    labelled: dict[str, int] = field(default_factory=dict)
    """Footprints per class."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedLabels:
    """A class for each of N footprints."""

    label_N: NDArray[np.int8]
    """Index into the scale's classes, -1 unknown."""
    report: LabelReport


def read_labels(request: LabelRequest, storage: StorageOptions | None = None) -> LabelItems:
    """Points or polygons of any vector format, xBD label JSON, field points, or a table of ids.

    Raises:
        RequestError: if the file is missing, empty, without CRS or class column, or holds a
            value the scale does not know.
    """
    frame = _read(request.uri, storage or StorageOptions())
    by_id = request.id_column in frame.columns
    if request.constant is not None:
        if request.constant not in request.scale.labels:
            raise RequestError(
                f"--all-are {request.constant}: expected one of {', '.join(request.scale.labels)}"
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
    """The scale of `SCALES` a label file is on, judging by its column or by the only fitting one.

    Bare numbers are taken for field classes only in a column that was named, or in a file of
    field points.

    Raises:
        RequestError: if the file cannot be read or is on none of them.
    """
    frame = _read(uri, storage or StorageOptions())
    candidates = [column] if column in frame.columns else [str(c) for c in frame.columns]
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
        f"labels {uri} are on none of the scales {', '.join(SCALES)}, judging by the columns "
        f"{[c for c in candidates if c != 'geometry']}: name the classes with --classes, mildest "
        "first, and the column with --label-column"
    )


def match_labels(
    items: LabelItems, footprints: gpd.GeoDataFrame, request: LabelRequest
) -> MatchedLabels:
    """A class for each footprint, by the rules at the head of this module.

    Args:
        footprints: `building_id` and `geometry`, EPSG:4326; missing geometries match nothing.

    Raises:
        RequestError: if no item finds a footprint.
    """
    frame = items.frame
    buildings = footprints[["building_id", "geometry"]].reset_index(drop=True)
    known = frame[frame["label"] != UNKNOWN]
    if items.by_id:
        pairs, how = _by_id(known, buildings), f"by {request.id_column}"
    else:
        pairs, how = _by_place(known, buildings, request.match_m)
    if pairs.empty:
        raise RequestError(_none_matched(items, buildings, request, how))
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
            return read_vectors(uri, storage)
        with local_copy(uri, storage) as path:
            points = read_field_points(path)
    except (RequestError, StorageError) as error:
        raise RequestError(f"labels: {error}") from error
    place = gpd.points_from_xy(points.lon_N, points.lat_N)
    return gpd.GeoDataFrame({"class": points.label_N}, geometry=place, crs=4326)


def _column(frame: gpd.GeoDataFrame, request: LabelRequest) -> str:
    columns = [str(c) for c in frame.columns if c not in ("geometry", request.id_column)]
    if request.column is not None:
        if request.column not in columns:
            raise RequestError(
                f"labels {request.uri} have no column {request.column!r}: there are {columns}; "
                "choose one with --label-column"
            )
        return request.column
    found, partly = [], []
    for column in columns:
        try:
            label_N = request.scale.index_of(frame[column], column)
        except RequestError:
            if request.scale.knows(frame[column]):
                partly.append(column)
            continue
        if (label_N >= 0).any():
            found.append(column)
    chosen = found or partly  # of a column that holds some of the classes, the others are told
    if len(chosen) != 1:
        raise RequestError(
            f"labels {request.uri}: {len(found)} of the columns {columns} hold only the classes "
            f"{', '.join(request.scale.labels)}; name the column with --label-column"
        )
    return chosen[0]


def _by_id(items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame) -> pd.DataFrame:
    where = pd.Series(buildings.index, index=buildings["building_id"].astype(str))
    found = items["building_id"].map(where).dropna().astype(np.int64)
    return pd.DataFrame({"item": found.index, "building": found.to_numpy(), "distance_m": 0.0})


def _by_place(
    items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame, match_m: float
) -> tuple[pd.DataFrame, str]:
    """(item, building, distance) of items that speak of a building."""
    there = buildings[~(buildings.geometry.isna() | buildings.geometry.is_empty)]
    placed = items[~(items.geometry.isna() | items.geometry.is_empty)]
    area = placed.geometry.geom_type.isin(("Polygon", "MultiPolygon")).to_numpy()
    parts, how = [], []
    if area.any():
        found = overlapping(placed[area], there)
        parts.append(found.assign(distance_m=0.0))
        how.append("polygons sharing 10% of the smaller outline")
    if not area.all():
        parts.append(_nearest(placed[~area], there, match_m))
        how.append(f"points within {match_m:g} m of the nearest footprint")
    empty = pd.DataFrame({"item": [], "building": [], "distance_m": []})
    pairs = pd.concat(parts, ignore_index=True) if parts else empty
    return pairs.astype({"item": np.int64, "building": np.int64}), " and ".join(how)


def _nearest(items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame, match_m: float) -> pd.DataFrame:
    """Each point with its nearest building; the smallest of those it lies in."""
    west, south, east, north = buildings.total_bounds
    crs = utm_epsg((west + east) / 2, (south + north) / 2)
    points = np.asarray(items.geometry.representative_point().to_crs(crs).values, object)
    outlines = np.asarray(buildings.geometry.to_crs(crs).values, object)
    tree = shapely.STRtree(outlines)
    (item_P, building_P), distance_P = tree.query_nearest(
        points, max_distance=match_m, return_distance=True, all_matches=True
    )
    found = pd.DataFrame(
        {
            "item": items.index.to_numpy()[item_P],
            "building": buildings.index.to_numpy()[building_P],
            "distance_m": distance_P,
            "area_m2": shapely.area(outlines[building_P]),
        }
    )
    ranked = found.sort_values(["item", "distance_m", "area_m2", "building"])
    return ranked.drop_duplicates("item")[["item", "building", "distance_m"]]


def _one_each(pairs: pd.DataFrame, count: int, conflict: Conflict) -> tuple[NDArray[np.int8], int]:
    """A class per building, and how many buildings' items disagree."""
    classes = pairs.groupby("building")["label"].nunique()
    disputed = classes.index[classes > 1]
    if conflict == "severest":
        ranked = pairs.sort_values(["building", "label"], ascending=[True, False])
    else:
        # of items equally near the most severe counts: file order must not decide
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
) -> str:
    known = items.frame[items.frame["label"] != UNKNOWN]
    if known.empty:
        return f"labels {request.uri}: every one of {len(items.frame)} values is ignored"
    if items.by_id:
        return (
            f"labels {request.uri}: none of {len(known)} values of {request.id_column}, e.g. "
            f"{known['building_id'].iloc[0]!r}, is a footprint's id, e.g. "
            f"{buildings['building_id'].iloc[0]!r}; name the column with --label-id"
        )
    return (
        f"labels {request.uri}: none of {len(known)} lies on a footprint ({how}); they span "
        f"{_bounds(known)}, the footprints {_bounds(buildings)}; check the files' CRS"
    )


def _bounds(frame: gpd.GeoDataFrame) -> str:
    return ", ".join(f"{v:.4f}" for v in frame.total_bounds)


def _text(value: Any) -> str:
    """A value as it would be written by hand: 3 for 3.0, nothing for what is missing."""
    if value is None or value != value or str(value) == "<NA>":
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
