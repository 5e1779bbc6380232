"""Writes a synthetic earthquake: all inputs of the main job, and the known truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from quakestream.synthetic.collapse import Collapse, litter, paint_heaps
from quakestream.synthetic.files import (
    run_file_text,
    stac_item,
    write_catalogue,
    write_cog,
    write_vectors,
)
from quakestream.synthetic.hazard_files import (
    write_damage_proxy,
    write_shakemap,
    write_uncertainty,
    write_vs30,
)
from quakestream.synthetic.hillsides import paint_hillsides
from quakestream.synthetic.people import camps, tarpaulins, vehicles
from quakestream.synthetic.prior_files import write_prior_layers
from quakestream.synthetic.sensor import Acquisition, SceneImage, render
from quakestream.synthetic.settings import DEMO, SceneLayout, SizePreset, stream
from quakestream.synthetic.shaking import BuildingDamage, Shaking
from quakestream.synthetic.surface import (
    Roofs,
    Surface,
    Textures,
    paint_boxes,
    paint_ground,
    paint_roofs,
    roof_clutter,
    select,
)
from quakestream.synthetic.town import Town
from quakestream.synthetic.upland import Upland, make_upland, on_the_plain, slide_truth, write_dem
from quakestream.synthetic.world import SyntheticWorld, burn_polygons


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticEarthquake:
    """Paths of the files of a synthetic earthquake."""

    out: Path
    run_file: Path
    catalogue: Path
    footprints: Path
    truth: Path
    aoi: Path
    shakemap: Path
    vs30: Path
    dpm: Path
    dem: Path | None = None
    """Elevation; None where the ground is flat."""
    slides: Path | None = None
    """Outlines of landslides, the truth; None where there are none."""
    pre: tuple[Path, ...]
    """COGs of scenes before the event, in the order of the preset."""
    post: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Epochs:
    """A town, its damage, and its surface before and after the event."""

    world: SyntheticWorld
    town: Town
    shaking: Shaking
    damage: BuildingDamage
    upland: Upland | None
    pre: Surface
    post: Surface


def make_earthquake(
    out: Path, *, seed: int, size: SizePreset = DEMO, bad_inputs: bool = False
) -> SyntheticEarthquake:
    """Writes scenes, catalogue, hazard layers, footprints, truth and a run file.

    The same seed writes the same bytes on one machine.

    Args:
        out: folder; created if missing. Files of an earlier run are replaced.
        seed: any integer ≥ 0.
        size: extent and scenes.
        bad_inputs: adds an exact duplicate, a repeated id with another outline and an invalid
            polygon to the footprints, and an item without an asset to the catalogue.
    """
    out.mkdir(parents=True, exist_ok=True)
    event_id = f"synthetic-{seed}"
    epochs = make_epochs(seed, size)
    items, files = [], {}
    for layout in size.scenes:
        acquisition = Acquisition.random(seed, layout, size.variety)
        scene = scene_image(seed, epochs, layout, acquisition)
        path = out / "imagery" / layout.id / f"{layout.id}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_cog(path, scene, layout)
        items.append(stac_item(scene, layout, acquisition))
        files[layout.id] = path
    if bad_inputs:
        items.append(_item_without_asset(items[-1]))
    catalogue = write_catalogue(out / "imagery", items, event_id)
    paths = SyntheticEarthquake(
        out=out,
        run_file=out / "run.yaml",
        catalogue=catalogue,
        footprints=out / "footprints.geojson",
        truth=out / "truth.parquet",
        aoi=out / "aoi.geojson",
        shakemap=out / "shakemap" / "grid.xml",
        vs30=out / "vs30.tif",
        dpm=out / "dpm.tif",
        dem=out / "dem.tif" if size.hills else None,
        slides=out / "truth_landslides.parquet" if size.hills else None,
        pre=tuple(files[s.id] for s in size.scenes if s.epoch == "pre"),
        post=tuple(files[s.id] for s in size.scenes if s.epoch == "post"),
    )
    _write_layers(paths, seed, epochs, event_id)
    _write_vectors(paths, seed, epochs, bad_inputs)
    paths.run_file.write_text(run_file_text(size, event_id), encoding="utf-8")
    return paths


def make_epochs(seed: int, size: SizePreset) -> Epochs:
    """The town of a seed, painted before and after the event."""
    world = SyntheticWorld.of(size)
    town = Town.random(seed, size, world)
    shaking = Shaking.of(seed, world)
    upland = make_upland(seed, size, world, shaking)
    if upland is not None:
        town = on_the_plain(town, upland, world)
    buildings = town.buildings
    damage = BuildingDamage.random(seed, shaking, buildings.centre_N2, size.destroyed)
    traits = size.variety.traits(seed)
    collapse = Collapse.random(seed, buildings, damage, traits)
    textures = Textures.of(seed, world)
    id_YX = burn_polygons(world, list(buildings.polygons))
    pre = paint_ground(seed, world, town, textures)
    post = pre.copy()
    if upland is not None:
        for surface, slid in ((pre, False), (post, True)):
            where_YX = upland.painted_YX
            paint_hillsides(seed, surface, upland.hills, slid=slid, where_YX=where_YX)
    clutter, owner = roof_clutter(stream(seed, "clutter"), buildings, 1 / 45)
    paint_roofs(pre, world, buildings, Roofs.as_built(buildings), textures, id_YX)
    paint_boxes(pre, world, clutter, on_top=True)
    paint_heaps(seed, post, world, buildings, collapse, traits)
    paint_roofs(post, world, buildings, collapse.roofs, textures, id_YX)
    paint_boxes(post, world, select(clutter, collapse.whole[owner]), on_top=True)
    new, owner = roof_clutter(stream(seed, "new clutter"), buildings, 1 / 160, towers=False)
    paint_boxes(post, world, select(new, collapse.whole[owner]), on_top=True)
    paint_boxes(post, world, litter(seed, buildings, damage), on_top=True)
    paint_boxes(post, world, tarpaulins(seed, buildings, collapse.whole, 0.14), on_top=True)
    paint_boxes(post, world, camps(seed, town, world))
    return Epochs(
        world=world,
        town=town,
        shaking=shaking,
        damage=damage,
        upland=upland,
        pre=pre,
        post=post,
    )


def scene_image(
    seed: int, epochs: Epochs, layout: SceneLayout, acquisition: Acquisition
) -> SceneImage:
    """One scene, with the vehicles of its day."""
    surface = (epochs.pre if layout.epoch == "pre" else epochs.post).copy()
    busy = 4.5 if layout.epoch == "pre" else 3.5
    paint_boxes(surface, epochs.world, vehicles(seed, layout.id, epochs.town, busy))
    return render(seed, surface, epochs.world, layout, acquisition)


def _write_layers(paths: SyntheticEarthquake, seed: int, epochs: Epochs, event_id: str) -> None:
    write_shakemap(paths.shakemap, epochs.shaking, epochs.world, event_id)
    write_vs30(paths.vs30, epochs.shaking, epochs.world)
    write_damage_proxy(paths.dpm, seed, epochs.world, epochs.town.buildings, epochs.damage)
    if epochs.upland is not None and paths.dem is not None and paths.slides is not None:
        write_dem(paths.dem, epochs.upland, epochs.world)
        write_prior_layers(paths.out, epochs.upland, epochs.world)
        beside = paths.shakemap.with_name("uncertainty.xml")
        write_uncertainty(beside, epochs.shaking, epochs.world, event_id)
        write_vectors(paths.slides, slide_truth(epochs.upland, epochs.world))


def _write_vectors(paths: SyntheticEarthquake, seed: int, epochs: Epochs, bad: bool) -> None:
    """Writes the AOI, footprints with small position errors, and truth without errors."""
    world, damage = epochs.world, epochs.damage
    outlines = epochs.town.buildings.polygons
    ids = np.array([f"b{i:05d}" for i in range(len(outlines))], dtype=object)
    half = world.width_m / 2, world.height_m / 2
    area = world.to_lonlat(shapely.segmentize(shapely.box(-half[0], -half[1], *half), 100.0))
    write_vectors(paths.aoi, gpd.GeoDataFrame({"name": ["town"]}, geometry=[area], crs=4326))
    rng = stream(seed, "footprints")
    error = rng.normal(0.0, 0.45, (len(outlines), 2))
    error *= np.minimum(1.0, 1.0 / np.maximum(np.hypot(*error.T), 1e-9))[:, None]
    corners = shapely.get_coordinates(outlines)
    moved = corners + np.repeat(error, shapely.get_num_coordinates(outlines), axis=0)
    shifted = shapely.set_coordinates(outlines.copy(), moved)
    frame = gpd.GeoDataFrame({"id": ids}, geometry=world.to_lonlat(shifted), crs=4326)
    write_vectors(paths.footprints, _with_bad_rows(frame) if bad else frame)
    columns: dict[str, Any] = {
        "building_id": ids,
        "damage_label": np.where(damage.destroyed, "destroyed", "intact"),
        "grade": damage.grade,
        "severity": damage.severity.astype(np.float32),
        "p_destroyed": damage.p_destroyed.astype(np.float32),
        "vulnerability": damage.vulnerability.astype(np.float32),
        "mmi": damage.mmi.astype(np.float32),
        "vs30_m_s": damage.vs30_m_s.astype(np.float32),
    }
    truth = gpd.GeoDataFrame(columns, geometry=world.to_lonlat(outlines), crs=4326)
    write_vectors(paths.truth, truth)


def _with_bad_rows(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Footprints with an exact duplicate, a repeated id and a self-crossing polygon."""
    moved = frame.iloc[[1]].copy()
    moved.geometry = moved.geometry.translate(0.0002, 0.0)
    west, south, east, north = frame.geometry.iloc[2].bounds
    bow = shapely.Polygon([(west, south), (east, north), (east, south), (west, north)])
    crossed = gpd.GeoDataFrame({"id": ["crossed"]}, geometry=[bow], crs=4326)
    rows = [frame, frame.iloc[[0]], moved, crossed]
    parts: Any = [gpd.GeoDataFrame(part) for part in rows]
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=4326)


def _item_without_asset(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "id": "item-without-asset", "assets": {}}
