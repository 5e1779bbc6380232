"""The gate before all routes: who has no token is refused before a body is read."""

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from serving.access import CALLER, TokenGate
from serving.bounds import Message, Receive, Scope, Send
from serving.tokens import TokenFile
from tests.helpers.services import write_tokens


async def unread() -> Message:
    raise AssertionError("the body was read")


@pytest.mark.parametrize(
    ("path", "header", "who"),
    [
        ("/predict", "Bearer {ada}", "ada"),
        ("/predict", "bearer {ada}", "ada"),
        ("/healthz", "", "nobody"),
        ("/view/signed/", "", "nobody"),
        *((path, "", None) for path in ("/predict", "/nothing", "/healthz/", "/healthz/../jobs")),
        *((path, "", None) for path in ("/jobs/../view/x", "//view/x", "/view")),
        *(("/predict", wrong, None) for wrong in ("Bearer", "Bearer x", "{ada}", "Basic {ada}")),
        ("/predict", "Bearer {old}", None),
    ],
)
def test_who_comes_through(tmp_path: Path, path: str, header: str, who: str | None) -> None:
    tokens = write_tokens(tmp_path)
    came: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        came.append(scope[CALLER].name if CALLER in scope else "nobody")

    async def send(message: Message) -> None:
        sent.append(message)

    stated = [(b"authorization", header.format(**tokens.secret).encode())] if header else []
    scope = {"type": "http", "path": path, "headers": stated}
    asyncio.run(TokenGate(app, TokenFile(str(tokens.path)))(scope, unread, send))
    assert came == ([] if who is None else [who])
    if who is None:
        assert sent[0]["status"] == 401
        assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
        assert json.loads(sent[1]["body"])["type"] == "unauthorized"
