"""The processes that the service offers, in the shapes of OGC API – Processes 1.0."""

import json
from collections.abc import Mapping
from typing import Any

import shapely
from shapely import GEOSException

from quakestream.catalog.aoi import read_aoi
from quakestream.config import PROFILES
from quakestream.errors import RequestError
from quakestream.tiling import split_by_zone
from serving.jobs import ServiceJob
from serving.settings import Limits

CONFORMANCE = tuple(
    f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}"
    for name in ("core", "ogc-process-description", "json", "job-list", "dismiss")
)
"""Classes that tests hold the service to."""
MOST_VERTICES = 20_000
"""Vertices of an AOI."""
RESULTS: Mapping[str, tuple[str, str]] = {
    "buildings": ("buildings.parquet", "application/vnd.apache.parquet"),
    "summary": ("summary.csv", "text/csv"),
    "coverage": ("coverage.parquet", "application/vnd.apache.parquet"),
    "quarantine": ("quarantine.parquet", "application/vnd.apache.parquet"),
    "run": ("run.json", "application/json"),
    "landslides": ("landslides.parquet", "application/vnd.apache.parquet"),
}
"""Outputs of `map`: the product and its media type. A run without landslides has none of them."""


class LargeAreaError(RequestError):
    """The area is larger than the service takes."""


def link(href: str, rel: str, title: str, type_: str = "application/json") -> dict[str, str]:
    return {"href": href, "rel": rel, "type": type_, "title": title}


def summaries(runs: Mapping[str, str], base: str) -> list[dict[str, Any]]:
    """The processes as the list shows them."""
    hidden = ("inputs", "outputs")
    return [
        {k: v for k, v in process.items() if k not in hidden}
        for process in (description(name, runs, base) for name in ("map", "echo"))
        if process is not None
    ]


def description(name: str, runs: Mapping[str, str], base: str) -> dict[str, Any] | None:
    """The description of a process; None for another name."""
    process = {"map": _map_process, "echo": _echo_process}.get(name)
    if process is None:
        return None
    links = [
        link(f"{base}/processes/{name}", "self", "this process"),
        link(
            f"{base}/processes/{name}/execution",
            "http://www.opengis.net/def/rel/ogc/1.0/execute",
            "execute it",
        ),
    ]
    return {**process(runs), "links": links}


def _map_process(runs: Mapping[str, str]) -> dict[str, Any]:
    values = {
        "buildings": "One row per building: GeoParquet, or GeoJSON by value",
        "summary": "Counts per district or 500 m square",
        "coverage": "What was looked at",
        "quarantine": "Inputs that could not be used",
        "run": "Versions, inputs, counts and rates",
        "landslides": "One row per landslide, where the run looks for them",
    }
    return {
        "id": "map",
        "version": "1.0.0",
        "title": "Damage of the buildings in an area, and landslides",
        "description": "Maps an area with a run that the operator offers: scenes, footprints, "
        "hazard layers and model are those of the run.",
        "jobControlOptions": ["async-execute", "dismiss"],
        "outputTransmission": ["reference", "value"],
        "inputs": {
            "run": {
                "title": "Run to map with",
                "schema": {"type": "string", "enum": sorted(runs)},
                "minOccurs": 1 if len(runs) != 1 else 0,
            },
            "aoi": {
                "title": "Area, GeoJSON in WGS 84",
                "schema": {"type": "object", "format": "geojson-geometry"},
                "minOccurs": 1,
            },
            "profile": {
                "title": "Speed or thoroughness",
                "schema": {"type": "string", "enum": list(PROFILES), "default": "rapid"},
                "minOccurs": 0,
            },
        },
        "outputs": {
            name: {
                "title": title,
                "schema": {"type": "string", "contentMediaType": RESULTS[name][1]},
            }
            for name, title in values.items()
        },
    }


def _echo_process(_: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": "echo",
        "version": "1.0.0",
        "title": "Echo",
        "description": "Gives back its input, to try a client.",
        "jobControlOptions": ["sync-execute"],
        "outputTransmission": ["value"],
        "inputs": {
            "message": {"title": "Any text", "schema": {"type": "string", "maxLength": 1000}}
        },
        "outputs": {"message": {"title": "The same text", "schema": {"type": "string"}}},
    }


