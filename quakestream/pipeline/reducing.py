"""The reduce stage: commits to sums per footprint, and sums to the rows of the products."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain import Issue, Quality
from quakestream.pipeline.ledger import CellRecord, Commit, read_commit
from quakestream.reduce import Tally
from quakestream.storage import Store


@dataclass(slots=True)
class Reduced:
    """Sums per footprint over all cells and views: a stated number of bytes a footprint."""

    tally: Tally
    """One row per footprint of the run, zeros where nothing was seen."""
    shift_m_N: NDArray[np.float32]
    shift_quality_N: NDArray[np.float32]
    failure_N: NDArray[np.object_]
    """`read_error`, `model_error` or None."""
    records: list[CellRecord]
    issues: list[Issue]


def reduce_commits(
    store: Store, commit_keys: Iterable[str], wanted: set[str], ids: list[str], classes: int
) -> Reduced:
    """Adds up the commits of a run, one object in memory at a time.

    Each (cell, view) counts once, a complete record before a partial one, whatever the
    order of the objects.
    """
    sums = _Sums(len(ids), classes)
    for record, rows in _chosen(store, commit_keys, wanted, pd.Index(ids)):
        sums.records.append(record)
        sums.add(rows)
    return sums.result()


Rows = dict[str, NDArray[Any]]
"""Columns of a commit's rows, and `place`: where each row's footprint stands in the run."""


def _chosen(
    store: Store, commit_keys: Iterable[str], wanted: set[str], index: pd.Index
) -> Iterator[tuple[CellRecord, Rows]]:
    """Each wanted cell once; whole commits come first, so partial ones only fill gaps."""
    taken: set[str] = set()
    ordered = sorted(commit_keys, key=lambda k: ("/partial-" in k, k))
    partial = [k for k in ordered if "/partial-" in k]
    for keys, incomplete in ((ordered, False), (partial, True)):
        for key in keys:
            commit = read_commit(store, key)
            here = [
                (n, record)
                for n, record in enumerate(commit.cells)
                if record.key in wanted and (incomplete or record.complete)
            ]
            rows, ends = _columns(commit, index)
            for n, record in here:
                if record.key not in taken:
                    taken.add(record.key)
                    yield record, {k: v[ends[n] : ends[n + 1]] for k, v in rows.items()}


def _columns(commit: Commit, index: pd.Index) -> tuple[Rows, list[int]]:
    """A commit's rows in the order of its cells, and where each cell's begin."""
    table = commit.rows.drop_columns(["building_id"])
    ids = commit.rows.column("building_id").to_pylist()
    rows: Rows = {n: table.column(n).to_numpy() for n in table.column_names}
    rows["place"] = index.get_indexer(pd.Index(ids))
    order = np.argsort(rows["cell"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    ends: list[int] = np.searchsorted(rows["cell"], np.arange(len(commit.cells) + 1)).tolist()
    return rows, ends


class _Sums:
    def __init__(self, footprints: int, classes: int) -> None:
        self.pixels_NQ = np.zeros((footprints, len(Quality)), np.int64)
        self.sum_NC = np.zeros((footprints, classes), np.int64)
        self.change_N = np.zeros(footprints, np.int64)
        self.shift_m_N = np.zeros(footprints, np.float32)
        self.shift_quality_N = np.zeros(footprints, np.float32)
        self.shift_pixels_N = np.zeros(footprints, np.int64)
        self.failure_N = np.full(footprints, None, object)
        self.records: list[CellRecord] = []

    def add(self, rows: Rows) -> None:
        """Adds one cell's rows: a footprint has one of them at most."""
        place_R = rows["place"]
        for q in Quality:
            self.pixels_NQ[place_R, q] += rows[f"pixels_{q.name.lower()}"]
        for c in range(self.sum_NC.shape[1]):
            self.sum_NC[place_R, c] += rows[f"sum_{c}"]
        self.change_N[place_R] += rows["change"]
        self._keep_shift(place_R, *(rows[f"shift_{n}"] for n in ("pixels", "m", "quality")))
        failure_R = rows["failure"]
        failed_R = np.array([f is not None for f in failure_R], np.bool_)
        self.failure_N[place_R[failed_R]] = failure_R[failed_R]

    def _keep_shift(
        self,
        place_R: NDArray[np.intp],
        pixels_R: NDArray[np.int64],
        shift_m_R: NDArray[np.int64],
        quality_R: NDArray[np.int64],
    ) -> None:
        """The shift of the window that holds most of a footprint; ties go to the larger shift,
        then to the better measured, so that the order of commits does not matter."""
        better_R = np.zeros(len(place_R), np.bool_)
        tied_R = np.ones(len(place_R), np.bool_)
        for new_R, kept_N in (
            (pixels_R, self.shift_pixels_N),
            (shift_m_R, self.shift_m_N),
            (quality_R, self.shift_quality_N),
        ):
            better_R |= tied_R & (new_R > kept_N[place_R])
            tied_R &= new_R == kept_N[place_R]
        at_R = place_R[better_R]
        self.shift_pixels_N[at_R] = pixels_R[better_R]
        self.shift_m_N[at_R] = shift_m_R[better_R]
        self.shift_quality_N[at_R] = quality_R[better_R]

    def result(self) -> Reduced:
        tally = Tally(
            building_N=np.arange(len(self.change_N)),
            pixels_NQ=self.pixels_NQ,
            sum_NC=self.sum_NC,
            change_N=self.change_N,
        )
        return Reduced(
            tally=tally,
            shift_m_N=self.shift_m_N,
            shift_quality_N=self.shift_quality_N,
            failure_N=self.failure_N,
            records=sorted(self.records, key=lambda r: (r.cell_id, r.view_id)),
            issues=_issues(self.records),
        )


def _issues(records: list[CellRecord]) -> list[Issue]:
    """Failed windows, one issue per scene and kind: the first cause and how many there are."""
    causes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.cell_id, r.view_id)):
        for failure in record.failures:
            causes[failure.subject, failure.kind].append(failure.cause)
    return [
        Issue(
            subject=subject,
            kind="block" if kind == "read_error" else "cell",
            cause=f"{told[0]}; {len(told)} windows are {kind}, run the same command again to retry",
            retryable=True,
        )
        for (subject, kind), told in sorted(causes.items())
    ]
