"""Scenes of a run, after a look at their headers."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from quakestream.catalog import extent_issues
from quakestream.domain import Grid, Issue, Scene, View
from quakestream.errors import InputError, MissingExtraError, QuakestreamError, StorageError
from quakestream.pipeline.kinds.units import Unit
from quakestream.raster.probe import probe
from quakestream.storage import StorageOptions, protocol_of
from quakestream.storage.object_stores import has_s3_credentials

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
        causes: list[QuakestreamError] = []
        for href in _in_order(scene, options):
            try:
                return probe(replace(scene, href=href, alternates=()), options)
            except (InputError, StorageError, MissingExtraError) as error:
                causes.append(error)
        retryable = any(isinstance(cause, StorageError) for cause in causes)
        cause = "; ".join(str(one) for one in causes)
        return Issue(subject=scene.id, kind="scene", cause=cause, retryable=retryable)

    with ThreadPoolExecutor(PROBES) as pool:
        done = list(pool.map(one, scenes))
    good = [s for s in done if isinstance(s, Scene)]
    return EpochScenes(
        scenes=good,
        unusable=[s for s, d in zip(scenes, done, strict=True) if isinstance(d, Issue)],
        issues=[*(d for d in done if isinstance(d, Issue)), *extent_issues(good)],
    )


def _in_order(scene: Scene, options: StorageOptions) -> list[str]:
    """Places of a scene's file: the item's own first, but s3 without credentials last.

    Without credentials, each request to s3 waits for a cloud's metadata service first.
    """
    places = [scene.href, *scene.alternates]
    if has_s3_credentials(options):
        return places
    return sorted(places, key=lambda place: protocol_of(place) == "s3")


def used_scenes(units: Iterable[Unit], views: Sequence[View]) -> list[tuple[Scene, Grid]]:
    """Every scene that units read, with each grid it is read on, once."""
    used: dict[tuple[str, Grid], Scene] = {}
    for unit in units:
        for scene in (views[unit.view].post, views[unit.view].pre):
            if scene is not None:
                used.setdefault((scene.id, unit.cell.grid), scene)
    return [(scene, grid) for (_, grid), scene in used.items()]
