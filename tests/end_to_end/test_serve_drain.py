"""A service whose processes are all replaced while it is used loses no request and no job."""

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")
pytest.importorskip("ray.serve", reason="the service needs quakestream[serve]")

from ray import serve

from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_building_bundle, write_stand_in_bundle
from serving.app import application
from serving.running import running
from tests.helpers.running import SMALL_CELLS, run_content, write_run
from tests.helpers.services import Tokens, png, service_settings, write_tokens

pytestmark = [pytest.mark.alone, pytest.mark.slow]
SIDE = 48


class Clients(threading.Thread):
    """Sends chips until it is told to stop, and keeps what came back."""

    def __init__(self, address: str, tokens: Tokens) -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(
            base_url=address, headers=tokens.header("reader"), timeout=90, trust_env=False
        )
        self.statuses: list[int] = []
        self.wrong: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        chip = png(np.full((SIDE, SIDE, 3), 90, np.uint8))
        files = {epoch: (epoch, chip, "image/png") for epoch in ("pre", "post")}
        while not self.over.is_set():
            answer = self._client.post("/predict", files=files)
            self.statuses.append(answer.status_code)
            if answer.status_code != 200:
                self.wrong.append(answer.text)


def test_replaced_processes_lose_nothing(tmp_path: Path, town: SyntheticEarthquake) -> None:
    """Two ingresses, predictors and mappers become one each, in a new version of the service."""
    tokens = write_tokens(tmp_path)
    crops = str(write_building_bundle(tmp_path / "crops", window_px=SIDE))
    slow = tmp_path / "slow"
    write_stand_in_bundle(slow, window_s=0.5, window_px=128)
    many: dict[str, Any] = {"ingresses": 2, "predictors": 2, "mappers": 2}
    limits = {"requests_per_minute": 100_000}
    execution = {**SMALL_CELLS, "runtime": "stand-in"}
    run = write_run(tmp_path / "slow.yaml", run_content(town, slow, execution=execution))
    offered: dict[str, Any] = {"bundles": [crops], "runtime": "onnxruntime", "limits": limits}
    offered |= {"runs": {"town": str(run)}}
    settings = service_settings(tmp_path, town, slow, tokens, **offered, **many)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    # Each mapper and each predictor wants a core; this machine may have two.
    with running(settings, "127.0.0.1", port, num_cpus=8) as address:
        clients = [Clients(address, tokens) for _ in range(3)]
        headers = tokens.header("ada")
        with httpx.Client(base_url=address, headers=headers, timeout=90, trust_env=False) as client:
            client.get("/healthz").raise_for_status()
            for one in clients:
                one.start()
            jobs = [_submitted(client, town) for _ in range(2)]
            time.sleep(3)
            fewer = settings.model_copy(update=dict.fromkeys(many, 1))
            serve.run(application(fewer), name="quakestream", route_prefix="/")
            ended = [_ended(client, job) for job in jobs]
        for one in clients:
            one.over.set()
            one.join(120)
    assert [info["status"] for info in ended] == ["successful"] * 2, ended
    for one in clients:
        assert len(one.statuses) > 10
        assert not one.wrong, one.wrong[:3]


def _submitted(client: httpx.Client, town: SyntheticEarthquake) -> str:
    aoi = json.loads(gpd.read_file(town.aoi).to_json())["features"][0]["geometry"]
    accepted = client.post("/processes/map/execution", json={"inputs": {"aoi": aoi}})
    assert accepted.status_code == 201, accepted.text
    return str(accepted.json()["jobID"])


def _ended(client: httpx.Client, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    info: dict[str, Any] = {}
    while time.monotonic() < deadline:
        answer = client.get(f"/jobs/{job}")
        assert answer.status_code == 200, answer.text
        info = answer.json()
        if info["status"] not in ("accepted", "running"):
            return info
        time.sleep(0.5)
    raise TimeoutError(info)
