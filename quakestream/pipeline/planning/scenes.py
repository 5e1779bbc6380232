"""Scenes of a run, after a look at their headers."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from quakestream.catalog import extent_issues
from quakestream.domain import Grid, Issue, Scene, View
from quakestream.errors import InputError, StorageError
from quakestream.pipeline.kinds.units import Unit
from quakestream.raster.probe import probe
from quakestream.storage import StorageOptions

PROBES = 8
"""Headers that are read at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochScenes:
    """Scenes of one epoch."""

    scenes: list[Scene]
    """Scenes with what their headers say."""
    unusable: list[Scene]
    """Scenes whose headers cannot be used, as the catalogue describes them."""
    issues: list[Issue]


def probe_scenes(scenes: Sequence[Scene], options: StorageOptions) -> EpochScenes:
    """Reads the header of each scene; scenes that cannot be used become issues."""

    def one(scene: Scene) -> Scene | Issue:
        try:
            return probe(scene, options)
        except (InputError, StorageError) as error:
            retryable = isinstance(error, StorageError)
            return Issue(subject=scene.id, kind="scene", cause=str(error), retryable=retryable)

    with ThreadPoolExecutor(PROBES) as pool:
        done = list(pool.map(one, scenes))
    good = [s for s in done if isinstance(s, Scene)]
    return EpochScenes(
        scenes=good,
        unusable=[s for s, d in zip(scenes, done, strict=True) if isinstance(d, Issue)],
        issues=[*(d for d in done if isinstance(d, Issue)), *extent_issues(good)],
    )


def used_scenes(units: Iterable[Unit], views: Sequence[View]) -> list[tuple[Scene, Grid]]:
    """Every scene that units read, with each grid it is read on, once."""
    used: dict[tuple[str, Grid], Scene] = {}
    for unit in units:
        for scene in (views[unit.view].post, views[unit.view].pre):
            if scene is not None:
                used.setdefault((scene.id, unit.cell.grid), scene)
    return [(scene, grid) for (_, grid), scene in used.items()]
