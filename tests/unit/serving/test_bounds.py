"""Bounds of requests: what is slow, and what Serve's proxy says by itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from serving.bounds import Asgi, Message, Receive, Scope, Send, TimeLimit, refuse
from serving.proxy import ChipGate, OwnPages, PlainErrors


class Answering:
    """Reads the body, waits, and answers."""

    def __init__(self, status: int, type_: bytes, wait_s: float = 0.0) -> None:
        self.status, self.type, self.wait_s = status, type_, wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(self.wait_s)
        start: Message = {"type": "http.response.start", "status": self.status}
        await send(start | {"headers": [(b"content-type", self.type)]})
        await send({"type": "http.response.body", "body": b"actor 7f3a", "more_body": True})
        await send({"type": "http.response.body", "body": b" died"})


def answer(app: Asgi, content: Any = b"", path: str = "/") -> httpx.Response:
    async def main() -> httpx.Response:
        transport: Any = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(path, content=content)

    return asyncio.run(main())


def test_an_answer_in_time_is_left_alone() -> None:
    fast = answer(TimeLimit(Answering(200, b"text/plain"), 1.0))
    assert (fast.status_code, fast.text) == (200, "actor 7f3a died")
    stream = answer(TimeLimit(Answering(200, b"text/plain", 0.05), 0.01), path="/jobs/x/events")
    assert stream.status_code == 200


def test_a_late_answer_is_503_and_a_slow_body_408() -> None:
    late = answer(TimeLimit(Answering(200, b"text/plain", 5.0), 0.02))
    assert late.status_code == 503
    assert late.json()["detail"] == "no answer within 0.02 s"
    assert int(late.headers["retry-after"]) > 0

    async def drops() -> AsyncIterator[bytes]:
        for _ in range(100):
            await asyncio.sleep(0.01)
            yield b"a"

    slow = answer(TimeLimit(Answering(200, b"text/plain"), 0.05), drops())
    assert slow.status_code == 408
    for problem in (late, slow):
        assert problem.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("status", "type_", "becomes"),
    [
        (503, b"text/plain", {"type": "busy", "title": "busy", "detail": "no process is free"}),
        (500, b"text/plain", {"type": "failed", "title": "internal server error"}),
        (404, b"application/problem+json", None),
        (200, b"text/plain", None),
    ],
)
def test_errors_of_the_proxy_become_problem_documents(
    status: int, type_: bytes, becomes: dict[str, str] | None
) -> None:
    found = answer(PlainErrors(Answering(status, type_)))
    assert found.status_code == status
    if becomes is None:
        assert found.text == "actor 7f3a died"
        return
    assert found.headers["content-type"] == "application/problem+json"
    assert becomes.items() <= found.json().items()
    assert "actor" not in found.text
    assert ("retry-after" in found.headers) == (status == 503)


@pytest.mark.parametrize(
    ("path", "status"), [("/-/routes", 404), ("/-/", 404), ("/-/healthz", 200), ("/jobs", 200)]
)
def test_pages_of_the_proxy_itself_are_hidden(path: str, status: int) -> None:
    found = answer(OwnPages(Answering(200, b"text/plain")), path=path)
    assert found.status_code == status
    if status == 404:
        assert found.headers["content-type"] == "application/problem+json"


def test_the_proxy_refuses_what_an_ingress_would() -> None:
    """An ingress takes 24 chips at a time. The proxy learns that from its first refusal."""
    ingress = Ingress(places=24)

    async def main() -> list[httpx.Response]:
        transport: Any = httpx.ASGITransport(app=ChipGate(ingress))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            found = []
            for _ in range(6):
                found += await asyncio.gather(*(client.post("/predict") for _ in range(60)))
            others = await asyncio.gather(*(client.post("/jobs") for _ in range(40)))
            assert [answer.status_code for answer in others].count(503) == 40 - 24
            return found

    found = asyncio.run(main())
    refused = [answer for answer in found if answer.status_code == 503]
    assert ingress.answered >= 6 * 20
    assert ingress.refused - 8 < len(refused) / 10
    for answer in refused:
        assert answer.json()["type"] == "busy"
    assert {answer.headers["retry-after"] for answer in refused[1:]} == {"3"}


def test_a_chip_that_is_refused_is_read_so_that_its_client_sees_the_answer() -> None:
    gate = ChipGate(Answering(200, b"application/json"))
    gate._limit = 0.0
    read: list[bytes] = []

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            read.append(b"x" * 100_000)
            yield read[-1]

    found = answer(gate, parts(), path="/predict")
    assert found.status_code == 503
    assert len(read) == 20, "2 MB of 4"


class Ingress:
    """Answers after a moment; refuses requests beyond its places."""

    def __init__(self, places: int) -> None:
        self.places, self.inside = places, 0
        self.refused, self.answered = 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.inside >= self.places:
            self.refused += 1
            await refuse(send, 503, "busy", "busy", "the queue is full", retry_s=3)
            return
        self.inside += 1
        await asyncio.sleep(0.1)
        self.inside -= 1
        self.answered += 1
        await Answering(200, b"application/json")(scope, receive, send)
