"""Bounds of every request, held before the application sees it: size of the body, and time."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

STREAMS = "/events"
"""End of the paths that are answered little by little, and bound their time themselves."""
REFUSED = "the body is refused"
RETRY_S = 10


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
            detail = "send the body without Content-Encoding"
            await refuse(send, 415, "packed", REFUSED, detail)
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
        await refuse(send, 413, "too-large", REFUSED, f"at most {self._most:,} bytes")


class _TooLargeError(Exception):
    """The body is larger than it may be."""


class TimeLimit:
    """Answers for a request that takes too long.

    A client that has not sent its whole body is told so; for another one it is the service that
    is late.

    Args:
        app: the application.
        seconds: time from the first byte of a request to the first byte of its answer.
    """

    def __init__(self, app: Asgi, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(STREAMS):
            await self._app(scope, receive, send)
            return
        has_body, answered = False, False

        async def receive_watched() -> Message:
            nonlocal has_body
            message = await receive()
            has_body = not message.get("more_body", False)
            return message

        async def send_watched(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive_watched, send_watched)
        except TimeoutError:
            if answered:
                raise
            await self._late(send, has_body)

    async def _late(self, send: Send, has_body: bool) -> None:
        if has_body:
            detail = f"no answer within {self._seconds:g} s"
            await refuse(send, 503, "busy", "busy", detail, retry_s=RETRY_S)
        else:
            detail = f"no whole body within {self._seconds:g} s"
            await refuse(send, 408, "timeout", "the body came too slowly", detail)


async def refuse(
    send: Send,
    status: int,
    type_: str,
    title: str,
    detail: str,
    retry_s: int = 0,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Answers with a problem document, and closes the connection."""
    content = {"type": type_, "title": title, "status": status, "detail": detail}
    sent = [(b"content-type", b"application/problem+json"), (b"connection", b"close"), *headers]
    if retry_s:
        sent.append((b"retry-after", str(retry_s).encode()))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
