"""The buildings that a model of classes is evaluated on, and its scores for them.

The split is that of the model's own lesson, so a model is never evaluated on training rows.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.errors import RequestError
from training.config import ChipsConfig, GradesConfig, VectorsConfig
from training.data.splits import SplitMasks, SplitPart, masks_of_points, masks_of_table
from training.data.store import ChipStore
from training.graphs import Arrays
from training.hazard.points import HazardPoints
from training.judging import ScoredRows
from training.lessons.vectors import configured_points
from training.metrics import blocks_of
from training.models import BATCH, Model, score, store_inputs, without

BLOCK_M = 150.0
"""Side of the blocks of ground that are drawn for intervals, metres."""
POINT_BLOCK_M = 500.0
"""Side of a block of survey points, metres; their layers vary more slowly than images."""
_DEGREE_M = 111_320.0


class EvaluationRows(Protocol):
    """Rows, of known or unknown class, that a graph can score."""

    @property
    def label_N(self) -> NDArray[np.int64]:
        """Class of each row, -1 unknown."""
        ...

    @property
    def block_N(self) -> NDArray[np.int64]:
        """Block of ground each row lies on."""
        ...

    @property
    def region_N(self) -> NDArray[np.object_]:
        """Region of each row; empty for rows without one."""
        ...

    def inputs(self, spec: BundleSpec, row_N: NDArray[np.int64], masked: Collection[str]) -> Arrays:
        """Inputs of the graph for some rows, with some hazard values made missing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreRows:
    """Chips of a store."""

    store: ChipStore

    @property
    def label_N(self) -> NDArray[np.int64]:
        return self.store.table["label"].to_numpy(np.int64)

    @property
    def block_N(self) -> NDArray[np.int64]:
        table = self.store.table
        # All synthetic towns lie at one place; in a real store a region has its own ground.
        ground = table["epsg"].astype(str) + "/" + table["region"].astype(str)
        return blocks_of(table["x_m"], table["y_m"], side_m=BLOCK_M, group_N=ground.to_numpy(str))

    @property
    def region_N(self) -> NDArray[np.object_]:
        return self.store.table["region"].to_numpy(object)

    def inputs(self, spec: BundleSpec, row_N: NDArray[np.int64], masked: Collection[str]) -> Arrays:
        return store_inputs(spec, self.store, row_N, masked)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointRows:
    """Survey points with hazard values, no images."""

    points: HazardPoints

    @property
    def label_N(self) -> NDArray[np.int64]:
        return self.points.label_N

    @property
    def block_N(self) -> NDArray[np.int64]:
        points = self.points
        east_m = points.lon_N * _DEGREE_M * np.cos(np.radians(points.lat_N.mean()))
        return blocks_of(east_m, points.lat_N * _DEGREE_M, side_m=POINT_BLOCK_M)

    @property
    def region_N(self) -> NDArray[np.object_]:
        return np.full(len(self.points), "", object)

    def inputs(self, spec: BundleSpec, row_N: NDArray[np.int64], masked: Collection[str]) -> Arrays:
        if absent := [h.name for h in spec.hazard if h.name not in self.points.names]:
            raise RequestError(f"the points have no {', '.join(absent)}", spec.name)
        columns = [self.points.names.index(h.name) for h in spec.hazard]
        return {"hazard": without(spec, self.points.values_NM[row_N][:, columns], masked)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationSet:
    """Rows of known class, by part of the split."""

    buildings: EvaluationRows
    rows: Mapping[SplitPart, NDArray[np.int64]]
    name: str
    """Description of the split, for reports."""

    def labels(self, part: SplitPart = "test") -> NDArray[np.int64]:
        """Classes of a part's rows."""
        return self.buildings.label_N[self.rows[part]]

    def batches(
        self, spec: BundleSpec, part: SplitPart = "test", *, masked: Collection[str] = ()
    ) -> Iterator[Arrays]:
        """Inputs of the graph for a part's rows, batch by batch."""
        row_N = self.rows[part]
        for start in range(0, len(row_N), BATCH):
            yield self.buildings.inputs(spec, row_N[start : start + BATCH], masked)

    def logits(
        self, model: Model, part: SplitPart = "test", *, masked: Collection[str] = ()
    ) -> NDArray[np.float32]:
        """Logits of a model for a part's rows, (N, K)."""
        return score(model, self.batches(model.spec, part, masked=masked))

    def scored(self, p_NC: NDArray[np.float64], part: SplitPart = "test") -> ScoredRows:
        """A part's rows with their probabilities."""
        row_N = self.rows[part]
        return ScoredRows(
            row_N=row_N,
            p_NC=p_NC,
            label_N=self.labels(part),
            block_N=self.buildings.block_N[row_N],
        )

    def some(self, part: SplitPart, count: int, rng: np.random.Generator) -> "EvaluationSet":
        """The same set with at most `count` rows of a part, drawn at random."""
        row_N = self.rows[part]
        chosen_N = np.sort(rng.choice(row_N, min(count, len(row_N)), replace=False))
        return replace(self, rows={**self.rows, part: chosen_N})

    def inputs(self, spec: BundleSpec, part: SplitPart = "test") -> Arrays:
        """Inputs of the graph for all of a part's rows at once.

        Raises:
            RequestError: if the part has no row.
        """
        batches = list(self.batches(spec, part))
        if not batches:
            raise RequestError(f"no building of known class in the {part} part", self.name)
        return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def evaluation_set(config: GradesConfig, *, regions: Collection[str] = ()) -> EvaluationSet:
    """Rows of the data that a model was trained on, by its own split.

    Args:
        config: configuration of the model.
        regions: use test rows of these regions alone; empty for all.

    Raises:
        RequestError: if the data are missing, or nothing is held out in the regions.
    """
    match config:
        case VectorsConfig():
            points = configured_points(config)
            masks = masks_of_points(points.lon_N, points.lat_N, points.label_N, config.rows)
            return _of_regions(PointRows(points=points), masks, str(config.rows), regions)
        case ChipsConfig():
            store = ChipStore.open(*config.source)
            masks = masks_of_table(store.table, config.rows)
            return _of_regions(StoreRows(store=store), masks, str(config.rows), regions)
    raise RequestError(f"lesson {config.lesson} has no rows", config.recipe)


def all_rows(*uris: str, regions: Collection[str] = ()) -> EvaluationSet:
    """Every row of some stores as a test, for models that were not trained on them.

    Raises:
        RequestError: if a store is missing, or nothing lies in the regions.
    """
    store = ChipStore.open(*uris)
    known_N = store.table["label"].to_numpy(np.int64) >= 0
    none_N = np.zeros_like(known_N)
    masks = SplitMasks(train_N=none_N, validation_N=none_N, test_N=known_N)
    return _of_regions(StoreRows(store=store), masks, "all rows of the store", regions)


def _of_regions(
    buildings: EvaluationRows, masks: SplitMasks, name: str, regions: Collection[str]
) -> EvaluationSet:
    test_N = masks.test_N
    if regions:
        region_N = buildings.region_N
        if unknown := sorted(set(regions) - set(region_N)):
            known = ", ".join(sorted({r for r in region_N if r})) or "no region"
            raise RequestError(
                "unknown region", "--regions", expected=f"one of {known}", got=", ".join(unknown)
            )
        test_N = test_N & np.isin(region_N, list(regions))
        name = f"{name}, regions {', '.join(regions)}"
    if not test_N.any():
        raise RequestError("no building of known class is held out", name)
    rows: dict[SplitPart, NDArray[np.int64]] = {
        "train": np.flatnonzero(masks.train_N),
        "validation": np.flatnonzero(masks.validation_N),
        "test": np.flatnonzero(test_N),
    }
    return EvaluationSet(buildings=buildings, rows=rows, name=name)


_: tuple[type[EvaluationRows], ...] = (StoreRows, PointRows)
