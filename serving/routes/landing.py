"""`/` and `/conformance`."""

from typing import Any

from fastapi import APIRouter, Request

from serving.access import Reader
from serving.processes import CONFORMANCE, link
from serving.services import Context

router = APIRouter(tags=["landing"])


def base_of(request: Request) -> str:
    """Address of the service without a slash at the end: that of the settings, or the client's."""
    context: Context = request.app.state.context
    return (context.settings.url or str(request.base_url)).rstrip("/")


def here_of(request: Request) -> str:
    """Address of the page of a request, without its query and a slash at the end."""
    return f"{base_of(request)}{request.url.path}".rstrip("/")


@router.get("/")
async def landing(request: Request, _: Reader) -> dict[str, Any]:
    """What the service is and where its parts are."""
    base = base_of(request)
    ogc = "http://www.opengis.net/def/rel/ogc/1.0"
    return {
        "title": "quakestream",
        "description": "Damage of buildings after an earthquake, from satellite scenes",
        "links": [
            link(f"{base}/", "self", "this page"),
            link(f"{base}/openapi.json", "service-desc", "OpenAPI", _OPENAPI),
            link(f"{base}/conformance", f"{ogc}/conformance", "conformance classes"),
            link(f"{base}/processes", f"{ogc}/processes", "processes"),
            link(f"{base}/jobs", f"{ogc}/job-list", "jobs"),
        ],
    }


_OPENAPI = "application/vnd.oai.openapi+json;version=3.1"


@router.get("/conformance")
async def conformance(_: Reader) -> dict[str, Any]:
    """The conformance classes of OGC API – Processes that hold."""
    return {"conformsTo": list(CONFORMANCE)}


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request, _: Reader) -> dict[str, Any]:
    """The OpenAPI description."""
    description: dict[str, Any] = request.app.openapi()
    return description