def status_info(job: ServiceJob, progress: int | None, base: str) -> dict[str, Any]:
    """The statusInfo of a job."""
    here = f"{base}/jobs/{job.id}"
    links = [link(here, "self", "this job")]
    if job.state == "successful":
        results = "http://www.opengis.net/def/rel/ogc/1.0/results"
        links.append(link(f"{here}/results", results, "results"))
    info: dict[str, Any] = {
        "jobID": job.id,
        "processID": job.process,
        "type": "process",
        "status": job.state,
        "message": job.message,
        "created": job.created.isoformat(),
        "links": links,
    }
    times = {"started": job.started, "finished": job.finished, "updated": job.updated}
    info |= {name: time.isoformat() for name, time in times.items() if time}
    if progress is not None:
        info["progress"] = progress
    if job.problem:
        info["problem"] = job.problem
    return info


def map_request(
    inputs: Mapping[str, Any], runs: Mapping[str, str], limits: Limits
) -> dict[str, Any]:
    """The checked inputs of `map`, as a job keeps them.

    Raises:
        RequestError: an input is missing, unknown or wrong, or the area is too large.
    """
    if unknown := sorted(set(inputs) - {"run", "aoi", "profile"}):
        raise RequestError("no such input", "inputs", "run, aoi, profile", ", ".join(unknown))
    only = next(iter(runs)) if len(runs) == 1 else None
    run = inputs.get("run", only)
    if not isinstance(run, str) or run not in runs:
        raise RequestError(
            "no such run", "inputs.run", ", ".join(sorted(runs)) or "none is offered", _shown(run)
        )
    profile = inputs.get("profile")
    if profile is not None and profile not in PROFILES:
        raise RequestError(
            "no such profile", "inputs.profile", ", ".join(PROFILES), _shown(profile)
        )
    wkt = aoi_wkt(inputs.get("aoi"), limits)
    return {"run": run, "aoi_wkt": wkt, "profile": profile}


def aoi_wkt(aoi: Any, limits: Limits) -> str:
    """The area of a GeoJSON geometry, feature or collection of features, as WKT.

    Raises:
        RequestError: it is no polygon of valid positions, or too large.
    """
    where = "inputs.aoi"
    geometries = list(_geometries(aoi))
    if not geometries:
        raise RequestError("no area", where, "a GeoJSON Polygon or MultiPolygon", _shown(aoi))
    try:
        shapes = [shapely.from_geojson(json.dumps(g, allow_nan=False)) for g in geometries]
    except (GEOSException, ValueError, TypeError, RecursionError):
        raise RequestError(
            "not GeoJSON", where, "a Polygon or MultiPolygon with positions [lon, lat]"
        ) from None
    if sum(int(shapely.get_num_coordinates(s)) for s in shapes) > MOST_VERTICES:
        raise RequestError("has too many vertices", where, f"at most {MOST_VERTICES:,}")
    if not any(s is not None and shapely.area(s) > 0 for s in shapes):
        empty = all(s is None or s.is_empty for s in shapes)
        raise RequestError(
            "the polygon is empty" if empty else "the polygon has no area",
            where,
            remedy="give each ring three or more corners that do not lie on one line",
        )
    union = shapely.unary_union([shapely.make_valid(shapely.force_2d(s)) for s in shapes])
    wkt: str = shapely.to_wkt(union, rounding_precision=7)
    area = read_aoi(wkt)
    km2 = sum(zone.area for zone in split_by_zone(area).values()) / 1e6
    if km2 > limits.area_km2:
        raise LargeAreaError(
            "the area is too large",
            where,
            expected=f"at most {limits.area_km2:g} km²",
            got=f"{km2:,.1f} km²",
            remedy="send smaller areas, or run `quakestream map` on a cluster",
        )
    return wkt


def _geometries(aoi: Any) -> list[Any]:
    if not isinstance(aoi, dict):
        return []
    if aoi.get("type") == "FeatureCollection":
        features = aoi.get("features")
        rows = features if isinstance(features, list) else []
        return [f.get("geometry") for f in rows if isinstance(f, dict) and f.get("geometry")]
    if aoi.get("type") == "Feature":
        return [aoi["geometry"]] if aoi.get("geometry") else []
    return [aoi] if aoi.get("type") in ("Polygon", "MultiPolygon") else []


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str) if value is not None else "nothing"
    return text if len(text) <= 80 else f"{text[:77]}..."
