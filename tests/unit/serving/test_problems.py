"""What clients and the log are told of errors that nobody foresaw, and of those that were."""

import asyncio
import logging
import uuid
from collections.abc import Callable

import httpx
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI

from quakestream.errors import RequestError, StorageError
from serving.problems import answer_with_problems
from serving.services import BusyError

SECRET = "of the machine"


def answer_to(error: Exception, given: str = "") -> httpx.Response:
    """The answer of a route that fails."""
    api = FastAPI()
    answer_with_problems(api)
    api.add_middleware(CorrelationIdMiddleware, header_name="X-Correlation-ID")

    @api.get("/")
    async def fail() -> None:
        raise error

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get("/", headers={"X-Correlation-ID": given} if given else {})

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError(SECRET), 500), (StorageError(SECRET, SECRET), 503)]
)
def test_the_log_has_the_cause_by_the_instance_of_the_answer(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    given = str(uuid.uuid4())
    answer = answer_to(error, given)
    assert answer.status_code == status
    assert answer.json() == {
        "type": "failed",
        "title": "the service failed",
        "status": status,
        "instance": f"urn:uuid:{given}",
    }
    (record,) = caplog.records
    assert given in record.getMessage()
    assert SECRET in caplog.text


@pytest.mark.parametrize("make", [lambda: BusyError("full"), lambda: RequestError("is wrong", "x")])
def test_refusals_do_not_fill_the_log(
    make: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert answer_to(make()).status_code in (400, 503)
    assert [r for r in caplog.records if r.name == "quakestream.serving"] == []
