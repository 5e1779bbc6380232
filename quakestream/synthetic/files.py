"""Writes the files of a user: COGs, a static STAC catalogue, vectors, a run file."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from pyproj import Transformer

from quakestream.synthetic.sensor import Acquisition, SceneImage
from quakestream.synthetic.settings import (
    EVENT_TIME,
    GSD_M,
    PRIOR_LAYERS,
    SceneLayout,
    SizePreset,
)
from quakestream.synthetic.world import transform_points

_STAC_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
)


def write_cog(path: Path, scene: SceneImage, layout: SceneLayout) -> None:
    """Writes a Cloud-Optimised GeoTIFF with overviews, 512 px blocks and time in the TIFF tag."""
    height, width = scene.valid_YX.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 3,
        "dtype": "uint8",
        "crs": f"EPSG:{scene.epsg}",
        "transform": scene.transform,
        "photometric": "RGB",
    }
    holes = not bool(scene.valid_YX.all())
    if layout.nodata == "zero":
        profile["nodata"] = 0
    creation = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "LEVEL": "6"}
    if layout.codec == "jpeg":
        creation = {"COMPRESS": "JPEG", "QUALITY": "90", "OVERVIEW_QUALITY": "90"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_NUM_THREADS="2"),
        rasterio.MemoryFile() as memory,
    ):
        with memory.open(**profile) as dataset:
            dataset.write(scene.pixels_BYX)
            if holes and layout.nodata == "mask":
                dataset.write_mask(scene.valid_YX)
            dataset.update_tags(TIFFTAG_DATETIME=layout.acquired.strftime("%Y:%m:%d %H:%M:%S"))
        with memory.open() as dataset:
            rasterio.shutil.copy(
                dataset,
                path,
                driver="COG",
                BLOCKSIZE="512",
                OVERVIEW_RESAMPLING="AVERAGE",
                **creation,
            )


def scene_outline(scene: SceneImage, layout: SceneLayout) -> Any:
    """Outline of a scene in the catalogue, EPSG:4326."""
    height, width = scene.valid_YX.shape
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    if layout.exact_outline and layout.slant_deg:
        rows = [0, height - 1]
        ends = [np.flatnonzero(scene.valid_YX[row])[[0, -1]] for row in rows]
        corners = np.array(
            [
                [ends[0][0], 0],
                [ends[0][1] + 1, 0],
                [ends[1][1] + 1, height],
                [ends[1][0], height],
            ],
            dtype=np.float64,
        )
    ground = transform_points(scene.transform, corners)
    to_lonlat = Transformer.from_crs(f"EPSG:{scene.epsg}", "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform(ground[:, 0], ground[:, 1])
    return shapely.Polygon(np.round(np.column_stack([lon, lat]), 7))


def stac_item(scene: SceneImage, layout: SceneLayout, acquisition: Acquisition) -> dict[str, Any]:
    """A STAC item of a scene, with the COG beside it as asset `visual`."""
    outline = scene_outline(scene, layout)
    t: Affine = scene.transform
    clouds = 100.0 * scene.cloud_YX.sum() / max(int(scene.valid_YX.sum()), 1)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_STAC_EXTENSIONS),
        "id": layout.id,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {
            "datetime": layout.acquired.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "gsd": GSD_M,
            "eo:cloud_cover": round(float(clouds), 1),
            "view:off_nadir": round(acquisition.off_nadir_deg, 1),
            "view:sun_azimuth": round(acquisition.sun_azimuth_deg, 1),
            "view:sun_elevation": round(acquisition.sun_elevation_deg, 1),
            "proj:code": f"EPSG:{scene.epsg}",
            "proj:shape": list(scene.valid_YX.shape),
            "proj:transform": [t.a, t.b, t.c, t.d, t.e, t.f],
        },
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
        ],
        "assets": {
            "visual": {
                "href": f"./{layout.id}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["visual"],
                "title": "True colour",
            }
        },
    }


def write_catalogue(folder: Path, items: list[dict[str, Any]], event_id: str) -> Path:
    """Writes a static catalogue: `catalog.json` and one folder per item."""
    links: list[dict[str, str]] = [
        {"rel": "root", "href": "./catalog.json", "type": "application/json"}
    ]
    for item in items:
        href = f"./{item['id']}/{item['id']}.json"
        links.append({"rel": "item", "href": href, "type": "application/geo+json"})
        _write_json(folder / href, item)
    catalogue = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": event_id,
        "title": "Synthetic earthquake",
        "description": "Scenes of a synthetic town before and after a synthetic earthquake.",
        "links": links,
    }
    path = folder / "catalog.json"
    _write_json(path, catalogue)
    return path


def write_vectors(path: Path, frame: gpd.GeoDataFrame) -> None:
    """Writes GeoParquet for `.parquet`, else GeoJSON."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
        return
    _write_json(path, json.loads(frame.to_json(drop_id=True)))


def run_file_text(preset: SizePreset, event_id: str) -> str:
    """The text of the run file of the main job."""
    last = max(s.acquired for s in preset.scenes) + timedelta(days=1)
    first = min(s.acquired for s in preset.scenes) - timedelta(days=1)
    post = f"{EVENT_TIME:%Y-%m-%d}/{last:%Y-%m-%d}"
    pre = f"{first:%Y-%m-%d}/{EVENT_TIME - timedelta(days=1):%Y-%m-%d}"
    terrain, landslide = "", ""
    if preset.hills:
        layers = ", ".join(f"{name}: {name}.tif" for name in ("dem", *PRIOR_LAYERS))
        terrain, landslide = f"terrain:    {{{layers}}}\n", ", landslide: landslide-rgb"
    return f"""\
# A synthetic earthquake, made by quakestream. The known truth is in truth.parquet.
event:      {{id: {event_id}, time: {EVENT_TIME:%Y-%m-%dT%H:%M:%SZ}}}
aoi:        aoi.geojson
imagery:
  catalog:  imagery/catalog.json
  asset:    visual
  post:     {{datetime: {post}, max_cloud: 60, max_off_nadir: 40}}
  pre:      {{datetime: {pre}}}
  views:    best
footprints: {{path: footprints.geojson, id: id}}
hazard:
  shakemaps: [shakemap/grid.xml]
  vs30:     vs30.tif
  layers:   {{dpm: dpm.tif}}
{terrain}models:     {{damage: damage-synthetic{landslide}}}
profile:    rapid
out:        out
"""


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
