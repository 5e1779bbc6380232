"""Training stores of synthetic earthquakes, whose damage depends on shaking and soil as known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from quakestream.config import open_run
from quakestream.synthetic import TRAINING, SizePreset, make_earthquake
from quakestream.synthetic.shaking import GRADES
from training.data.labels import LabelRequest, parse_scale
from training.data.run_store import (
    OnProgress,
    RunSource,
    ShardWorkers,
    StoreReport,
    StoreRequest,
    write_run_store,
)
from training.data.store import ChipStore
from training.data.synthetic import region_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticLabels:
    """The column of the truth that becomes the label."""

    column: str = "grade"
    classes: tuple[str, ...] = GRADES
    """Values of the column, mildest first."""


def synthetic_store(
    uri: str,
    seeds: Sequence[int],
    request: StoreRequest | None = None,
    *,
    labels: SyntheticLabels | None = None,
    size: SizePreset = TRAINING,
    workers: ShardWorkers | None = None,
    replace_store: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> tuple[ChipStore, StoreReport]:
    """Generates a town per seed and cuts its buildings with hazard values; a seed is a region.

    Chips are cut from the towns' own run files. Footprints are therefore as inaccurate, scenes as
    misaligned and hazard values as coarse as in inference.

    Raises:
        RequestError: if a class has no example, or there is a store already.
        StorageError: if the store cannot be written.
    """
    truth_labels = labels or SyntheticLabels()
    with TemporaryDirectory(prefix="quakestream-") as folder:
        sources = []
        for seed in seeds:
            town = make_earthquake(Path(folder) / str(seed), seed=seed, size=size)
            truth = LabelRequest(
                uri=str(town.truth),
                scale=parse_scale(truth_labels.classes),
                column=truth_labels.column,
            )
            sources.append(
                RunSource(
                    run=open_run(town.run_file),
                    labels=truth,
                    region=region_of(seed),
                    source=region_of(seed),  # scenes of all towns have the same names
                )
            )
            on_progress(f"generated {region_of(seed)}")
        return write_run_store(
            uri,
            sources,
            request or StoreRequest(),
            workers=workers,
            replace_store=replace_store,
            on_progress=on_progress,
        )
