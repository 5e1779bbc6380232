"""Labels of the event, joined to the buildings of a finished map."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain import ScaleClass
from quakestream.errors import RequestError
from quakestream.outputs.matching import MatchResult, match
from quakestream.outputs.truth import Truth, TruthRequest, read_reference, read_truth, text_of
from quakestream.storage import StorageOptions

ANSWERS = {"destroyed": 1, "damaged": 0, "intact": 0, "cannot_tell": -1, "cannot tell": -1}
EMPTY = "not answered"
"""What an empty cell of an answer sheet says."""
"""Answers of the sheet that `quakestream sample` writes: 1 destroyed, 0 not, -1 left out.

A building that is damaged and stands is not destroyed."""
FLAG = "destroyed"
FLAGS = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}
"""Values of the column `destroyed`, where a file has it."""
LEAST, LEAST_OF_EACH = 20, 5
"""Fewest labels, and fewest of either state, that a bundle is adapted with."""


@dataclass(slots=True, kw_only=True)
class LabelCounts:
    """What became of the items of a label file."""

    items: int
    how: str
    """How items were joined to buildings."""
    unmatched: int
    """Items outside the map, too far from a building, or of an unknown id."""
    contradicting: int
    """Buildings whose items disagree; left out."""
    cannot_tell: int
    """Buildings without a usable answer: `cannot tell`, or graded in between; left out."""
    unanswered: int = 0
    """Items of an answer sheet whose answer is empty."""
    not_assessed: int = 0
    """Labelled buildings that the map did not assess; used where the pixels can be read."""
    unreadable: dict[str, int] = field(default_factory=dict)
    """Labelled buildings whose pixels cannot be used, by reason; left out."""
    used: int = 0
    destroyed: int = 0
    """How many of the used ones are destroyed."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventLabels:
    """Labels by building."""

    row_N: NDArray[np.int64]
    """Rows of buildings.parquet."""
    destroyed_N: NDArray[np.bool_]
    counts: LabelCounts


def read_event_labels(
    request: TruthRequest,
    buildings: gpd.GeoDataFrame,
    classes: Sequence[ScaleClass],
    *,
    distance_m: float = 5.0,
    storage: StorageOptions | None = None,
) -> EventLabels:
    """Reads an answer sheet, or any file of points, polygons or ids with a column of damage.

    Items are joined to buildings as `quakestream score --truth` joins them.

    Raises:
        RequestError: if the file is unusable, or no label belongs to a building of the map.
    """
    truth = read_answers(request, storage) or read_truth(request, classes, storage)
    matched = match(truth, buildings, distance_m)
    counts = _counts(truth, matched)
    severe = matched.rows["severe"].to_numpy(np.float64, na_value=np.nan)
    row_N = np.flatnonzero(np.isin(severe, (0, 1)))
    if not len(row_N) and counts.unmatched == counts.items:
        raise RequestError(
            "labels lie outside the map",
            f"labels {request.uri}",
            expected=f"labels of its {len(buildings):,} buildings ({matched.how})",
            got=f"{counts.items:,} items, none on a building",
            remedy="give labels of this event; check the coordinates' order and CRS",
        )
    status_N = buildings["status"].to_numpy(object)[row_N]
    counts.not_assessed = int((status_N != "assessed").sum())
    return EventLabels(row_N=row_N, destroyed_N=severe[row_N] == 1, counts=counts)


def read_answers(request: TruthRequest, storage: StorageOptions | None = None) -> Truth | None:
    """An answer sheet, or a file that says `destroyed` of each item, as reference items.

    None for other files.

    Raises:
        RequestError: if an answer has an unknown value.
    """
    frame = read_reference(request.uri, request.layer, storage)
    if request.column:
        return None
    if "answer" not in frame.columns and FLAG in frame.columns:
        flags = frame[FLAG].map(text_of).str.lower()
        if flags.isin(list(FLAGS)).all():
            return _labelled(frame, flags, flags.map(FLAGS), FLAG)
    if not {"building_id", "answer"} <= set(frame.columns):
        return None
    words = frame["answer"].fillna("").astype(str).str.strip().str.lower()
    words = words.replace("", EMPTY)
    if unknown := sorted(set(words) - {*ANSWERS, EMPTY}):
        raise RequestError(
            "unknown answers",
            f"labels {request.uri}",
            expected="destroyed, damaged, intact or cannot_tell",
            got=", ".join(map(repr, unknown[:5])),
        )
    return _labelled(frame, words, words.map({**ANSWERS, EMPTY: -1}), "answer")


def _labelled(
    frame: gpd.GeoDataFrame, words: "pd.Series[str]", severe: "pd.Series[Any]", column: str
) -> Truth:
    items = frame[["geometry"]].assign(value=words, severe=severe.astype(int))
    items["class_index"] = items["severe"]
    if "building_id" in frame.columns:
        items["building_id"] = frame["building_id"].astype(str)
    return Truth(items=items, column=column, scale="answers")


def check_enough(destroyed_N: NDArray[np.bool_], counts: LabelCounts, uri: str) -> None:
    """Checks that there are labels enough to learn from.

    Raises:
        RequestError: if all labels are of one state, or there are too few.
    """
    destroyed, intact = int(destroyed_N.sum()), int((~destroyed_N).sum())
    left = [
        f"{number:,} {why}"
        for number, why in (
            (counts.unmatched, "on no building of the map"),
            (counts.contradicting, "buildings with contradicting labels"),
            (counts.cannot_tell, "buildings that cannot be told"),
            (sum(counts.unreadable.values()), "buildings whose pixels cannot be used"),
        )
        if number
    ]
    got = f"{destroyed} destroyed and {intact} not, out of {counts.items:,} items"
    got += f" (left out: {', '.join(left)})" if left else ""
    if not destroyed and not intact and counts.unanswered == counts.items:
        raise RequestError(
            f"column `answer` is empty in all {counts.items:,} rows",
            f"labels {uri}",
            expected="destroyed, damaged, intact or cannot_tell in each row",
            remedy="look at the buildings, and fill the column in",
        )
    if not destroyed and not intact:
        raise RequestError(
            "no label tells the state of a building",
            f"labels {uri}",
            expected=f"{LEAST_OF_EACH} or more of destroyed and of other buildings",
            got=got,
            remedy="settle the contradictions, or label others (`quakestream suggest`)",
        )
    if not destroyed or not intact:
        raise RequestError(
            "labels are of one class only",
            f"labels {uri}",
            expected=f"{LEAST_OF_EACH} or more of destroyed and of other buildings",
            got=got,
            remedy="`quakestream suggest` names buildings of both kinds to label",
        )
    if destroyed + intact < LEAST or min(destroyed, intact) < LEAST_OF_EACH:
        raise RequestError(
            "too few labels",
            f"labels {uri}",
            expected=f"{LEAST} or more, {LEAST_OF_EACH} or more of either class",
            got=got,
            remedy="`quakestream suggest` names buildings to label",
        )


def _counts(truth: Truth, matched: MatchResult) -> LabelCounts:
    severe = matched.rows["severe"]
    return LabelCounts(
        items=matched.items,
        how=matched.how,
        unmatched=matched.items_unmatched,
        contradicting=matched.conflicting_footprints,
        cannot_tell=int((severe == -1).sum()),
        unanswered=int((truth.items["value"] == EMPTY).sum()),
    )
