"""Middleware of Serve's HTTP proxy: what it answers by itself, as problem documents.

The proxy answers in plain text where no ingress is ready, too many requests wait, or one takes too
long. `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serving.proxy.middlewares` in its environment mends
that; `quakestream serve` sets it.
"""

from http.client import responses

from starlette.middleware import Middleware

from serving.bounds import Asgi, Message, Receive, Scope, Send, refuse

RETRY_S = 10


def middlewares() -> list[Middleware]:
    """Middleware for the proxy."""
    return [Middleware(PlainErrors)]


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
