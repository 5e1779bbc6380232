"""Who may do what: a gate before all routes, and the dependencies that each of them names."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers

from serving.bounds import Asgi, Receive, Scope, Send, refuse
from serving.jobs import ServiceJob
from serving.problems import UNAUTHORIZED, forbidden, no_such, too_many
from serving.services import Context
from serving.tokens import Caller, Permission, TokenFile

OPEN_PATHS = ("/healthz",)
"""Paths that need no token."""
SIGNED = "/view/"
"""Start of the paths that hold a signed link in place of a token."""
CALLER = "quakestream.caller"
"""Key of the caller in the scope of a request."""
UNKNOWN = "the token is unknown or has expired"
MISSING = "send the header `Authorization: Bearer TOKEN`"

_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer TOKEN`")


async def context_of(request: Request) -> Context:
    # Not a plain function: each of those costs a change of threads.
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(context_of)]


class TokenGate:
    """Refuses requests without a token that is known, before anything of their bodies is read.

    Args:
        app: the application.
        tokens: those that are known.
    """

    def __init__(self, app: Asgi, tokens: TokenFile) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            stated = Headers(raw=scope["headers"]).get("authorization")
            scheme, token = get_authorization_scheme_param(stated)
            has_one = scheme.lower() == "bearer" and bool(token)
            known = self._tokens.caller(token) if has_one else None
            if known is None:
                headers = ((b"www-authenticate", b"Bearer"),)
                detail = UNKNOWN if has_one else MISSING
                await refuse(send, 401, "unauthorized", UNAUTHORIZED, detail, headers=headers)
                return
            scope[CALLER] = known
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(SIGNED)


def caller_with(scope: Permission) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """A dependency that gives the caller, whose token must have a scope.

    It also counts the request against the token's rate.
    """

    async def caller(
        request: Request,
        context: InContext,
        _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],  # for OpenAPI
    ) -> Caller:
        known: Caller = request.scope[CALLER]
        if wait_s := context.rates.wait_s(known.name):
            limit = context.settings.limits.requests_per_minute
            raise too_many("too many requests", wait_s, f"at most {limit} a minute for a token")
        if not known.may(scope):
            raise forbidden(f"the token may not {scope}")
        return known

    return caller


Reader = Annotated[Caller, Depends(caller_with(Permission.READ))]
Submitter = Annotated[Caller, Depends(caller_with(Permission.SUBMIT))]
Admin = Annotated[Caller, Depends(caller_with(Permission.ADMIN))]


async def own_job(job_id: str, caller: Caller, context: Context) -> ServiceJob:
    """A job that the caller may see. One of another token looks like one that is not there."""
    job = await context.services.job(job_id)
    if job is None or not caller.sees(job.owner):
        raise no_such("job", job_id, "no-such-job")
    return job


async def visible_run(run_id: str, caller: Caller, context: Context) -> str:
    """The id of a map that the caller may see: one of the settings, or that of an own job."""
    if context.maps.is_public(run_id):
        return run_id
    job = await context.services.job(run_id)
    if job is None or not caller.sees(job.owner):
        raise no_such("run", run_id)
    return job.id
