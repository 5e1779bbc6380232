"""Each limit of the service, reached once: the answer is the one that docs/service.md shows."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_stand_in_bundle
from serving.settings import Limits
from tests.helpers.running import ROOT
from tests.helpers.services import Service, png, running_service, service_settings, write_tokens

SMALL: dict[str, Any] = {
    "area_km2": 1.0,
    "body_bytes": 100_000,
    "chip_px": 16_384,
    "jobs_per_token": 1,
    "jobs_waiting": 1,
    "requests_per_minute": 60,
    "rows_by_value": 10,
}
WINDOW_S = 0.1
"""Time the engine takes for a window: the first job runs while others are sent."""
SQUARE = [[36.0, 37.0], [36.1, 37.0], [36.1, 37.1], [36.0, 37.1], [36.0, 37.0]]


def shown() -> dict[str, dict[str, Any]]:
    """The documents of docs/service.md, by limit."""
    text = (ROOT / "docs" / "service.md").read_text()
    return {
        limit: json.loads(document)
        for limit, document in re.findall(r"^\| `(\w+)` \| `(\{.*\})` \|$", text, re.M)
    }


async def late_answer(service: Service) -> httpx.Response:
    chip = png(np.zeros((128, 128, 3), np.uint8))
    files = {epoch: (epoch, chip) for epoch in ("pre", "post")}
    return await service.post("/predict", files=files)


async def refused_chip(service: Service) -> httpx.Response:
    """One is scored, one waits, one is refused."""
    chip = png(np.zeros((128, 128, 3), np.uint8))
    files = {epoch: (epoch, chip) for epoch in ("pre", "post")}
    sent = await asyncio.gather(*(service.post("/predict", files=files) for _ in range(3)))
    return next(answer for answer in sent if answer.status_code != 200)


async def answers(service: Service, aoi: dict[str, Any]) -> dict[str, httpx.Response]:
    found = {}
    found["area_km2"] = await service.map({"aoi": {"type": "Polygon", "coordinates": [SQUARE]}})
    found["body_bytes"] = await service.post("/processes/map/execution", content=b" " * 200_000)
    chip = png(np.zeros((200, 200, 3), np.uint8))
    found["chip_px"] = await service.post("/predict", files={"post": ("post.png", chip)})
    found["queued"] = await refused_chip(service)
    by_value = {"buildings": {"transmissionMode": "value"}}
    job = (await service.map({"aoi": aoi}, outputs=by_value)).json()["jobID"]
    while (await service.get(f"/jobs/{job}")).json()["status"] == "accepted":
        await asyncio.sleep(0.02)
    found["jobs_per_token"] = await service.map({"aoi": aoi})
    waits = (await service.map({"aoi": aoi}, "ben")).json()["jobID"]
    found["jobs_waiting"] = await service.map({"aoi": aoi}, "admin")
    await service.delete(f"/jobs/{waits}", "ben")
    await service.ended(job, "admin")
    found["rows_by_value"] = await service.get(f"/jobs/{job}/results")
    signed = service.context.links.sign(job)
    service.context.links._life_s = -1  # as if its time were over
    found["link_s"] = await service.client.get(f"/view/{signed}/run.json")
    for _ in range(SMALL["requests_per_minute"] + 1):
        found["requests_per_minute"] = await service.get("/conformance", "reader")
    return found


def test_each_limit_is_answered_as_the_docs_show(town: SyntheticEarthquake, tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path)
    bundle = tmp_path / "bundle"
    write_stand_in_bundle(bundle, window_s=WINDOW_S, window_px=128)
    settings = service_settings(
        *(tmp_path, town, bundle, tokens),
        limits=SMALL,
        bundles=[str(bundle)],
        runtime="stand-in",
        batching={"size": 1, "queued": 1},
    )
    aoi = json.loads(gpd.read_file(town.aoi).to_json())["features"][0]["geometry"]

    async def main() -> dict[str, httpx.Response]:
        async with running_service(settings, tokens) as service:
            found = await answers(service, aoi)
        limits = settings.limits.model_copy(update={"request_s": WINDOW_S / 2})
        hasty = settings.model_copy(update={"limits": limits})
        async with running_service(hasty, tokens) as service:
            return found | {"request_s": await late_answer(service)}

    found = asyncio.run(main())
    assert set(found) == {*Limits.model_fields, "queued"}
    documents = shown()
    for limit, answer in found.items():
        assert answer.headers["content-type"].startswith("application/problem+json"), limit
        assert answer.json() == documents[limit], limit
        assert answer.status_code == documents[limit]["status"]
        if answer.status_code in (429, 503):
            assert int(answer.headers["retry-after"]) > 0
