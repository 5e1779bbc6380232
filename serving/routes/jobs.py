"""`/jobs`: progress, results, and ending them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi_problem.error import Problem
from sse_starlette.sse import EventSourceResponse

from serving.access import InContext, Reader, Submitter, own_job
from serving.filters import JobFilter, job_filter
from serving.jobs import OPEN, ServiceJob, progress_of
from serving.problems import OGC, no_such
from serving.processes import link, status_info
from serving.results import results_of
from serving.routes.landing import base_of
from serving.services import Context
from serving.settings import LONGEST_REQUEST_S

router = APIRouter(tags=["jobs"])
PROGRESS_EVERY_S = 1.0


def asked_filter(
    types: Annotated[list[str], Query(alias="type")] = [],  # noqa: B006
    processes: Annotated[list[str], Query(alias="processID")] = [],  # noqa: B006
    states: Annotated[list[str], Query(alias="status")] = [],  # noqa: B006
    created: Annotated[str, Query(alias="datetime", max_length=100)] = "",
    least_s: Annotated[int | None, Query(alias="minDuration", ge=0)] = None,
    most_s: Annotated[int | None, Query(alias="maxDuration", ge=0)] = None,
) -> JobFilter:
    """Which jobs a request wants to see."""
    return job_filter(
        types=types,
        processes=processes,
        states=states,
        created=created,
        least_s=least_s,
        most_s=most_s,
    )


@router.get("/jobs")
async def jobs(
    request: Request,
    context: InContext,
    caller: Reader,
    kept: Annotated[JobFilter, Depends(asked_filter)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The jobs of the token, newest first; all jobs for `admin`."""
    base, now = base_of(request), datetime.now(UTC)
    found = await context.services.jobs()
    mine = [job for job in found if caller.sees(job.owner) and kept.keeps(job, now)]
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


@router.get("/jobs/{job_id}/results", response_model=None)
async def results(
    job_id: str, request: Request, context: InContext, caller: Reader
) -> dict[str, Any] | Response:
    """The outputs, by reference; by value where the request asked for it.

    A request with `"response": "raw"` gets its one output as the body, several as
    multipart/related, and references as `Link` headers of an empty answer (204).
    """
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
    return await asyncio.to_thread(results_of, made, context, base_of(request))


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
