"""Which buildings a model of classes is judged on, and its answers for them.

The split is the lesson's own: what a model was trained on is never among what it is judged on.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.errors import RequestError
from training.config import TrainConfig
from training.data.store import ChipStore
from training.data.vectors import FIELD_CLASSES
from training.graphs import Arrays
from training.hazard.points import HazardPoints, read_points
from training.judging import Judged
from training.lessons.parts import Parts, parts_of_points, parts_of_table
from training.metrics import blocks_of
from training.models import BATCH, Model, score, store_inputs, without

Part = Literal["train", "validation", "test"]
BLOCK_M = 150.0
"""Side of the blocks of ground that are drawn for intervals."""
POINT_BLOCK_M = 500.0
"""The same for survey points, whose layers vary more slowly than images."""
_DEGREE_M = 111_320.0


class Buildings(Protocol):
    """Rows of known or unknown class that a graph can be asked about."""

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
        """Region of each row; empty where they have none."""
        ...

    def inputs(self, spec: BundleSpec, row_N: NDArray[np.int64], masked: Collection[str]) -> Arrays:
        """Rows as the graph takes them, some hazard values made missing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreBuildings:
    """Chips of a store."""

    store: ChipStore

    @property
    def label_N(self) -> NDArray[np.int64]:
        return self.store.table["label"].to_numpy(np.int64)

    @property
    def block_N(self) -> NDArray[np.int64]:
        table = self.store.table
        # Synthetic towns all lie at one place; in a real store a region has its own ground.
        ground = table["epsg"].astype(str) + "/" + table["region"].astype(str)
        return blocks_of(table["x_m"], table["y_m"], side_m=BLOCK_M, group_N=ground.to_numpy(str))

    @property
    def region_N(self) -> NDArray[np.object_]:
        return self.store.table["region"].to_numpy(object)

    def inputs(self, spec: BundleSpec, row_N: NDArray[np.int64], masked: Collection[str]) -> Arrays:
        return store_inputs(spec, self.store, row_N, masked)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointBuildings:
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
            raise RequestError(f"{spec.name}: the points have no {', '.join(absent)}")
        columns = [self.points.names.index(h.name) for h in spec.hazard]
        return {"hazard": without(spec, self.points.values_NM[row_N][:, columns], masked)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """Rows by what they are for; all have a known class."""

    buildings: Buildings
    rows: Mapping[Part, NDArray[np.int64]]
    name: str
    """How they were chosen, for reports."""

    def labels(self, part: Part = "test") -> NDArray[np.int64]:
        """Classes of a part's rows."""
        return self.buildings.label_N[self.rows[part]]

    def batches(
        self, spec: BundleSpec, part: Part = "test", *, masked: Collection[str] = ()
    ) -> Iterator[Arrays]:
        """A part's rows as a graph takes them."""
        row_N = self.rows[part]
        for start in range(0, len(row_N), BATCH):
            yield self.buildings.inputs(spec, row_N[start : start + BATCH], masked)

    def logits(
        self, model: Model, part: Part = "test", *, masked: Collection[str] = ()
    ) -> NDArray[np.float32]:
        """What a model says of a part's rows, (N, K)."""
        return score(model, self.batches(model.spec, part, masked=masked))

    def judged(self, p_NC: NDArray[np.float64], part: Part = "test") -> Judged:
        """A part's rows with probabilities for them."""
        row_N = self.rows[part]
        return Judged(
            row_N=row_N,
            p_NC=p_NC,
            label_N=self.labels(part),
            block_N=self.buildings.block_N[row_N],
        )

    def some(self, part: Part, count: int, rng: np.random.Generator) -> "HeldOut":
        """At most so many rows of a part, drawn at random."""
        row_N = self.rows[part]
        chosen_N = np.sort(rng.choice(row_N, min(count, len(row_N)), replace=False))
        return replace(self, rows={**self.rows, part: chosen_N})

    def inputs(self, spec: BundleSpec, part: Part = "test") -> Arrays:
        """All of a part's rows at once.

        Raises:
            RequestError: if there is none.
        """
        parts = list(self.batches(spec, part))
        if not parts:
            raise RequestError(f"{self.name}: no building of known class in the {part} part")
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def held_out(config: TrainConfig, *, regions: Collection[str] = ()) -> HeldOut:
    """Rows of what a model was trained on, by its own split.

    Args:
        regions: test rows of these regions alone; empty for all.

    Raises:
        RequestError: if its data are not there, or nothing is held out in the regions.
    """
    buildings: Buildings
    rows = config.rows
    if config.lesson == "vectors":
        asked = config.points
        points = read_points(
            config.source,
            features=_names(asked.features),
            classes=_names(asked.classes) or FIELD_CLASSES,
        )
        buildings = PointBuildings(points=points)
        parts = parts_of_points(points.lon_N, points.lat_N, points.label_N, rows)
    else:
        store = ChipStore.open(*config.source.split(","))
        buildings = StoreBuildings(store=store)
        parts = parts_of_table(store.table, rows)
    told = {"blocks": f"blocks of {rows.block:g}, fold {rows.fold} of {rows.folds}"}
    return _of_regions(
        buildings, parts, told.get(rows.split, f"{rows.split} {rows.held}".strip()), regions
    )


def all_rows(uri: str, *, regions: Collection[str] = ()) -> HeldOut:
    """Every row of a store as a test: for models that were not trained on it.

    Raises:
        RequestError: if there is no such store, or nothing in the regions.
    """
    store = ChipStore.open(*uri.split(","))
    known_N = store.table["label"].to_numpy(np.int64) >= 0
    none_N = np.zeros_like(known_N)
    parts = Parts(train_N=none_N, validation_N=none_N, test_N=known_N)
    return _of_regions(StoreBuildings(store=store), parts, "all rows of the store", regions)


def _of_regions(buildings: Buildings, parts: Parts, name: str, regions: Collection[str]) -> HeldOut:
    test_N = parts.test_N
    if regions:
        region_N = buildings.region_N
        if unknown := sorted(set(regions) - set(region_N)):
            known = ", ".join(sorted({r for r in region_N if r})) or "none"
            raise RequestError(f"no region {', '.join(unknown)}; known: {known}")
        test_N = test_N & np.isin(region_N, list(regions))
        name = f"{name}, regions {', '.join(regions)}"
    if not test_N.any():
        raise RequestError(f"no building of known class is held out ({name})")
    rows: dict[Part, NDArray[np.int64]] = {
        "train": np.flatnonzero(parts.train_N),
        "validation": np.flatnonzero(parts.validation_N),
        "test": np.flatnonzero(test_N),
    }
    return HeldOut(buildings=buildings, rows=rows, name=name)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


_: tuple[type[Buildings], ...] = (StoreBuildings, PointBuildings)
