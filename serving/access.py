"""Who may do what: the dependencies that every route names."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serving.jobs import ServiceJob
from serving.problems import forbidden, no_such, too_many, unauthorized
from serving.services import Context
from serving.tokens import Caller, Permission

_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer TOKEN`")


def context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(context_of)]


def caller_with(scope: Permission) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """A dependency that gives the caller, whose token must have a scope.

    It also counts the request against the token's rate.
    """

    async def caller(
        context: InContext,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Caller:
        if given is None:
            raise unauthorized("send the header `Authorization: Bearer TOKEN`")
        known = context.tokens.caller(given.credentials)
        if known is None:
            raise unauthorized("the token is unknown or has expired")
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
