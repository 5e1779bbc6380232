"""stac/: a STAC catalogue of a map, with what each product was made of and the models' records.

Products follow STAC 1.1 with the processing extension; models have the records of their bundles,
Items of the Machine Learning Model extension. Links are relative while the catalogue lies with the
map. Sizes and digests of products are in run.json, which each Item names.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from quakestream.outputs.areas import AOI
from quakestream.outputs.map_layers import MapLayers, model_names, models_of

PREFIX = "stac/"
STAC_VERSION = "1.1.0"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
SHIPPED = "shipped:"
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv"
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
JSON, GEOJSON = "application/json", "application/geo+json"
PRODUCTS = {
    "buildings": ("buildings.parquet", PARQUET, "One row per building: verdict or reason"),
    "landslides": ("landslides.parquet", PARQUET, "Landslides as polygons"),
    "coverage": ("coverage.parquet", PARQUET, "Cells: what was looked at, and what was not"),
    "summary": ("summary.csv", CSV, "Counts and expected numbers per district or square"),
    "areas": ("areas.parquet", PARQUET, "The AOI and the districts"),
    "quarantine": ("quarantine.parquet", PARQUET, "What was wrong with the inputs"),
    "prior": ("prior.tif", GEOTIFF, "Share of ground that slides, by shaking and terrain alone"),
}
"""File, media type and title of each product, by the id of its Item."""


def stac_files(layers: MapLayers) -> Iterator[tuple[str, bytes]]:
    """Names below the map and contents: a Collection, an Item per product, an Item per model."""
    models = {
        f"model-{model['name']}": _model(model, layers)
        for model in models_of(layers.run)
        if model.get("record")
    }
    items = {name: _item(name, layers, list(models)) for name in _names(layers)} | models
    yield f"{PREFIX}collection.json", _json(_collection(layers, list(items)))
    for name, item in items.items():
        yield f"{PREFIX}{name}.json", _json(item)


def _names(layers: MapLayers) -> list[str]:
    absent = {"landslides": layers.landslides is None, "prior": not layers.has_prior}
    return [name for name in PRODUCTS if not absent.get(name)]


def _ground(layers: MapLayers) -> BaseGeometry:
    """The AOI, or the box of what the map shows."""
    shapes = layers.areas.geometry[layers.areas["kind"] == AOI]
    box: BaseGeometry = shapely.box(*layers.cells.total_bounds)
    aoi: BaseGeometry | None = shapes.iloc[0] if len(shapes) else None
    return box if aoi is None else aoi


def _times(layers: MapLayers) -> list[str]:
    """First and last acquisition of the scenes, or the time of the event twice."""
    known = sorted(str(scene["datetime"]) for scene in layers.scenes)
    event = str((layers.run.get("event") or {}).get("time"))
    return [known[0], known[-1]] if known else [event, event]


def _item(name: str, layers: MapLayers, models: list[str]) -> dict[str, Any]:
    file, media_type, title = PRODUCTS[name]
    ground, (start, end) = _ground(layers), _times(layers)
    hrefs = [href for scene in layers.scenes if "://" in (href := str(scene["href"]))]
    parents = [{"rel": "derived_from", "href": href} for href in hrefs]  # files of a disk: lineage
    parents += [{"rel": "derived_from", "href": f"./{m}.json", "type": JSON} for m in models]
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROCESSING],
        "id": name,
        "collection": _collection_id(layers),
        "geometry": shapely.geometry.mapping(ground),
        "bbox": list(ground.bounds),
        "properties": {
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "title": title,
            "description": f"{layers.title}. {layers.note}",
            "processing:lineage": _lineage(layers),
            "processing:software": _software(layers),
        },
        "links": [*_family(), *parents],
        "assets": {
            "data": {
                "href": f"{layers.place}/{file}",
                "type": media_type,
                "title": title,
                "roles": ["data"],
            },
            "run": {
                "href": f"{layers.place}/run.json",
                "type": JSON,
                "title": "Inputs, versions, counts, and the size and digest of every product",
                "roles": ["metadata"],
            },
        },
    }


def _model(model: Mapping[str, Any], layers: MapLayers) -> dict[str, Any]:
    """The record of a bundle, whose files stay where the bundle is.

    Those of shipped bundles have no address: they come with quakestream.
    """
    record, folder = dict(model["record"]), str(model["uri"]).rstrip("/")
    properties = dict(record.get("properties", {}))
    assets = {
        key: asset | {"href": f"{folder}/{str(asset['href']).removeprefix('./')}"}
        for key, asset in record.get("assets", {}).items()
        if not folder.startswith(SHIPPED)
    }
    # STAC 1.1 allows bands of an Item that an asset has, too; `mlm:input` names them in any case
    bands = properties.pop("bands", None)
    if bands and "model" in assets:
        properties["bands"] = bands
        assets["model"]["bands"] = [{"name": band["name"]} for band in bands]
    links = [link for link in record.get("links", ()) if link.get("rel") != "self"]
    return {
        **record,
        "properties": properties,
        "id": f"model-{model['name']}",
        "collection": _collection_id(layers),
        "links": [*_family(), *links],
        "assets": assets,
    }


def _collection(layers: MapLayers, items: list[str]) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": _collection_id(layers),
        "title": layers.title,
        "description": layers.note,
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(_ground(layers).bounds)]},
            "temporal": {"interval": [_times(layers)]},
        },
        "links": [
            {"rel": "root", "href": "./collection.json", "type": JSON},
            *({"rel": "item", "href": f"./{n}.json", "type": GEOJSON} for n in items),
        ],
    }


def _collection_id(layers: MapLayers) -> str:
    return str(layers.run.get("run_id", "map"))


def _family() -> list[dict[str, str]]:
    relations = ("root", "parent", "collection")
    return [{"rel": rel, "href": "./collection.json", "type": JSON} for rel in relations]


def _lineage(layers: MapLayers) -> str:
    models = [
        f"{name} ({str(model['digest'])[:12]})"
        for model, name in zip(models_of(layers.run), model_names(layers.run), strict=True)
    ]
    scenes = ", ".join(str(scene["id"]) for scene in layers.scenes)
    return f"Models: {', '.join(models) or 'none'}. Scenes: {scenes or 'none'}."


def _software(layers: MapLayers) -> dict[str, str]:
    versions = layers.run.get("versions") or {}
    return {str(name): str(version) for name, version in versions.items()}


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
