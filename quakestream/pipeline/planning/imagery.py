"""Finds the scenes of each bundle of a run in one catalogue.

What a bundle takes decides which items serve it: red, green and blue of `imagery.asset` for models
of counts, bands by name for models of physical values. Pixel sizes decide later (`sharp`).
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shapely.geometry.base import BaseGeometry

from quakestream.catalog import SearchResult, find_items, search
from quakestream.catalog.search import LackingItem
from quakestream.config import ImagerySection, RunFile
from quakestream.domain import BandNeed, BundleSpec, Issue, LayerFile, Scene, SceneLayer
from quakestream.errors import ConfigError, HazardError
from quakestream.hazard.dem_files import dem_version
from quakestream.hazard.terrain import open_dem
from quakestream.pipeline.planning.assignment import sharp
from quakestream.pipeline.planning.event_time import check_event, check_some_after
from quakestream.pipeline.planning.no_imagery import no_imagery
from quakestream.pipeline.planning.scenes import EpochScenes, check_bands, probe_scenes
from quakestream.pipeline.planning.silent_hosts import SilentHosts

NAMED = 3
"""Items that one message names."""


_Bands = tuple[BandNeed | None, tuple[str, ...]]
"""What a bundle takes of scenes: the bands that are searched for, and all its channels in order.
Bundles of counts take the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImagery:
    """The scenes of a run."""

    of_bands: dict[_Bands, tuple[EpochScenes, EpochScenes]]
    """Scenes after and before the event, by what bundles take."""
    issues: tuple[Issue, ...]
    notes: tuple[str, ...]

    def of(self, spec: BundleSpec) -> tuple[EpochScenes, EpochScenes]:
        """Scenes after and before the event that serve a bundle."""
        return self.of_bands[_bands(spec)]


def _bands(spec: BundleSpec) -> _Bands:
    need = spec.band_need
    return (None, ()) if need is None else (need, spec.bands)


def find_imagery(run: RunFile, aoi: BaseGeometry, specs: Sequence[BundleSpec]) -> FoundImagery:
    """Searches the catalogue once and reads the headers of what bundles can use.

    Bundles that take the same bands share their scenes. An item that serves one bundle of the run
    is no issue where another cannot use it.

    Raises:
        NoImageryError: if no post-event scene lies in the AOI, or all of them are from before the
            event.
        ConfigError: if event.time lies in the future, no post-event scene offers the bands of a
            bundle, nothing says which bands of the only scenes are red, green and blue, or the run
            gives no elevation model for terrain channels.
        StorageError: if the store or service fails.
    """
    check_event(run, dt.datetime.now(dt.UTC))
    options = run.storage_options
    alike: dict[_Bands, list[BundleSpec]] = {}
    for spec in specs:
        _check_terrain(run, spec)
        alike.setdefault(_bands(spec), []).append(spec)
    harvest = find_items(run.imagery, aoi, options)
    found = {
        bands: search(_epochs(run, some), aoi, options, need=bands[0], harvest=harvest)
        for bands, some in alike.items()
    }
    for bands, result in found.items():
        if _is_empty(alike[bands][0], result):
            raise no_imagery(run, aoi, harvest, result)
    days_early = check_some_after(run, found.values())
    usable: dict[_Bands, tuple[EpochScenes, EpochScenes]] = {}
    taken: set[str] = set()
    hosts = SilentHosts()
    for bands in sorted(found, key=lambda bands: bands[0] is not None):  # counts come first
        one, some = found[bands], alike[bands]
        post, pre = (_complete(run, some[0], s, taken) for s in (one.post, one.pre))
        usable[bands] = probe_scenes(post, options, hosts), probe_scenes(pre, options, hosts)
        if bands[0] is None:
            taken = {i for spec in some for epoch in usable[bands] for i in _used(epoch, spec)}
    for epochs in usable.values():
        check_bands(*epochs)
    probed = [issue for post, pre in usable.values() for issue in (*post.issues, *pre.issues)]
    names = [(", ".join(spec.name for spec in alike[bands]), one) for bands, one in found.items()]
    return FoundImagery(
        of_bands=usable,
        issues=(*_item_issues(list(found.values())), *_too_early(days_early), *probed),
        notes=tuple(dict.fromkeys(_notes(names))),
    )


def _too_early(days_early: Mapping[str, int]) -> Iterator[Issue]:
    """Issues of post scenes that were acquired before the event."""
    for name, days in days_early.items():
        cause = (
            f"taken as an image after the event, and acquired {days:,} days before it; check "
            "event.time and imagery.post.datetime"
        )
        yield Issue(subject=name, kind="scene", cause=cause)


