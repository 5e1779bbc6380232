"""Reads damage maps of others by their own columns.

Each reader knows one publisher by the names of its columns. What an item claims is one of
`CLAIMS`; a word that no reader knows is an error and never guessed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import pandas as pd

from quakestream.domain import damage_words as words
from quakestream.errors import RequestError, StorageError
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.truth import read_reference, text_of
from quakestream.storage import StorageOptions, open_store

CLAIMS = ("no", "minor", "major", "destroyed", "unsure", "not_analysed")
"""A grade, `unsure` where the observer was not sure, `not_analysed` where nobody looked."""
OBSCURED = 0.5
"""Share of a footprint under cloud from which a Microsoft row counts as not analysed."""
_KEYS = ("layer", "column", "destroyed", "at_least", "name")
_UNOSAT_COLUMN = re.compile(r"main_dam(?:age_site_class|ag)?(?:_(\d+))?", re.I)
_OSM_COLUMNS = ("destroyed_building", "destroyed:building")
_YES_NO = {"1": "destroyed", "true": "destroyed", "yes": "destroyed"} | dict.fromkeys(
    ("0", "false", "no"), "no"
)
_ANSWERS = words.PLAIN.claims() | {"cannot_tell": "unsure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRequest:
    """A map of others: a file, or the output of another run, and what to read of it."""

    uri: str
    layer: str | None = None
    column: str | None = None
    """Column of the damage; None: told by the known names."""
    destroyed: tuple[str, ...] = ()
    """Values of `column` that mean destroyed; others that are filled mean not destroyed."""
    at_least: float | None = None
    """Microsoft: share of the footprint from which a building counts as destroyed."""
    name: str = ""
    """Its name in the result; empty: the name of the file."""

    @classmethod
    def parse(cls, text: str) -> "OtherRequest":
        """`FILE`, or `FILE:layer=NAME:column=NAME:destroyed=A|B:at_least=0.2:name=NAME`.

        Raises:
            RequestError: if `at_least` is not a share.
        """
        parts = re.split(rf":(?=(?:{'|'.join(_KEYS)})=)", text)
        given = dict(part.split("=", 1) for part in parts[1:])
        share = _share(given.pop("at_least"), text) if "at_least" in given else None
        destroyed = tuple(v.strip() for v in given.pop("destroyed", "").split("|") if v.strip())
        return cls(uri=parts[0], destroyed=destroyed, at_least=share, **given)


def _share(value: str, text: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise RequestError("at_least is no share", text, "a number above 0 up to 1", value)
    return share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherMap:
    """A map of others: items with what each claims."""

    name: str
    origin: str
    """Publisher, or the kind of file."""
    column: str
    items: gpd.GeoDataFrame
    """EPSG:4326. Columns `value` (unchanged text), `claim` (one of `CLAIMS`), and `building_id`
    in tables without geometry."""
    without_claim: int = 0
    """Items of the file without a value. They are not among `items`."""
    notes: tuple[str, ...] = ()

    @property
    def damage_only(self) -> bool:
        """True if no item says that a building is undamaged: absence then means nothing."""
        return not (self.items["claim"] == "no").any()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Claims:
    origin: str
    column: str
    value: pd.Series
    claim: pd.Series
    notes: tuple[str, ...] = ()


def read_other(request: OtherRequest, storage: StorageOptions | None = None) -> OtherMap:
    """Reads one map of others.

    Raises:
        RequestError: if the file or its layer cannot be read, no column is known, or a value is
            on no known scale.
    """
    own = _own_map(request, storage)
    frame = own if own is not None else _read(request, storage)
    reading = _claims_of(frame, request)
    has = reading.claim.notna().to_numpy()
    if not has.any():
        raise RequestError(
            "makes no claim about any building",
            f"map {request.uri}",
            got=f"no value in column {reading.column!r}",
            remedy="name another column with FILE:column=NAME",
        )
    items = frame[["geometry"]].assign(value=reading.value, claim=reading.claim)
    if frame.geometry.isna().all() and "building_id" in frame.columns:
        items["building_id"] = frame["building_id"].astype(str)
    return OtherMap(
        name=request.name or _name(request.uri),
        origin=reading.origin,
        column=reading.column,
        items=items[has].reset_index(drop=True),
        without_claim=int((~has).sum()),
        notes=reading.notes,
    )


def _own_map(request: OtherRequest, storage: StorageOptions | None) -> gpd.GeoDataFrame | None:
    """The buildings of another run, with `claim`; None if this is no output of a run."""
    store = open_store(request.uri, storage)
    try:
        if not store.exists("run.json"):
            return None
    except StorageError:
        return None
    run = current_run(store)
    grades = {c.label: str(c.xbd) for c in scale_of(run)}
    return current_buildings(store, run).assign(claim=lambda f: _own_claims(f, grades))


def _own_claims(frame: pd.DataFrame, grades: Mapping[str, str]) -> pd.Series:
    claims: pd.Series = frame["damage_label"].map(grades)
    return claims.where(frame["status"] == "assessed", "not_analysed")


def _read(request: OtherRequest, storage: StorageOptions | None) -> gpd.GeoDataFrame:
    try:
        return read_reference(request.uri, request.layer, storage)
    except RequestError as error:
        problem = replace(error.problem, where=f"map {request.uri}")
        if "layers" in problem.what:
            problem = replace(problem, remedy="name it: --with FILE:layer=NAME")
        raise RequestError.of(problem) from error


def _claims_of(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims:
    if request.column:
        return _named_column(frame, request)
    for reader in READERS:
        found = reader(frame, request)
        if found is not None:
            return found
    raise RequestError(
        "has no column of a known damage map",
        f"map {request.uri}",
        "damage_gra, grading, Main_Damage_Site_Class, damage_pct_0m, subtype, "
        "destroyed_building, destroyed, answer or damage_label",
        f"columns {', '.join(_columns(frame))}",
        "name it: --with FILE:column=NAME, and its values: --with 'FILE:column=NAME:destroyed=A|B'",
    )


def _quakestream(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    if not {"building_id", "status", "damage_label"} <= set(frame.columns):
        return None
    if "claim" not in frame.columns:
        grades = {c.label: str(c.xbd) for scale in words.BUNDLE_SCALES for c in scale.classes}
        frame = frame.assign(claim=_own_claims(frame, grades))
    value = frame["damage_label"].fillna(frame["status"])
    return _Claims(origin="quakestream", column="damage_label", value=value, claim=frame["claim"])


def _unosat(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    """UNOSAT's sites. Of several rounds of looking, each site has its last class."""
    rounds = {c: m for c in _columns(frame) if (m := _UNOSAT_COLUMN.fullmatch(c))}
    if not rounds:
        return None
    ordered = sorted(rounds, key=lambda c: int(rounds[c][1] or 1))
    last = frame[ordered].ffill(axis=1).iloc[:, -1]
    notes = (f"last class of {len(ordered)} rounds at each site",) if len(ordered) > 1 else ()
    return _by_words(last, ordered[-1], "UNOSAT", words.UNOSAT.claims(), request, notes)


