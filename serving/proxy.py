"""Middleware of Serve's HTTP proxy: it refuses chips early, and answers in problem documents.

A request that reaches an ingress has cost ten times the work of one that the proxy refuses. Where
many more chips come than are scored, those refusals would take the processor from the engine.

The proxy answers in plain text where no ingress is ready, too many requests wait, or one takes too
long. `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serving.proxy.middlewares` in its environment mends
that; `quakestream serve` sets it.
"""

import asyncio
import time
from contextlib import suppress
from http.client import responses

from starlette.middleware import Middleware

from serving.bounds import Asgi, Message, Receive, Scope, Send, refuse

RETRY_S = 10
CHIPS = "/predict"
UNWANTED_BYTES, UNWANTED_S = 2_000_000, 1.0
"""Most that is read of a chip which is refused, and the time for it."""
OWN = "/-/"
"""Start of the paths that Serve's proxy answers itself."""
FIRST_LIMIT = 64.0
LIMITS = (16.0, 512.0)
"""Least and most chips that one proxy lets through at the same time."""
LOWERED = 0.9
"""What is left of the limit after a refusal of an ingress."""


def middlewares() -> list[Middleware]:
    """Middleware for the proxy, the outer one first."""
    return [Middleware(PlainErrors), Middleware(OwnPages), Middleware(ChipGate)]


class ChipGate:
    """Lets as many chips through as ingresses take, and refuses the others at once.

    The limit falls when an ingress refuses a chip that came after the last fall, and rises by one
    for each limit's worth of answers, as TCP does with its window.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._limit = FIRST_LIMIT
        self._inside = 0
        self._lowered = float("-inf")
        self._retry_s = 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != CHIPS:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._limit:
            await _discard(receive)
            await refuse(send, 503, "busy", "busy", "too many chips wait", retry_s=self._retry_s)
            return
        began = time.monotonic()

        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._learn(message, began)
            await send(message)

        self._inside += 1
        try:
            await self._app(scope, receive, send_watched)
        finally:
            self._inside -= 1

    def _learn(self, message: Message, began: float) -> None:
        if message["status"] == 200:
            self._limit = min(self._limit + 1 / self._limit, LIMITS[1])
        elif message["status"] == 503:
            self._retry_s = _retry_s(message)
            if began > self._lowered:
                self._limit = max(min(self._limit, self._inside) * LOWERED, LIMITS[0])
                self._lowered = time.monotonic()


async def _discard(receive: Receive) -> None:
    """Reads a body that nobody wants: a connection that ends before that is reset at once."""
    left = UNWANTED_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(UNWANTED_S):
            more = True
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


def _retry_s(message: Message) -> int:
    headers = {name.lower(): value for name, value in message.get("headers", ())}
    stated = headers.get(b"retry-after", b"")
    return int(stated) if stated.isdigit() else 1


class OwnPages:
    """Hides the pages that Serve's proxy has itself: they need no token.

    Its health stays, which KubeRay asks for: one word, and whether the proxy knows where to go.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(OWN) and path != f"{OWN}healthz":
            await refuse(send, 404, "no-such-page", "no such page", "there is nothing here")
        else:
            await self._app(scope, receive, send)


class PlainErrors:
    """Makes the errors that Serve's proxy states in plain text problem documents.

    Its own texts hold names of processes and go to its log alone.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain_error(message):
                replaced = True
                await _problem(send, int(message["status"]))
            elif not replaced:
                await send(message)

        await self._app(scope, receive, send_problem)


def _is_plain_error(message: Message) -> bool:
    types = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
    return message["status"] >= 400 and not any(b"json" in value for value in types)


async def _problem(send: Send, status: int) -> None:
    if status in (429, 503):
        await refuse(send, status, "busy", "busy", "no process is free", retry_s=RETRY_S)
    else:
        title = responses.get(status, "failed").lower()
        await refuse(send, status, "failed", title, "the request was not answered")
