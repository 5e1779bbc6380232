"""`/jobs`: progress, results, and ending them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi_problem.error import Problem
from sse_starlette.sse import EventSourceResponse

from quakestream.outputs.live import LiveMap
from quakestream.outputs.readback import current_buildings, current_object
from serving.access import InContext, Reader, Submitter, own_job
from serving.jobs import OPEN, ServiceJob, progress_of
from serving.problems import OGC, no_such
from serving.processes import RESULTS, link, status_info
from serving.routes.landing import base_of
from serving.services import Context
from serving.settings import LONGEST_REQUEST_S

router = APIRouter(tags=["jobs"])
PROGRESS_EVERY_S = 1.0


@router.get("/jobs")
async def jobs(
    request: Request,
    context: InContext,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The jobs of the token, newest first; all jobs for `admin`."""
    base = base_of(request)
    mine = [job for job in await context.services.jobs() if caller.sees(job.owner)]
    return {
        "jobs": [await _info(job, context, base) for job in mine[:limit]],
        "links": [link(f"{base}/jobs", "self", "jobs")],
    }


@router.get("/jobs/{job_id}")
async def job(job_id: str, request: Request, context: InContext, caller: Reader) -> dict[str, Any]:
    """The state of a job, with its progress in percent."""
    return await _info(await own_job(job_id, caller, context), context, base_of(request))


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
async def events(
    job_id: str, request: Request, context: InContext, caller: Reader
) -> EventSourceResponse:
    """Progress as server-sent events, until the job ends, or for 110 s: browsers connect again."""
    first = await own_job(job_id, caller, context)
    return EventSourceResponse(_progress(first, context, base_of(request)))


@router.get("/jobs/{job_id}/results")
async def results(
    job_id: str, request: Request, context: InContext, caller: Reader
) -> dict[str, Any]:
    """The outputs, by reference; by value where the request asked for it."""
    made = await own_job(job_id, caller, context)
    if made.state == "failed":
        fields: dict[str, Any] = dict(made.problem)
        raise Problem("the job failed", type_="job-failed", status=409, **fields)
    if made.state == "dismissed":
        raise no_such("job", job_id, "no-such-job")
    if made.state != "successful":
        raise Problem(
            "the result is not ready",
            type_=f"{OGC}result-not-ready",
            status=404,
            detail=f"the job is {made.state}",
        )
    return await asyncio.to_thread(_results, made, context, base_of(request))


@router.delete("/jobs/{job_id}")
async def dismiss(
    job_id: str, request: Request, context: InContext, caller: Submitter
) -> dict[str, Any]:
    """Ends a job, or removes a finished one with its map."""
    await own_job(job_id, caller, context)
    return status_info(await context.services.dismiss(job_id), None, base_of(request))


async def _info(job: ServiceJob, context: Context, base: str) -> dict[str, Any]:
    progress = await asyncio.to_thread(progress_of, context.store, job)
    return status_info(job, progress, base)


async def _progress(job: ServiceJob, context: Context, base: str) -> AsyncIterator[dict[str, Any]]:
    end = time.monotonic() + LONGEST_REQUEST_S
    while True:
        data = json.dumps(await _info(job, context, base))
        yield {"event": "status", "data": data, "retry": round(1000 * PROGRESS_EVERY_S)}
        if job.state not in OPEN or time.monotonic() > end:
            return
        await asyncio.sleep(PROGRESS_EVERY_S)
        found = await context.services.job(job.id)
        if found is None:
            return
        job = found


def _results(job: ServiceJob, context: Context, base: str) -> dict[str, Any]:
    live = context.maps.live(job.id)
    if live is None:
        raise no_such("run", job.id)
    answer: dict[str, Any] = {}
    made = {product["name"] for product in live.run["products"]} | {"run.json"}
    for name in job.request["outputs"]:
        product, media_type = RESULTS[name]
        if product not in made:
            continue
        if name in job.request["by_value"]:
            answer[name] = _value(name, live, job, context)
        else:
            answer[name] = {"href": f"{base}/runs/{job.id}/{product}", "type": media_type}
    answer["links"] = [
        link(f"{base}/view/{context.links.sign(job.id)}/", "preview", "the map", "text/html")
    ]
    return answer


def _value(name: str, live: LiveMap, job: ServiceJob, context: Context) -> Any:
    """An output by value: GeoJSON of the buildings, objects of JSON, text of the others."""
    store = context.maps.store(job.id)
    if name == "run":
        return live.run
    if name == "buildings":
        rows = current_buildings(store, live.run)
        most = context.settings.limits.rows_by_value
        if len(rows) > most:
            raise Problem(
                "too many buildings to send by value",
                type_="too-large",
                status=413,
                detail=f"{len(rows):,} buildings, at most {most:,}; ask for a reference",
            )
        columns = ["building_id", "status", "reason", "damage_label", "confidence", "geometry"]
        return rows[columns].to_geo_dict()
    product = RESULTS[name][0]
    if product.endswith(".csv"):
        return current_object(store, live.run, product).decode()
    raise Problem(
        f"{name} is sent by reference only", type_="invalid-request", status=400, where=name
    )
