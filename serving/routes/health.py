"""`/healthz` for load balancers, `/metrics` for Prometheus."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from quakestream.errors import QuakestreamError
from serving.access import InContext, Reader
from serving.problems import busy

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz(context: InContext) -> dict[str, Any]:
    """200 where every bundle passes its golden batch, else 503; no older than 10 s. It needs no
    token."""
    try:
        await context.health.check()
    except QuakestreamError as error:
        raise busy(f"a bundle does not work: {error.what}") from error
    return {"status": "ok"}


@router.get("/metrics", response_class=Response)
async def metrics(_: Reader) -> Response:
    """Requests, times and sizes of this process, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
