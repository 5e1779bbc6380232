"""Scenes of a run, after a look at their headers."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from quakestream.catalog import acquisitions, extent_issues, of_tiles
from quakestream.domain import Grid, Issue, Scene, View
from quakestream.errors import (
    BandOrderError,
    ConfigError,
    InputError,
    MissingExtraError,
    Problem,
    QuakestreamError,
    StorageError,
)
from quakestream.pipeline.kinds.units import Unit
from quakestream.pipeline.planning.silent_hosts import SilentHosts
from quakestream.raster.layer_probe import probe_layers
from quakestream.raster.probe import common_stretch, probe
from quakestream.storage import StorageOptions
from quakestream.storage.object_stores import in_order

PROBES = 8
"""Headers that are read at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochScenes:
    """Scenes of one epoch."""

    scenes: list[Scene]
    """Scenes with what their headers say; tiles of one acquisition are one scene."""
    unusable: list[Scene]
    """Scenes whose headers cannot be used, as the catalogue describes them."""
    issues: list[Issue]
    unclear: tuple[Problem, ...] = ()
    """Scenes whose bands the run file has to name, with what is known of them."""

    def listed(self) -> list[Scene]:
        """Everything the catalogue lists, with tiles that cannot be used in their acquisitions."""
        if not self.unusable:
            return self.scenes
        return acquisitions([*(part for s in self.scenes for part in s.parts), *self.unusable])


def probe_scenes(
    scenes: Sequence[Scene], options: StorageOptions, hosts: SilentHosts | None = None
) -> EpochScenes:
    """Reads the header of each scene; scenes that cannot be used become issues.

    Args:
        hosts: what is known of hosts, for searches that share them.
    """
    known = hosts or SilentHosts()
    unclear: dict[str, Problem] = {}

    def one(scene: Scene) -> Scene | Issue:
        causes: list[QuakestreamError] = []
        places = in_order([scene.href, *scene.alternates], options)
        for href in places[:1] if scene.layers else places:
            try:
                return _probed(scene, href, options, known)
            except (InputError, StorageError, MissingExtraError) as error:
                causes.append(error)
        retryable = any(isinstance(e, StorageError) for c in causes for e in (c, c.__cause__))
        unclear.update((scene.id, c.problem) for c in causes if isinstance(c, BandOrderError))
        cause = "; ".join(str(one) for one in causes)
        return Issue(subject=scene.id, kind="scene", cause=cause, retryable=retryable)

    with ThreadPoolExecutor(PROBES) as pool:
        done = list(pool.map(one, scenes))
    good = [s for s in done if isinstance(s, Scene)]
    return EpochScenes(
        scenes=[with_one_stretch(scene, options) for scene in acquisitions(good)],
        unusable=[s for s, d in zip(scenes, done, strict=True) if isinstance(d, Issue)],
        issues=[*(d for d in done if isinstance(d, Issue)), *extent_issues(good)],
        unclear=tuple(unclear[scene.id] for scene in scenes if scene.id in unclear),
    )


def _probed(scene: Scene, href: str, options: StorageOptions, hosts: SilentHosts) -> Scene:
    """A scene at one of its places, where that answers.

    Raises:
        InputError: if the file cannot be used.
        StorageError: if it cannot be read, or its host has been silent.
    """
    files = {layer.file.href: layer.file for layer in scene.layers if not layer.is_terrain}
    places = sorted(files) or [href]
    for place in places:
        if place not in files or not files[place].alternates:
            hosts.check(place)
    started = time.monotonic()
    try:
        if scene.layers:  # each layer has places of its own
            found = probe_layers(scene, options)
        else:
            found = probe(replace(scene, href=href, alternates=()), options)
    except (InputError, StorageError) as error:
        hosts.note(error.where if error.where in places else href, error, started)
        raise
    for place in places:
        hosts.note(place, None, started)
    return found


def check_bands(*epochs: EpochScenes) -> None:
    """Asks for `imagery.bands` where an epoch has no other scenes than those that need it.

    Scenes of one cause are one problem.

    Raises:
        ConfigError: if an epoch has no usable scene, and naming bands may change that.
    """
    together: dict[Problem, list[str]] = {}
    for problem in (p for epoch in epochs if not epoch.scenes for p in epoch.unclear):
        together.setdefault(replace(problem, where=""), []).append(problem.where)
    if together:
        raise ConfigError.of_all(
            replace(problem, where=places[0] + (f" and {len(places) - 1} more" * (len(places) > 1)))
            for problem, places in together.items()
        )


def with_one_stretch(scene: Scene, options: StorageOptions) -> Scene:
    """An acquisition whose tiles of 16 bits are brought to 8 bits alike."""
    if not scene.tiles or scene.stretch is None:
        return scene
    stretch = common_stretch(scene, options)
    return of_tiles([replace(tile, stretch=stretch) for tile in scene.tiles])


def used_scenes(units: Iterable[Unit], views: Sequence[View]) -> list[tuple[Scene, Grid]]:
    """Every file that units read, with each grid it is read on, once."""
    used: dict[tuple[str, Grid], Scene] = {}
    for view, grid in dict.fromkeys((unit.view, unit.cell.grid) for unit in units):
        for scene in views[view].files:
            used.setdefault((scene.id, grid), scene)
    return [(scene, grid) for (_, grid), scene in used.items()]
