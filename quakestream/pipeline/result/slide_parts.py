"""Reads the parts of landslides from the commits of a run."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quakestream.catalog import view_rank
from quakestream.domain import Grid
from quakestream.outputs.rasters import NODATA
from quakestream.pipeline.kinds.landslides import LAYERS, NO_WINDOW, RUN_FIELDS, window_parts
from quakestream.pipeline.result.context import RunContext
from quakestream.pipeline.work.ledger import CellRecord, Commit, read_commit, read_commits
from quakestream.reduce.polygons import PART_COLUMNS, BorderRuns, PolygonParts
from quakestream.storage import Store

COMMITS_KEPT = 4
"""Commit objects whose pixels stay in memory while joint windows are put together."""


class PartPlace(NamedTuple):
    """Where the outline of a part is found."""

    commit: str
    """Key of its commit; empty for a part of a joint window."""
    row: int
    """Row of the commit, or index into the outlines of joint windows."""


class _JointView(NamedTuple):
    """A window as one of its views shows it."""

    rank: int
    commit: str
    row: int
    view_id: str


@dataclass(slots=True, kw_only=True, eq=False)
class SlideParts:
    """All parts of a run. Their outlines stay in the ledger."""

    columns: dict[str, list[NDArray[np.int64]]] = field(
        default_factory=lambda: {name: [] for name in PART_COLUMNS}
    )
    runs: list[BorderRuns] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    """Number of the first part of each entry of `runs`."""
    views: list[str] = field(default_factory=list)
    """Id of the view of each part; of a joint window, of its best one."""
    places: list[PartPlace] = field(default_factory=list)
    outlines: list[object] = field(default_factory=list)
    """Outlines of parts of joint windows."""
    records: list[CellRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)

    def add(
        self,
        columns: dict[str, NDArray[np.int64]],
        runs: BorderRuns,
        views: list[str],
        places: list[PartPlace],
    ) -> None:
        self.first.append(len(self))
        self.runs.append(runs)
        for name in PART_COLUMNS:
            self.columns[name].append(columns[name])
        self.views += views
        self.places += places

    @property
    def whole_columns(self) -> dict[str, NDArray[np.int64]]:
        """Each column of all parts."""
        none = np.empty(0, np.int64)
        return {name: np.concatenate([none, *parts]) for name, parts in self.columns.items()}

    @property
    def all_runs(self) -> BorderRuns:
        return BorderRuns.of([BorderRuns.empty(), *self.runs], [0, *self.first])


def read_parts(store: Store, commits: list[str], keys: set[str], context: RunContext) -> SlideParts:
    """The parts of a job, and the parts of its joint windows, which are found here."""
    parts = SlideParts()
    rank = {v.id: n for n, v in enumerate(sorted(context.plan.views, key=view_rank))}
    grids = {unit.cell.id: unit.cell.grid for unit in context.job.units}
    joint: dict[tuple[Grid, int, int], list[_JointView]] = defaultdict(list)
    names = ["cell", "row", "col", "joint", "runs", *PART_COLUMNS]
    for name, commit, chosen in read_commits(store, commits, keys, names):
        parts.records += [commit.cells[n] for n in chosen]
        table, cells = commit.rows, commit.cells
        cell_R, row_R, col_R, joint_R = (
            table.column(n).to_numpy(zero_copy_only=False) for n in ("cell", "row", "col", "joint")
        )
        wanted_R = np.isin(cell_R, chosen)
        rows = np.flatnonzero(wanted_R & (row_R == NO_WINDOW))
        _add_rows(parts, name, commit, rows)
        for row in np.flatnonzero(wanted_R & joint_R).tolist():
            record = cells[int(cell_R[row])]
            window = (grids[record.cell_id], int(row_R[row]), int(col_R[row]))
            joint[window].append(_JointView(rank[record.view_id], name, row, record.view_id))
    _add_joint(parts, store, joint, context)
    return parts


def _add_rows(parts: SlideParts, name: str, commit: Commit, rows: NDArray[np.int64]) -> None:
    """Adds the parts in some rows of a commit."""
    if not len(rows):
        return
    table: pa.Table = commit.rows
    parts.add(
        {n: table.column(n).to_numpy()[rows] for n in PART_COLUMNS},
        _runs_of(table.column("runs").take(pa.array(rows)).to_pylist()),
        [commit.cells[c].view_id for c in table.column("cell").to_numpy()[rows].tolist()],
        [PartPlace(name, row) for row in rows.tolist()],
    )


def _runs_of(content: list[bytes]) -> BorderRuns:
    """Runs of several parts, which are numbered from 0."""
    values = [np.frombuffer(one, np.int64).reshape(-1, len(RUN_FIELDS)) for one in content]
    columns = np.concatenate(values)
    of_field = {name: columns[:, n] for n, name in enumerate(RUN_FIELDS)}
    part_T = np.repeat(np.arange(len(content)), [len(one) for one in values])
    return BorderRuns(**{**of_field, "part_T": part_T})


def _add_joint(
    parts: SlideParts,
    store: Store,
    joint: dict[tuple[Grid, int, int], list[_JointView]],
    context: RunContext,
) -> None:
    """Puts the views of each joint window together, the best first, and adds its parts."""
    spec, kind = context.job.bundle.spec, context.job.kind
    pixels = _Pixels(store=store, side=spec.core_px)
    for (grid, row, col), views in sorted(joint.items(), key=lambda item: item[0]):
        layer_BYX = np.full((LAYERS, spec.core_px, spec.core_px), NODATA, np.uint8)
        best = sorted(views)
        for view in best:
            layer_BYX = np.where(layer_BYX[:1] == NODATA, pixels(view), layer_BYX)
        window_12 = np.array([[row, col]], np.int64)
        lattice = kind.lattice(spec, grid, 1)
        found: PolygonParts = window_parts(window_12, layer_BYX[np.newaxis], lattice, spec)
        start = len(parts.outlines)
        parts.outlines += list(found.outline_N)
        parts.add(
            {name: getattr(found, name) for name in PART_COLUMNS},
            found.runs,
            [best[0].view_id] * len(found),
            [PartPlace("", start + n) for n in range(len(found))],
        )


@dataclass(slots=True, kw_only=True)
class _Pixels:
    """Reads the pixels of joint windows; keeps the commits it read last."""

    store: Store
    side: int
    kept: "OrderedDict[str, tuple[list[bytes], list[bytes]]]" = field(default_factory=OrderedDict)

    def __call__(self, view: _JointView) -> NDArray[np.uint8]:
        """Probability, deviation and slope in steps."""
        if view.commit not in self.kept:
            while len(self.kept) >= COMMITS_KEPT:
                self.kept.popitem(last=False)
            rows = read_commit(self.store, view.commit, ["scores", "more"]).rows
            self.kept[view.commit] = tuple(rows.column(n).to_pylist() for n in ("scores", "more"))
        self.kept.move_to_end(view.commit)
        scores, more = self.kept[view.commit]
        values = np.frombuffer(scores[view.row] + more[view.row], np.uint8)
        return values.reshape(LAYERS, self.side, self.side)
