"""The HTTP application, apart from what runs behind it."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator

from quakestream import __version__
from serving.problems import answer_with_problems
from serving.routes import ROUTERS
from serving.services import Context

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


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
    Instrumentator(excluded_handlers=["/healthz"]).instrument(api)
    api.add_middleware(BodyLimit, most=context.settings.limits.body_bytes)
    api.add_middleware(CorrelationIdMiddleware, header_name="X-Correlation-ID")
    return api


class BodyLimit:
    """Refuses bodies that are too large, as soon as that is known, and bodies that are packed.

    Args:
        app: the application.
        most: bytes of a body.
    """

    def __init__(self, app: Asgi, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
            await _refuse(send, 415, "packed", "send the body without Content-Encoding")
            return
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self._most:
            await self._too_large(send)
            return
        await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        count, answered = 0, False

        async def receive_counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self._most:
                raise _TooLargeError
            return message

        async def send_checked(message: Message) -> None:
            # Parsers of forms turn the error into another one: the answer is the same.
            nonlocal answered
            if count <= self._most:
                await send(message)
            elif not answered:
                answered = True
                await self._too_large(send)

        try:
            await self._app(scope, receive_counted, send_checked)
        except _TooLargeError:
            if not answered:
                await self._too_large(send)

    async def _too_large(self, send: Send) -> None:
        await _refuse(send, 413, "too-large", f"at most {self._most:,} bytes")


class _TooLargeError(Exception):
    """The body is larger than it may be."""


async def _refuse(send: Send, status: int, type_: str, detail: str) -> None:
    body = json.dumps(
        {"type": type_, "title": "the body is refused", "status": status, "detail": detail}
    ).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
