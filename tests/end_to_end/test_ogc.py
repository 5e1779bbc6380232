"""OGC API – Processes: each conformance class with its requests, and pygeoapi beside ours.

docs/service.md has a table of what pygeoapi and this service answer to the same requests. The
column of this service is compared here; that of pygeoapi where its command is found.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import jsonschema
import pytest
import yaml

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.synthetic import SyntheticEarthquake
from serving.processes import CONFORMANCE
from tests.helpers.running import ROOT, write_threshold_bundle
from tests.helpers.services import Service, running_service, service_settings, write_tokens

Send = Callable[..., Awaitable[httpx.Response]]
"""Method, path, and what `httpx` takes."""

LINK = {"type": "object", "required": ["href"], "properties": {"href": {"type": "string"}}}
LINKS = {"type": "array", "items": LINK}
NAMES = {"type": "array", "items": {"type": "string"}}
TIME = {"type": "string", "format": "date-time"}
JOB = {
    "required": ["jobID", "status", "type"],
    "properties": {
        "jobID": {"type": "string"},
        "processID": {"type": "string"},
        "type": {"enum": ["process"]},
        "status": {"enum": ["accepted", "running", "successful", "failed", "dismissed"]},
        "message": {"type": "string"},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created": TIME,
        "started": TIME,
        "finished": TIME,
        "updated": TIME,
        "links": LINKS,
    },
}
SUMMARY = {
    "required": ["id", "version"],
    "properties": {
        "id": {"type": "string"},
        "version": {"type": "string"},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "jobControlOptions": {"items": {"enum": ["sync-execute", "async-execute", "dismiss"]}},
        "outputTransmission": {"items": {"enum": ["value", "reference"]}},
        "links": LINKS,
    },
}
FIELDS = {"additionalProperties": {"required": ["schema"], "properties": {"title": {}}}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "landing page": {"required": ["links"], "properties": {"links": LINKS}},
    "conformance": {"required": ["conformsTo"], "properties": {"conformsTo": NAMES}},
    "processes": {
        "required": ["processes", "links"],
        "properties": {"processes": {"type": "array", "items": SUMMARY}, "links": LINKS},
    },
    "process": {
        "allOf": [SUMMARY, {"required": ["inputs", "outputs"]}],
        "properties": {"inputs": FIELDS, "outputs": FIELDS},
    },
    "job": JOB,
    "jobs": {
        "required": ["jobs", "links"],
        "properties": {"jobs": {"type": "array", "items": JOB}, "links": LINKS},
    },
    "error": {
        "required": ["type"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    },
}
"""The documents of OGC 18-062r2 as far as they must be so: members, types, and values."""


def is_a(name: str, content: Any) -> None:
    checker = jsonschema.FormatChecker()
    jsonschema.validate(content, {"type": "object", **SCHEMAS[name]}, format_checker=checker)


@pytest.fixture
def with_service(tmp_path: Path, town: SyntheticEarthquake) -> Callable[..., Any]:
    def run(use: Callable[[Service], Awaitable[Any]]) -> Any:
        tokens = write_tokens(tmp_path)
        bundle = write_threshold_bundle(tmp_path / "bundle")
        settings = service_settings(tmp_path, town, bundle, tokens)

        async def main() -> Any:
            async with running_service(settings, tokens) as service:
                return await use(service)

        return asyncio.run(main())

    return run


@pytest.fixture(scope="module")
def aoi(town: SyntheticEarthquake) -> dict[str, Any]:
    return json.loads(gpd.read_file(town.aoi).to_json())["features"][0]["geometry"]  # type: ignore[no-any-return]


def test_each_class_that_is_claimed_has_a_test() -> None:
    claimed = {name.rsplit("/", 1)[1] for name in CONFORMANCE}
    assert claimed == {"core", "ogc-process-description", "json", "job-list", "dismiss"}
    for name in claimed:
        assert f"test_class_{name.replace('-', '_')}" in globals()


def test_class_core(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        landing = (await service.get("/")).json()
        is_a("landing page", landing)
        for link in landing["links"]:
            assert (await service.get(link["href"])).status_code == 200, link
        is_a("conformance", (await service.get("/conformance")).json())
        processes = (await service.get("/processes")).json()
        is_a("processes", processes)
        one = (await service.get("/processes", params={"limit": 1})).json()
        assert [p["id"] for p in one["processes"]] == [processes["processes"][0]["id"]]
        assert (await service.get("/processes", params={"limit": 0})).status_code == 400
        for process in processes["processes"]:
            is_a("process", (await service.get(f"/processes/{process['id']}")).json())
        await _executes(service, aoi)
        for path in ("/processes/x", "/jobs/x", "/jobs/x/results"):
            answer = await service.get(path)
            assert answer.status_code == 404
            is_a("error", answer.json())

    with_service(use)


async def _executes(service: Service, aoi: dict[str, Any]) -> None:
    """Echo at once, and a map as a job: in a document, and raw."""
    content: dict[str, Any] = {"inputs": {"message": "grüß Gott"}}
    echo = await service.post("/processes/echo/execution", json=content)
    assert (echo.status_code, echo.json()) == (200, {"message": "grüß Gott"})
    raw = await service.post("/processes/echo/execution", json={**content, "response": "raw"})
    assert (raw.status_code, raw.text) == (200, "grüß Gott")
    accepted = await service.map({"aoi": aoi}, outputs={"run": {}}, response="raw")
    assert accepted.status_code == 201
    is_a("job", accepted.json())
    early = await service.get(f"/jobs/{accepted.json()['jobID']}/results")
    if early.status_code != 204:  # it may have ended
        assert early.status_code == 404
        assert early.json()["type"].endswith("/result-not-ready")
    value = {"transmissionMode": "value"}
    one = await service.map({"aoi": aoi}, outputs={"summary": value}, response="raw")
    several = {"summary": value, "run": value, "buildings": {}}
    many = await service.map({"aoi": aoi}, outputs=several, response="raw")
    answers = []
    for job in (accepted, one, many):
        info = await service.ended(job.json()["jobID"])
        is_a("job", info)
        assert info["status"] == "successful"
        answers.append(await service.get(f"/jobs/{info['jobID']}/results"))
    assert answers[0].status_code == 204
    header = answers[0].headers["link"]
    href = re.match(r'<([^>]+/run\.json)>; rel="run"; type="application/json"$', header)
    assert href
    counts = (await service.get(href[1])).json()["counts"]
    assert answers[1].headers["content-type"].startswith("text/csv")
    assert answers[1].content.count(b"\n") >= 2
    head = f"Content-Type: {answers[2].headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + answers[2].content).get_payload()
    summary, run, buildings = parts  # type: ignore[misc]
    assert summary.get_payload(decode=True).strip() == answers[1].content.strip()
    assert json.loads(run.get_payload())["counts"] == counts
    assert buildings["content-id"] == "<buildings>"
    assert (await service.get(buildings["content-location"])).content[:4] == b"PAR1"


def test_class_ogc_process_description(with_service: Callable[..., Any]) -> None:
    async def use(service: Service) -> None:
        for name in ("map", "echo"):
            process = (await service.get(f"/processes/{name}")).json()
            is_a("process", process)
            for field in (*process["inputs"].values(), *process["outputs"].values()):
                jsonschema.Draft7Validator.check_schema(field["schema"])
            execute = "http://www.opengis.net/def/rel/ogc/1.0/execute"
            assert execute in {link["rel"] for link in process["links"]}

    with_service(use)


def test_class_json(with_service: Callable[..., Any]) -> None:
    async def use(service: Service) -> None:
        for path in ("/", "/conformance", "/processes", "/processes/map", "/jobs"):
            answer = await service.get(path)
            assert answer.headers["content-type"] == "application/json"
        missing = await service.get("/jobs/x")
        assert missing.headers["content-type"] == "application/problem+json"

    with_service(use)


def test_class_job_list(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        ids = [(await service.map({"aoi": aoi})).json()["jobID"] for _ in range(2)]
        for job in ids:
            await service.ended(job)
        await service.delete(f"/jobs/{ids[0]}")
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        whole = await _listed(service, {})
        assert whole == ids[::-1]
        for query, expected in (
            ({"limit": 1}, ids[1:]),
            ({"type": "process"}, whole),
            ({"processID": "map"}, whole),
            ({"processID": "echo"}, []),
            ({"status": "dismissed"}, ids[:1]),
            ({"status": ["successful", "failed"]}, ids[1:]),
            ({"status": "successful,dismissed"}, whole),
            ({"datetime": f"../{later}"}, whole),
            ({"datetime": f"{later}/.."}, []),
            ({"datetime": "2020-01-01T00:00:00Z"}, []),
            ({"minDuration": 3600}, []),
            ({"maxDuration": 3600, "minDuration": 0}, whole),
        ):
            assert await _listed(service, query) == expected, query
        for wrong in (
            *({"status": "asleep"}, {"type": "query"}, {"datetime": "yesterday"}, {"limit": 0}),
            {"minDuration": -1},
        ):
            answer = await service.get("/jobs", params=wrong)
            assert answer.status_code == 400, wrong
            is_a("error", answer.json())

    with_service(use)


async def _listed(service: Service, query: dict[str, Any]) -> list[str]:
    content = (await service.get("/jobs", params=query)).json()
    is_a("jobs", content)
    return [job["jobID"] for job in content["jobs"]]


def test_class_dismiss(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        gone = await service.delete(f"/jobs/{job}")
        assert gone.status_code == 200
        is_a("job", gone.json())
        assert gone.json()["status"] == "dismissed"
        assert (await service.get(f"/jobs/{job}")).json()["status"] == "dismissed"
        missing = await service.delete("/jobs/x")
        assert missing.status_code == 404
        assert missing.json()["type"].endswith("/no-such-job")

    with_service(use)


async def answers(
    send: Send, process: str, inputs: dict[str, Any], sync: str, sync_inputs: dict[str, Any]
) -> dict[str, str]:
    """What a server answers to each request: its status, and the members of its document.

    Args:
        send: sends a request.
        process: runs as a job with `inputs`.
        inputs: of `process`.
        sync: answers at once to `sync_inputs`.
        sync_inputs: of `sync`.
    """
    found: dict[str, httpx.Response] = {}
    found["landing page"] = await send("GET", "/")
    found["conformance"] = await send("GET", "/conformance")
    found["processes"] = await send("GET", "/processes")
    found["a process"] = await send("GET", f"/processes/{process}")
    execution = f"/processes/{process}/execution"
    at_once = f"/processes/{sync}/execution"
    found["run at once"] = await send("POST", at_once, json={"inputs": sync_inputs})
    prefer = {"Prefer": "respond-async"}
    job = await send("POST", execution, json={"inputs": inputs}, headers=prefer)
    found["run as a job"] = job
    here = "/" + job.headers["location"].split("/", 3)[3]
    for _ in range(300):
        found["a job"] = await send("GET", here)
        if found["a job"].json()["status"] == "successful":
            break
        await asyncio.sleep(0.1)
    found["results"] = await send("GET", f"{here}/results")
    found["jobs"] = await send("GET", "/jobs")
    found["dismissal"] = await send("DELETE", here)
    found["the job after it"] = await send("GET", here)
    found["dismissal again"] = await send("DELETE", here)
    found["no such process"] = await send("GET", "/processes/none")
    found["run of no such process"] = await send("POST", "/processes/none/execution", json={})
    found["no such job"] = await send("GET", "/jobs/none")
    found["results of no such job"] = await send("GET", "/jobs/none/results")
    found["a body that is no JSON"] = await send("POST", execution, content=b"{")
    found["inputs missing"] = await send("POST", execution, json={"inputs": {}})
    return {name: shape(answer) for name, answer in found.items()}


def shape(answer: httpx.Response) -> str:
    """`200: created, jobID, links`."""
    with suppress(ValueError):
        if isinstance(answer.json(), dict):
            return f"{answer.status_code}: {', '.join(sorted(answer.json()))}"
    return str(answer.status_code)


def shown(column: int) -> dict[str, str]:
    """A column of the table in docs/service.md, by request."""
    text = (ROOT / "docs" / "service.md").read_text()
    table = text.split("| request | pygeoapi | here | why |\n|---|---|---|---|\n")[1]
    rows = [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()]
    return {row[0]: row[column].strip("`") for row in rows}


def test_answers_are_those_of_the_table(
    with_service: Callable[..., Any], aoi: dict[str, Any]
) -> None:
    async def use(service: Service) -> dict[str, str]:
        async def send(method: str, path: str, **more: Any) -> httpx.Response:
            headers = {**service.tokens.header("ada"), **more.pop("headers", {})}
            return await service.client.request(method, path, headers=headers, **more)

        return await answers(send, "map", {"aoi": aoi}, "echo", {"message": "hi"})

    assert with_service(use) == shown(2)


@pytest.mark.slow
def test_pygeoapi_answers_as_the_table_says(tmp_path: Path) -> None:
    """`pip install pygeoapi` in an environment of its own, with its command on PATH."""
    command = shutil.which("pygeoapi")
    if command is None:
        pytest.skip("the command pygeoapi is not on PATH: install it in an environment of its own")

    async def main(address: str) -> dict[str, str]:
        accept = {"Accept": "application/json"}
        async with httpx.AsyncClient(
            base_url=address, headers=accept, timeout=30, trust_env=False
        ) as client:
            inputs = {"name": "World", "message": "hi"}
            return await answers(client.request, "hello-world", inputs, "hello-world", inputs)

    with pygeoapi(command, tmp_path) as address:
        assert asyncio.run(main(address)) == shown(1)


@contextmanager
def pygeoapi(command: str, folder: Path) -> Iterator[str]:
    """pygeoapi on loopback with its process hello-world and a manager of jobs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    config, openapi = folder / "config.yaml", folder / "openapi.yaml"
    (folder / "out").mkdir()
    config.write_text(yaml.safe_dump(_config(address, port, folder)))
    names = {"PYGEOAPI_CONFIG": str(config), "PYGEOAPI_OPENAPI": str(openapi)}
    environment = {"PATH": "/usr/bin:/bin", **names}
    made = [command, "openapi", "generate", str(config), "--output-file", str(openapi)]
    subprocess.run(made, env=environment, check=True, capture_output=True, timeout=120)
    server = subprocess.Popen(
        [command, "serve"],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            with suppress(httpx.HTTPError):
                httpx.get(address, timeout=5, trust_env=False)
                break
            time.sleep(0.25)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def _config(address: str, port: int, folder: Path) -> dict[str, Any]:
    named = {"name": "test", "url": address}
    fields = ("position", "address", "city", "stateorprovince", "postalcode", "country", "phone")
    contact = named | dict.fromkeys((*fields, "fax", "email", "hours", "instructions", "role"), "x")
    places = {"connection": str(folder / "jobs.db"), "output_dir": str(folder / "out")}
    jobs = {"name": "TinyDB", **places}
    server = {
        "bind": {"host": "127.0.0.1", "port": port},
        "url": address,
        "encoding": "utf-8",
        "mimetype": "application/json; charset=UTF-8",
        "gzip": False,
        "languages": ["en-US"],
        "pretty_print": False,
        "limits": {"default_items": 20, "max_items": 50},
        "map": {"url": address, "attribution": "x"},
        "manager": jobs,
    }
    about = {"title": "t", "description": "d", "keywords": ["k"], "keywords_type": "theme"}
    identification = {**about, "terms_of_service": "x", "url": address}
    metadata = {"identification": identification, "license": named, "provider": named}
    hello = {"type": "process", "processor": {"name": "HelloWorld"}}
    return {
        "server": server,
        "logging": {"level": "ERROR"},
        "metadata": {**metadata, "contact": contact},
        "resources": {"hello-world": hello},
    }
