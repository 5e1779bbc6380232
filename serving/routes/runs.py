"""`/runs`: products and page of a map, and `/view`: the page through a signed link."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Query, Request, Response
from fastapi_problem.error import Problem

from quakestream.outputs.live import ZOOMS, LiveMap, live_part
from quakestream.outputs.pictures import READ_ERRORS
from quakestream.outputs.readback import current_object
from quakestream.storage.content_types import content_type
from serving.access import InContext, Reader, visible_run
from serving.problems import no_such
from serving.routes.landing import here_of
from serving.services import Context

router = APIRouter(tags=["runs"])
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})$")
_TILE = re.compile(r"(\d{1,2})/(\d{1,8})/(\d{1,8})(?:\.mvt)?$", re.ASCII)
_PAGE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


@router.get("/runs/{run_id}/tiles", response_class=Response)
async def tiles_of_run(
    run_id: str, request: Request, context: InContext, caller: Reader
) -> Response:
    """The TileJSON of a map: zooms, bounds, and layers with their fields."""
    return await _part(await visible_run(run_id, caller, context), "tiles", request, context)


@router.get("/runs/{run_id}/tiles/{z}/{x}/{y}", response_class=Response)
async def tile_of_run(
    run_id: str, z: str, x: str, y: str, request: Request, context: InContext, caller: Reader
) -> Response:
    """A Mapbox vector tile of a map, XYZ numbering; `.mvt` may follow the last number."""
    run = await visible_run(run_id, caller, context)
    return await _part(run, f"tiles/{z}/{x}/{y}", request, context)


@router.get("/runs/{run_id}/scenes")
async def scenes_of_run(
    run_id: str, request: Request, context: InContext, caller: Reader
) -> dict[str, Any]:
    """The scenes of a map, each with the address of its tiles and of a preview by bounds."""
    run = await visible_run(run_id, caller, context)
    live = await asyncio.to_thread(_live_map, run, context)
    here = here_of(request)
    return {"scenes": [_scene(record, here) for record in live.scene_records()]}


@router.get("/runs/{run_id}/scenes/{scene}/tiles/{z}/{x}/{y}", response_class=Response)
async def tile_of_scene(
    run_id: str,
    scene: str,
    z: str,
    x: str,
    y: str,
    request: Request,
    context: InContext,
    caller: Reader,
) -> Response:
    """A tile of a scene as WebP, XYZ numbering; the scene is named by its id in the run."""
    run = await visible_run(run_id, caller, context)
    return await _part(run, f"live/scenes/{scene}/{z}/{x}/{y}", request, context)


@router.get("/runs/{run_id}/scenes/{scene}/preview", response_class=Response)
async def preview_of_scene(
    run_id: str,
    scene: str,
    request: Request,
    context: InContext,
    caller: Reader,
    bounds: Annotated[str, Query(max_length=200, description="west,south,east,north in degrees")],
) -> Response:
    """A square around a building at full resolution, WebP."""
    run = await visible_run(run_id, caller, context)
    return await _part(run, f"live/scenes/{scene}/window", request, context)


@router.get("/runs/{run_id}/{path:path}", response_class=Response)
async def part_of_run(
    run_id: str, path: str, request: Request, context: InContext, caller: Reader
) -> Response:
    """A product of a map by its name, with byte ranges; the page; or a part of it."""
    return await _part(await visible_run(run_id, caller, context), path, request, context)


@router.get("/view/{signed}/{path:path}", response_class=Response)
async def part_of_view(signed: str, path: str, request: Request, context: InContext) -> Response:
    """The same through a link of `/jobs/{id}/results`, which needs no token and ends after a
    while."""
    run_id = context.links.run_of(signed)
    if run_id is None:
        raise Problem("the link has ended", type_="unauthorized", status=401)
    return await _part(run_id, path, request, context)


async def _part(run_id: str, path: str, request: Request, context: Context) -> Response:
    return await asyncio.to_thread(_answer, run_id, path, request, context)


def _live_map(run_id: str, context: Context) -> LiveMap:
    live = context.maps.live(run_id)
    if live is None:
        raise no_such("run", run_id)
    return live


def _scene(record: Mapping[str, Any], here: str) -> dict[str, Any]:
    address = f"{here}/{quote(str(record['id']), safe='')}"
    return {
        "id": record["id"],
        "datetime": record["datetime"],
        "gsd_m": record.get("gsd_m"),
        "minzoom": ZOOMS[0],
        "maxzoom": ZOOMS[-1],
        "tiles": [f"{address}/tiles/{{z}}/{{x}}/{{y}}"],
        "preview": f"{address}/preview?bounds={{west}},{{south}},{{east}},{{north}}",
    }


def _answer(run_id: str, path: str, request: Request, context: Context) -> Response:
    live = _live_map(run_id, context)
    if path == "":
        return _bytes(live.page(), "index.html")
    if path == "report.html":
        return _bytes(live.report(), path)
    if path.startswith("live/"):
        return _live(live, path.split("/")[1:], str(request.url.query))
    if path == "tiles":
        address = f"{here_of(request)}/{{z}}/{{x}}/{{y}}"
        return _bytes(json.dumps(live.tiles.description(address)).encode(), "tiles.json")
    if path.startswith("tiles/"):
        return _tile(live, path.removeprefix("tiles/"))
    names = {product["name"] for product in live.run["products"]} | {"run.json"}
    if path not in names:
        raise no_such("product", path)
    store = context.maps.store(run_id)
    data = store.get("run.json") if path == "run.json" else current_object(store, live.run, path)
    return _ranged(data, path, request.headers.get("range", ""))


def _tile(live: LiveMap, path: str) -> Response:
    place = _TILE.match(path)
    data = live.tiles.tile(*(int(n) for n in place.groups())) if place else None
    if data is None:
        raise no_such("tile", path)
    return _bytes(data, "tile.mvt")


def _live(live: LiveMap, parts: list[str], query: str) -> Response:
    try:
        data, name = live_part(live, parts, parse_qs(query))
    except READ_ERRORS:
        raise Problem(
            "the scene cannot be read by the service", type_="unreadable", status=502
        ) from None
    if data is None:
        raise no_such("part", "/".join(parts))
    return _bytes(data, name)


def _bytes(data: bytes, name: str) -> Response:
    return Response(data, media_type=content_type(name), headers=_PAGE_HEADERS)


def _ranged(data: bytes, name: str, ranges: str) -> Response:
    """An object, or the range of it that was asked for."""
    headers = {**_PAGE_HEADERS, "Accept-Ranges": "bytes"}
    asked = _RANGE.match(ranges)
    if asked is None:
        return Response(data, media_type=content_type(name), headers=headers)
    first = int(asked[1])
    last = min(int(asked[2]) if asked[2] else len(data) - 1, len(data) - 1)
    if first > last:
        raise Problem(
            "no such range",
            type_="range",
            status=416,
            headers={"Content-Range": f"bytes */{len(data)}"},
        )
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    part = data[first : last + 1]
    return Response(part, status_code=206, media_type=content_type(name), headers=headers)