def _microsoft(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    """Microsoft's footprints: `damaged` is any damage inside; shares are of the footprint."""
    if "damage_pct_0m" not in frame.columns:
        return None
    share = pd.to_numeric(frame["damage_pct_0m"], errors="coerce")
    if request.at_least is not None:
        column, hit = "damage_pct_0m", share >= request.at_least
        said = f"destroyed: {request.at_least:.0%} or more of the footprint is damaged"
    elif "damaged" in frame.columns:
        column, hit = "damaged", frame["damaged"].map(text_of).str.lower().isin(("1", "true"))
        said = "destroyed: `damaged`, which is any damage; FILE:at_least=0.2 asks for a share"
    else:
        column, hit = "damage_pct_0m", share > 0
        said = "destroyed: any damage inside; FILE:at_least=0.2 asks for a share"
    claim = pd.Series(np.where(hit, "destroyed", "no"), frame.index, dtype=object)
    claim = claim.where(share.notna(), None)
    if "unknown_pct" in frame.columns:
        hidden = pd.to_numeric(frame["unknown_pct"], errors="coerce") > OBSCURED
        claim = claim.where(~hidden, "not_analysed")
    value = share.map(lambda v: f"{v:.3g}")
    return _Claims(origin="Microsoft", column=column, value=value, claim=claim, notes=(said,))


def _copernicus(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    column = next((c for c in _columns(frame) if c.lower() in ("damage_gra", "grading")), None)
    if column is None:
        return None
    known = words.COPERNICUS_OLD.claims() | words.COPERNICUS.claims()
    notation = next((c for c in _columns(frame) if c.lower() == "notation"), None)
    blocks = notation is not None and frame[notation].astype(str).str.contains("block").any()
    notes = ("grades blocks: each building carries the grade of its block",) if blocks else ()
    return _by_words(frame[column], column, "Copernicus EMS", known, request, notes)


def _xbd(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    known = words.XBD.claims()
    if "subtype" not in frame.columns or not set(_texts(frame["subtype"])) & known.keys():
        return None  # building footprints have a `subtype` of their own
    return _by_words(frame["subtype"], "subtype", "xBD", known, request)


def _openstreetmap(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    """OpenStreetMap's destroyed buildings. Any filled value but `no` says destroyed."""
    column = next((c for c in _OSM_COLUMNS if c in frame.columns), None)
    if column is None:
        return None
    value = frame[column].map(text_of, na_action="ignore").astype(object)
    filled = value.where(value.map(lambda v: str(v).lower()) != "no")
    claim = filled.map(lambda _: "destroyed", na_action="ignore")
    return _Claims(origin="OpenStreetMap", column=column, value=value, claim=claim)


def _usual(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims | None:
    """Answers of a spot check, and columns `destroyed` of yes and no."""
    if "answer" in frame.columns:
        return _by_words(frame["answer"], "answer", "spot check", _ANSWERS, request)
    if "destroyed" in frame.columns and set(_texts(frame["destroyed"])) <= _YES_NO.keys():
        return _by_words(frame["destroyed"], "destroyed", "labels", _YES_NO, request)
    return None


READERS: tuple[Callable[[gpd.GeoDataFrame, OtherRequest], _Claims | None], ...] = (
    _quakestream,
    _unosat,
    _microsoft,
    _copernicus,
    _xbd,
    _openstreetmap,
    _usual,
)
"""Readers of the publishers, first match first. Microsoft's files have a `subtype`, too."""


def _named_column(frame: gpd.GeoDataFrame, request: OtherRequest) -> _Claims:
    column = request.column or ""
    if column not in frame.columns:
        raise RequestError(
            f"has no column {column!r}",
            f"map {request.uri}",
            got=f"columns {', '.join(_columns(frame))}",
        )
    if request.destroyed:
        said = f"destroyed: {' or '.join(request.destroyed)}; other values: not destroyed"
        known = dict.fromkeys(_texts(frame[column]), "no")
        known |= {value.lower(): "destroyed" for value in request.destroyed}
        _check_given(frame[column], request)
        return _by_words(frame[column], column, "as given", known, request, (said,))
    found = set(_texts(frame[column]))
    scales = (words.COPERNICUS, words.COPERNICUS_OLD, words.XBD, words.PLAIN)
    tables = [(scale.name, scale.claims()) for scale in scales] + [("yes or no", _YES_NO)]
    origin, known = next(((o, k) for o, k in tables if found <= k.keys()), ("no scale", {}))
    return _by_words(frame[column], column, origin, known, request)


def _check_given(column: pd.Series, request: OtherRequest) -> None:
    """Raises RequestError if no item has one of the values that were named."""
    if not {v.lower() for v in request.destroyed} & set(_texts(column)):
        raise RequestError(
            f"no item of column {column.name!r} has the values given",
            f"map {request.uri}",
            got=f"values {', '.join(_texts(column)[:8])}",
        )


def _by_words(
    column: pd.Series,
    name: str,
    origin: str,
    known: Mapping[str, str],
    request: OtherRequest,
    notes: tuple[str, ...] = (),
) -> _Claims:
    """Claims by the words of a column.

    Raises:
        RequestError: if a word is not known.
    """
    strange = [v for v in _texts(column) if v not in known]
    if strange:
        raise RequestError(
            f"column {name!r} has values on no known damage scale",
            f"map {request.uri}",
            got=", ".join(strange[:6]),
            remedy=f"say which mean destroyed: --with 'FILE:column={name}:destroyed=A|B'",
        )
    value = column.map(text_of, na_action="ignore")
    claim = value.map(lambda v: known.get(v.lower()), na_action="ignore")
    return _Claims(origin=origin, column=name, value=value, claim=claim, notes=notes)


def _texts(column: pd.Series) -> list[str]:
    """The values that occur, as text in lower case."""
    return sorted({text_of(v).lower() for v in column.dropna().unique()} - {""})


def _columns(frame: gpd.GeoDataFrame) -> list[str]:
    return [str(c) for c in frame.columns if c != "geometry"]


def _name(uri: str) -> str:
    """A short name out of a path: letters, digits and `_`."""
    parts = [part for part in re.split(r"[/\\]", uri) if part]
    stem = re.sub(r"(\.[A-Za-z0-9]{1,9}){1,2}$", "", parts[-1] if parts else "") or "map"
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "map"
