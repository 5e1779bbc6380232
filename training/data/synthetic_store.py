"""Training stores of synthetic earthquakes: damage whose link to shaking and soil is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from quakestream.config import open_run
from quakestream.synthetic import TRAINING, SizePreset, make_earthquake
from quakestream.synthetic.shaking import GRADES
from training.data.labels import LabelRequest, scale_of
from training.data.run_store import (
    Crew,
    RunSource,
    StoreReport,
    StoreRequest,
    Tell,
    write_run_store,
)
from training.data.store import ChipStore
from training.data.synthetic import region_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticLabels:
    """Which column of the truth is learnt."""

    column: str = "grade"
    classes: tuple[str, ...] = GRADES
    """Its values, mildest first."""


def synthetic_store(
    uri: str,
    seeds: Sequence[int],
    request: StoreRequest | None = None,
    *,
    labels: SyntheticLabels | None = None,
    size: SizePreset = TRAINING,
    crew: Crew | None = None,
    replace_store: bool = False,
    tell: Tell = lambda _: None,
) -> tuple[ChipStore, StoreReport]:
    """Makes a town per seed and cuts its buildings with hazard vectors, one region a seed.

    The towns' own run files are cut, so that footprints are as inaccurate, scenes as far off
    each other and hazard values as coarse as inference would have them.

    Raises:
        RequestError: if a class has no example, or there is a store already.
        StorageError: if the store cannot be written.
    """
    learnt = labels or SyntheticLabels()
    with TemporaryDirectory(prefix="quakestream-") as folder:
        sources = []
        for seed in seeds:
            made = make_earthquake(Path(folder) / str(seed), seed=seed, size=size)
            truth = LabelRequest(
                uri=str(made.truth), scale=scale_of(learnt.classes), column=learnt.column
            )
            sources.append(
                RunSource(
                    run=open_run(made.run_file),
                    labels=truth,
                    region=region_of(seed),
                    source=region_of(seed),  # scenes of all towns have the same names
                )
            )
            tell(f"made {region_of(seed)}")
        return write_run_store(
            uri,
            sources,
            request or StoreRequest(),
            crew=crew,
            replace_store=replace_store,
            tell=tell,
        )