def _epochs(run: RunFile, specs: Sequence[BundleSpec]) -> ImagerySection:
    """What is searched for. Bundles for post imagery alone need no pre scenes."""
    if any(spec.needs_pre for spec in specs):
        return run.imagery
    return run.imagery.model_copy(update={"pre": None})


def _check_terrain(run: RunFile, spec: BundleSpec) -> None:
    if not spec.takes_reflectance or not spec.terrain_bands:
        return
    if run.terrain is None:
        raise ConfigError(
            f"bundle {spec.name} takes {' and '.join(spec.terrain_bands)}",
            "terrain.dem",
            expected="an elevation model",
            got="none",
            remedy="add terrain: {dem: dem.tif}",
        )
    try:
        with open_dem(run.terrain.elevation, run.storage_options):
            pass
    except HazardError as error:
        raise ConfigError.of(
            replace(error.problem, where=f"terrain.dem: {run.terrain.elevation}")
        ) from error


def _is_empty(spec: BundleSpec, result: SearchResult) -> bool:
    """True where no post scene lies in the AOI.

    Raises:
        ConfigError: if those that do lack bands that the bundle takes.
    """
    lacking = [item for item in result.lacking if item.epoch == "post"]
    if result.post or (result.issues and not lacking):
        return False
    if not lacking:
        return True
    assert spec.band_need is not None
    missing = [b for b in spec.band_need.bands if any(b in item.missing for item in lacking)]
    raise ConfigError(
        f"no post-event scene offers {', '.join(missing)}, which bundle {spec.name} takes",
        "imagery.catalog",
        expected=f"{len(spec.band_need.bands)} bands: {', '.join(spec.band_need.bands)}",
        got=_offers(lacking),
        remedy="name a catalogue of scenes with these bands, or another bundle",
    )


def _offers(lacking: Sequence[LackingItem]) -> str:
    """What items offer, such as `red, green, blue in 2 scenes (a, b)`."""
    by_offer: dict[tuple[str, ...], list[str]] = {}
    for item in lacking:
        by_offer.setdefault(item.offered, []).append(item.id)
    return "; ".join(
        f"{', '.join(offer) or 'no named band'} in {_scenes(ids)}"
        for offer, ids in by_offer.items()
    )


def _scenes(ids: list[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    noun = "scene" if len(ids) == 1 else "scenes"
    return f"{len(ids)} {noun} ({', '.join(ids[:NAMED])}{more})"


def _used(scenes: EpochScenes, spec: BundleSpec) -> list[str]:
    """Ids of the scenes that are sharp enough for a bundle."""
    return [part.id for scene in sharp(scenes.scenes, spec) for part in scene.parts]


def _complete(run: RunFile, spec: BundleSpec, scenes: list[Scene], taken: set[str]) -> list[Scene]:
    """Scenes with all channels of a bundle, under ids that are unique in the run.

    An item may be read as a picture by one bundle and as reflectance by another.

    Args:
        taken: ids of scenes that are read as pictures.
    """
    if not spec.takes_reflectance or not scenes:
        return scenes
    apart = [
        replace(scene, id=f"{scene.id}:{spec.name}") if scene.id in taken else scene
        for scene in scenes
    ]
    return _with_terrain(run, spec, apart)


def _with_terrain(run: RunFile, spec: BundleSpec, scenes: list[Scene]) -> list[Scene]:
    """Scenes with the terrain channels of a bundle, each at its place."""
    if not spec.terrain_bands:
        return scenes
    assert run.terrain is not None
    dem = run.terrain.elevation
    file = LayerFile(href=dem, etag=dem_version(dem, run.storage_options))

    def complete(scene: Scene) -> Scene:
        bands = {layer.name: layer for layer in scene.layers}
        terrain = {name: SceneLayer(name=name, file=file) for name in spec.terrain_bands}
        return replace(scene, layers=tuple((bands | terrain)[name] for name in spec.bands))

    return [complete(scene) for scene in scenes]


def _item_issues(found: Sequence[SearchResult]) -> list[Issue]:
    """Issues of items that serve no bundle."""
    used = {scene.id for one in found for scene in (*one.post, *one.pre)}
    issues = [issue for one in found for issue in one.issues]
    return [i for i in issues if i.kind != "item" or i.subject not in used or len(found) == 1]


def _notes(found: Sequence[tuple[str, SearchResult]]) -> list[str]:
    """Oddities of items, and which of them lack bands.

    Args:
        found: what was found, with the names of the bundles that it is for.
    """
    notes = [note for _, one in found for note in one.notes]
    for names, one in found:
        if one.lacking and (one.post or one.pre):
            items = _scenes([item.id for item in one.lacking])
            notes.append(f"not used for bundle {names}, whose bands they lack: {items}")
    return notes
