"""The HTTP service over a tiny town, in this process: real jobs, real engines, no Ray."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from PIL import Image

from quakestream.storage import open_store
from quakestream.synthetic import SyntheticEarthquake
from serving.api import make_api
from serving.health import Health
from serving.here import LocalServices
from serving.links import Links
from serving.maps import OpenMaps
from serving.rates import RequestRates
from serving.services import Context
from serving.settings import ServiceSettings
from serving.tokens import Permission, TokenFile, new_token
from tests.helpers.running import run_content, write_run

JOB_S = 60.0
"""Longest time that a test waits for a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Secrets by what they may do, and the file that knows them."""

    path: Path
    secret: dict[str, str]

    def header(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret[name]}"}


def write_tokens(folder: Path) -> Tokens:
    """Tokens of two submitters, a reader, an admin, and one that has expired."""
    both = [Permission.READ, Permission.SUBMIT]
    wanted: dict[str, tuple[list[Permission], datetime | None]] = {
        "ada": (both, None),
        "ben": (both, None),
        "reader": ([Permission.READ], None),
        "admin": ([Permission.ADMIN], None),
        "old": (both, datetime.now(UTC) - timedelta(seconds=1)),
    }
    made = {name: new_token(name, scopes, end) for name, (scopes, end) in wanted.items()}
    path = folder / "tokens.yaml"
    path.write_text("".join(entry for _, entry in made.values()))
    return Tokens(path=path, secret={name: token for name, (token, _) in made.items()})


def service_settings(
    folder: Path, town: SyntheticEarthquake, bundle: Path, known: Tokens, **changed: Any
) -> ServiceSettings:
    """Settings over a run of the town; `changed` replaces keys."""
    run = write_run(folder / "run.yaml", run_content(town, bundle))
    content = {
        "root": str(folder / "service"),
        "tokens": str(known.path),
        "runs": {"town": str(run)},
        "bundles": ["damage-synthetic"],
    }
    return ServiceSettings.of(content | changed, folder)


def write_settings(path: Path, settings: ServiceSettings) -> Path:
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    return path


@dataclass(slots=True, kw_only=True)
class Service:
    """A client of the service, with what runs behind it."""

    client: httpx.AsyncClient
    services: LocalServices
    context: Context
    tokens: Tokens

    async def get(self, path: str, who: str = "ada", **more: Any) -> httpx.Response:
        return await self.client.get(path, headers=self.tokens.header(who), **more)

    async def post(
        self, path: str, who: str = "ada", headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        headers = {**self.tokens.header(who), **(headers or {})}
        return await self.client.post(path, headers=headers, **more)

    async def delete(self, path: str, who: str = "ada") -> httpx.Response:
        return await self.client.delete(path, headers=self.tokens.header(who))

    async def map(self, inputs: Mapping[str, Any], who: str = "ada", **body: Any) -> httpx.Response:
        content = {"inputs": dict(inputs), **body}
        return await self.post("/processes/map/execution", who, json=content)

    async def ended(self, job_id: str, who: str = "ada") -> dict[str, Any]:
        """The statusInfo of a job once it has ended."""
        async with asyncio.timeout(JOB_S):
            while True:
                info: dict[str, Any] = (await self.get(f"/jobs/{job_id}", who)).json()
                if info["status"] not in ("accepted", "running"):
                    return info
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running_service(settings: ServiceSettings, tokens: Tokens) -> AsyncIterator[Service]:
    """The service, its queue started, and a client of it."""
    store = open_store(settings.root, settings.options)
    services = LocalServices(settings, store)
    context = Context(
        settings=settings,
        services=services,
        health=Health(services.check),
        tokens=TokenFile(settings.tokens),
        store=store,
        maps=OpenMaps(settings),
        links=Links(store, settings.limits.link_s),
        rates=RequestRates(settings.limits.requests_per_minute),
    )
    transport = httpx.ASGITransport(app=make_api(context), raise_app_exceptions=False)
    await services.queue.start()
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield Service(client=client, services=services, context=context, tokens=tokens)
    finally:
        await services.queue.stop()


def png(pixels_YXB: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_YXB).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray[Any, Any], *, objects: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=objects)
    return file.getvalue()
