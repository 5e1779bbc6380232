"""`/processes`: what can be run, and running it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quakestream.errors import RequestError
from serving.access import InContext, Reader, Submitter
from serving.problems import no_such
from serving.processes import RESULTS, description, map_request, status_info, summaries
from serving.routes.landing import base_of
from serving.services import Context
from serving.tokens import Caller

router = APIRouter(tags=["processes"])
MOST_KEY_CHARS = 200
OLD_MODE = "mode"
"""A member of drafts of the standard (`async`, `sync`). Some clients send it still; the header
`Prefer` has taken its place."""


class Output(BaseModel):
    """How one output is wanted."""

    model_config = ConfigDict(extra="ignore")
    transmissionMode: Literal["reference", "value"] = "reference"


class Execution(BaseModel):
    """The body of an execution."""

    model_config = ConfigDict(extra="allow")  # `check_members` names those that are unknown
    inputs: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Output] | None = None
    response: Literal["document", "raw"] = "document"


def check_members(execution: Execution) -> None:
    """Checks that a request has no member that would be ignored.

    Raises:
        RequestError: if it has.
    """
    unknown = sorted(set(execution.model_extra or {}) - {OLD_MODE})
    if unknown:
        inputs = ("run", "aoi", "profile")
        remedy = "write it inside `inputs`" if any(name in inputs for name in unknown) else ""
        expected = ", ".join(Execution.model_fields)
        raise RequestError("no such member", "", expected, ", ".join(unknown)[:200], remedy)


@router.get("/processes")
async def processes(
    request: Request,
    context: InContext,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The processes."""
    base = base_of(request)
    return {
        "processes": summaries(context.settings.runs, base)[:limit],
        "links": [
            {"href": f"{base}/processes", "rel": "self", "type": "application/json"},
        ],
    }


@router.get("/processes/{process_id}")
async def process(
    process_id: str, request: Request, context: InContext, _: Reader
) -> dict[str, Any]:
    """The description of a process, with its inputs and outputs."""
    found = description(process_id, context.settings.runs, base_of(request))
    if found is None:
        raise no_such("process", process_id, "no-such-process")
    return found


@router.post("/processes/{process_id}/execution", status_code=201, response_model=None)
async def execute(
    process_id: str,
    execution: Execution,
    request: Request,
    response: Response,
    context: InContext,
    caller: Submitter,
    idempotency_key: Annotated[str, Header(max_length=MOST_KEY_CHARS)] = "",
) -> dict[str, Any] | Response:
    """Starts a process: `map` becomes a job, `echo` answers at once.

    The header `Idempotency-Key` names a request: the same one sent again gives the same job.
    """
    check_members(execution)
    if process_id == "echo":
        response.status_code = 200
        return _echo(execution)
    if process_id != "map":
        raise no_such("process", process_id, "no-such-process")
    return await _map(execution, request, response, context, caller, idempotency_key)


async def _map(
    execution: Execution,
    request: Request,
    response: Response,
    context: Context,
    caller: Caller,
    key: str,
) -> dict[str, Any]:
    settings = context.settings
    checked = map_request(execution.inputs, settings.runs, settings.limits)
    wanted = execution.outputs or {}
    if unknown := sorted(set(wanted) - set(RESULTS)):
        raise RequestError("no such output", "outputs", ", ".join(RESULTS), ", ".join(unknown))
    by_value = [n for n, output in wanted.items() if output.transmissionMode == "value"]
    checked |= {"outputs": list(wanted) or list(RESULTS), "by_value": by_value}
    checked |= {"response": execution.response}
    await context.places.check(settings.runs, checked)
    job = await context.services.submit(caller.name, "map", checked, key)
    base = base_of(request)
    response.headers["Location"] = f"{base}/jobs/{job.id}"
    if "respond-async" in request.headers.get("prefer", ""):
        response.headers["Preference-Applied"] = "respond-async"
    return status_info(job, None, base)


def _echo(execution: Execution) -> dict[str, Any] | Response:
    message = execution.inputs.get("message")
    if not isinstance(message, str) or len(message) > 1000:
        raise RequestError("no message", "inputs.message", "a text of at most 1,000 characters")
    if execution.response == "raw":
        return Response(message, media_type="text/plain; charset=utf-8")
    return {"message": message}
