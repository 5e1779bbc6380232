"""The HTTP application, apart from what runs behind it."""

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator

from quakestream import __version__
from serving.access import TokenGate
from serving.bounds import BodyLimit, TimeLimit
from serving.problems import answer_with_problems
from serving.routes import ROUTERS
from serving.services import Context


def make_api(context: Context) -> FastAPI:
    """The application over a queue of jobs and engines."""
    api = FastAPI(
        title="quakestream",
        version=__version__,
        description="Damage of buildings after an earthquake. OGC API – Processes, and /predict.",
        redoc_url=None,
        docs_url=None,
        openapi_url=None,
    )
    api.state.context = context
    answer_with_problems(api)
    for router in ROUTERS:
        api.include_router(router)
    api.add_middleware(TokenGate, tokens=context.tokens)
    Instrumentator(excluded_handlers=["/healthz"]).instrument(api)
    api.add_middleware(TimeLimit, seconds=context.settings.limits.request_s)
    api.add_middleware(BodyLimit, most=context.settings.limits.body_bytes)
    api.add_middleware(CorrelationIdMiddleware, header_name="X-Correlation-ID")
    return api
