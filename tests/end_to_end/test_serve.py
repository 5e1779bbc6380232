"""The service on Ray Serve, over real HTTP: batches, limits, lost processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import numpy as np
import psutil
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")
pytest.importorskip("ray.serve", reason="the service needs quakestream[serve]")

from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_building_bundle, write_hazard_bundle
from tests.helpers.running import ROOT, environment, write_threshold_bundle
from tests.helpers.services import (
    Tokens,
    png,
    service_settings,
    write_settings,
    write_tokens,
)

pytestmark = [pytest.mark.alone, pytest.mark.slow]

SIDE = 48
START_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running service."""

    address: str
    tokens: Tokens
    rows: str
    """Bundle that takes hazard values alone."""
    process: "subprocess.Popen[str]"

    def client(self, who: str = "ada") -> httpx.Client:
        return httpx.Client(
            base_url=self.address, headers=self.tokens.header(who), timeout=60, trust_env=False
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, town: SyntheticEarthquake) -> Iterator[Served]:
    """`quakestream serve` in processes of its own."""
    folder = tmp_path_factory.mktemp("served")
    tokens = write_tokens(folder)
    bundle = str(write_building_bundle(folder / "crops", window_px=SIDE, hazard=("mmi",)))
    rows = str(write_hazard_bundle(folder / "rows"))
    settings = service_settings(
        folder,
        town,
        write_threshold_bundle(folder / "threshold"),
        tokens,
        bundles=[bundle, rows],
        runtime="onnxruntime",
        limits={"requests_per_minute": 100_000, "body_bytes": 1_000_000},
        batching={"queued": 8},
    )
    path = write_settings(folder / "service.yaml", settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*(sys.executable, "-m", "quakestream.cli.main", "serve"), str(path), f"--port={port}"],
        env=environment({"OMP_NUM_THREADS": "1"}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        yield Served(address=address, tokens=tokens, rows=rows, process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(address: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/healthz", timeout=30, trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    raise TimeoutError(address)


def _async_client(served: Served) -> httpx.AsyncClient:
    headers = served.tokens.header("reader")
    return httpx.AsyncClient(base_url=served.address, headers=headers, timeout=60, trust_env=False)


def _aoi(town: SyntheticEarthquake) -> dict[str, Any]:
    return json.loads(gpd.read_file(town.aoi).to_json())["features"][0]["geometry"]  # type: ignore[no-any-return]


def _chips(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    pair = {e: rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for e in ("pre", "post")}
    return {epoch: (epoch, png(pixels), "image/png") for epoch, pixels in pair.items()}


def _ended(client: httpx.Client, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        info: dict[str, Any] = client.get(f"/jobs/{job}").json()
        if info["status"] not in ("accepted", "running"):
            return info
        time.sleep(0.2)
    raise TimeoutError(info)


def test_a_job_over_http(served: Served, town: SyntheticEarthquake) -> None:
    with served.client() as client:
        accepted = client.post("/processes/map/execution", json={"inputs": {"aoi": _aoi(town)}})
        assert accepted.status_code == 201, accepted.text
        job = accepted.json()["jobID"]
        assert _ended(client, job)["status"] == "successful"
        results = client.get(f"/jobs/{job}/results").json()
        assert client.get(results["buildings"]["href"]).content[:4] == b"PAR1"
        page = httpx.get(results["links"][0]["href"], trust_env=False)
        assert page.status_code == 200
    assert httpx.get(f"{served.address}/jobs", trust_env=False).status_code == 401


def test_chips_that_arrive_together_are_answered_as_alone(served: Served) -> None:
    async def send(client: httpx.AsyncClient, seed: int) -> dict[str, Any]:
        data = {"hazard": json.dumps({"mmi": seed})}
        answer = await client.post("/predict", files=_chips(seed), data=data)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def together() -> tuple[list[Any], list[Any]]:
        async with _async_client(served) as client:
            alone = [await send(client, seed) for seed in range(6)]
            return alone, list(await asyncio.gather(*(send(client, seed) for seed in range(6))))

    alone, batch = asyncio.run(together())
    assert alone == batch
    assert len({json.dumps(one) for one in alone}) == 6


def test_bundles_share_a_process(served: Served) -> None:
    """Chips of one bundle do not join the batches of the other."""

    async def both() -> list[httpx.Response]:
        async with _async_client(served) as client:
            crops = [client.post("/predict", files=_chips(n)) for n in range(4)]
            data = {"bundle": served.rows, "hazard": '{"mmi": 8, "pga_g": 0.5}'}
            return await asyncio.gather(*crops, *(client.post("/predict", data=data) for _ in "ab"))

    answers = [answer.json() for answer in asyncio.run(both())]
    assert len({answer["digest"] for answer in answers[:4]}) == 1
    assert answers[4] == answers[5]
    assert answers[4]["digest"] != answers[0]["digest"]


def test_more_chips_than_the_queue_holds_are_refused_soon(served: Served) -> None:
    async def flood() -> tuple[list[tuple[float, httpx.Response]], httpx.Response]:
        async with _async_client(served) as client:

            async def one(seed: int) -> tuple[float, httpx.Response]:
                began = time.perf_counter()
                answer = await client.post("/predict", files=_chips(seed % 4))
                return time.perf_counter() - began, answer

            await one(0)
            found = await asyncio.gather(*(one(n) for n in range(150)))
            return found, (await one(0))[1]

    found, later = asyncio.run(flood())
    refused = [answer for _, answer in found if answer.status_code == 503]
    assert {answer.status_code for _, answer in found} == {200, 503}
    assert len(refused) > 20
    for answer in refused:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["type"] == "busy"
        assert int(answer.headers["retry-after"]) > 0
    assert later.status_code == 200


@pytest.mark.parametrize("name", ["predictor", "ingress"])
def test_chips_after_a_process_is_killed(served: Served, name: str) -> None:
    """Until it is replaced, each request is answered, or refused with a problem document."""
    victims = [p for p in _family(served.process.pid) if f":{name}" in " ".join(p.cmdline())]
    assert victims
    with served.client() as client:
        assert client.post("/predict", files=_chips(1)).status_code == 200
        for process in victims:
            process.kill()
        deadline, statuses = time.monotonic() + 90, []
        while time.monotonic() < deadline and statuses[-3:] != [200] * 3:
            answer = client.post("/predict", files=_chips(1))
            statuses.append(answer.status_code)
            if answer.status_code != 200:
                assert answer.headers["content-type"].startswith("application/problem+json")
                assert answer.status_code in ((503,) if name == "predictor" else (500, 503))
    assert statuses[-3:] == [200] * 3, statuses


def test_errors_of_deployments_are_problem_documents(served: Served) -> None:
    with served.client() as client:
        wrong = client.post("/predict", files={"post": _chips(1)["post"]})
        assert wrong.status_code == 400, wrong.text
        assert wrong.headers["content-type"].startswith("application/problem+json")
        large = client.post("/predict", content=b" " * 50_000_000)
        assert large.status_code == 413
        assert large.headers["content-type"].startswith("application/problem+json")


def test_a_job_goes_on_when_its_process_is_killed(
    served: Served, town: SyntheticEarthquake
) -> None:
    with served.client("ben") as client:
        accepted = client.post("/processes/map/execution", json={"inputs": {"aoi": _aoi(town)}})
        job = accepted.json()["jobID"]
        while client.get(f"/jobs/{job}").json()["status"] == "accepted":
            time.sleep(0.02)
        mappers = [p for p in _family(served.process.pid) if "mapper" in " ".join(p.cmdline())]
        assert mappers
        for process in mappers:
            process.kill()
        info = _ended(client, job)
        assert info["status"] == "successful", info


def _family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_no_request_of_the_schema_gives_a_server_error(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    with served.client() as client:
        schema = tmp_path / "openapi.json"
        schema.write_text(client.get("/openapi.json").text)
    secret = served.tokens.secret["admin"]
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "run", str(schema)),
            *("--url", served.address, "--checks", "not_a_server_error", "--max-examples", "15"),
            *("--header", f"Authorization: Bearer {secret}", "--workers", "1"),
            *("--request-timeout", "30", "--seed", "1", "--exclude-path-regex", "/events$"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_ctrl_c_says_what_becomes_of_jobs(served: Served) -> None:
    """The last test here: it ends the service."""
    served.process.send_signal(signal.SIGINT)
    _, said = served.process.communicate(timeout=90)
    assert served.process.returncode == 130
    last = said.strip().splitlines()[-1]
    assert last.endswith("the API is served no longer; unfinished jobs go on at the next start")
