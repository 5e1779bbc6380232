"""The reduce stage: from commits to sums per footprint."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Issue, Quality
from quakestream.pipeline.work.ledger import CellRecord, Commit, read_commits
from quakestream.pipeline.work.results import Failure
from quakestream.reduce import Tally
from quakestream.storage import Store


@dataclass(slots=True)
class Reduced:
    """Sums per footprint over all cells and views; memory grows with footprints alone."""

    tally: Tally
    """One row per footprint of the run, zeros where no pixel was read."""
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
    place_of = {name: n for n, name in enumerate(ids)}
    for _, commit, chosen in read_commits(store, commit_keys, wanted):
        rows, ends = _columns(commit, place_of)
        for n in chosen:
            sums.records.append(commit.cells[n])
            sums.add({name: values[ends[n] : ends[n + 1]] for name, values in rows.items()})
    return sums.result()


Rows = dict[str, NDArray[Any]]
"""Columns of a commit's rows, and `place`: the index of each row's footprint in the run."""


def _columns(commit: Commit, place_of: dict[str, int]) -> tuple[Rows, list[int]]:
    """A commit's rows in the order of its units, and where the rows of each unit begin."""
    table = commit.rows.drop_columns(["building_id"])
    ids = commit.rows.column("building_id").to_pylist()
    rows: Rows = {n: table.column(n).to_numpy() for n in table.column_names}
    # units of an earlier run in the folder may hold footprints that this run lacks; none is chosen
    rows["place"] = np.array([place_of.get(name, -1) for name in ids], np.int64)
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
        """Adds the rows of one unit, which has at most one row per footprint."""
        place_F = rows["place"]
        for q in Quality:
            self.pixels_NQ[place_F, q] += rows[f"pixels_{q.name.lower()}"]
        for c in range(self.sum_NC.shape[1]):
            self.sum_NC[place_F, c] += rows[f"sum_{c}"]
        self.change_N[place_F] += rows["change"]
        self._keep_shift(place_F, *(rows[f"shift_{n}"] for n in ("pixels", "m", "quality")))
        failure_F = rows["failure"]
        failed_F = np.array([f is not None for f in failure_F], np.bool_)
        self.failure_N[place_F[failed_F]] = failure_F[failed_F]

    def _keep_shift(
        self,
        place_F: NDArray[np.intp],
        pixels_F: NDArray[np.int64],
        shift_m_F: NDArray[np.int64],
        quality_F: NDArray[np.int64],
    ) -> None:
        """Keeps the shift of the window that holds most of a footprint.

        Ties go to the larger shift, then to the better measured one, so that the order of
        commits does not matter.
        """
        better_F = np.zeros(len(place_F), np.bool_)
        tied_F = np.ones(len(place_F), np.bool_)
        for new_F, kept_N in (
            (pixels_F, self.shift_pixels_N),
            (shift_m_F, self.shift_m_N),
            (quality_F, self.shift_quality_N),
        ):
            better_F |= tied_F & (new_F > kept_N[place_F])
            tied_F &= new_F == kept_N[place_F]
        at_F = place_F[better_F]
        self.shift_pixels_N[at_F] = pixels_F[better_F]
        self.shift_m_N[at_F] = shift_m_F[better_F]
        self.shift_quality_N[at_F] = quality_F[better_F]

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
            issues=failure_issues(self.records),
        )


def failure_issues(records: Iterable[CellRecord]) -> list[Issue]:
    """Failed windows: one issue per scene and kind, with the first cause and their number."""
    failed: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.cell_id, r.view_id)):
        for failure in record.failures:
            failed[failure.subject, failure.kind].append(failure)
    return [
        Issue(
            subject=subject,
            kind="block" if kind == "read_error" else "cell",
            cause=f"{of_windows[0].cause}; {_windows(len(of_windows))} failed with {kind}; "
            + (_AGAIN if of_windows[0].retryable else _REPLACE),
            retryable=of_windows[0].retryable,
        )
        for (subject, kind), of_windows in sorted(failed.items())
    ]


_AGAIN = "run the same command again to retry"
_REPLACE = "put a whole file in its place, then run the same command again"


def _windows(count: int) -> str:
    return "1 window" if count == 1 else f"{count} windows"
