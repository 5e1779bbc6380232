"""How many chips a second does `/predict` answer, one by one and in batches, and how soon?

The service runs in processes of its own on this machine, beside this one, which sends requests.
Ratios of one run count: both settings are measured side by side. CPU time by process says where a
request's time goes; other load on the machine moves it less than it moves the rates.

    python -m benchmarks.service [--quick] --json
"""

import asyncio
import io
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks.common import main
from quakestream.synthetic import TINY, make_earthquake
from serving.chips import read_chip
from serving.predictor import Chip, OpenBundle, batch_of
from serving.running import running
from serving.settings import ServiceSettings
from serving.tokens import Permission, new_token

BUNDLE = "grades-synthetic"
"""Crops of 64 px after the event. Windows of 512 px fill the cores one by one."""
SIDE = 64
RETRY_S = 1.0
"""Time after which a client that was refused tries again: the least `Retry-After`."""
LONGEST_MS = 1000.0
"""Time that 99 of 100 answers may take at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFigures:
    """What a client saw."""

    batching: str
    load: str
    """`closed N`: N clients that wait for answers; `open N/s`: requests at a rate."""
    requests: int
    answered: int
    refused: int
    """429 and 503 with a problem document."""
    failed: int
    per_s: float
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float | None
    """Time to a refusal."""
    longest_ms: float
    """The slowest answer of any kind."""
    cpu_ms: dict[str, float]
    """CPU time of a request, by process."""


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    seconds = 6.0 if quick else 10.0
    before = os.getloadavg()[1]
    with tempfile.TemporaryDirectory() as folder:
        rows, memory = _measure(Path(folder), seconds, steady_s=60.0 if quick else 600.0)
    best = {name: most_in_time(rows, name) for name in ("one by one", "batches")}
    metrics: dict[str, Any] = {
        "stages": [_stages(name) for name in (BUNDLE, "damage-synthetic")],
        "rows": [asdict(row) for row in rows],
        "answers_in_time_per_s": best,
        "batches_over_one_by_one": round(best["batches"] / best["one by one"], 2),
        "memory": memory,
        "load_average": {"before": before, "after": os.getloadavg()[1]},
    }
    return {"bundle": BUNDLE, "seconds_per_row": seconds}, metrics


def most_in_time(rows: Sequence[LoadFigures], batching: str) -> float:
    """Most answers a second of all loads under which 99 of 100 take less than a second."""
    mine = [row for row in rows if row.batching == batching]
    return max(row.per_s for row in mine if row.p99_ms < LONGEST_MS)


def _measure(
    folder: Path, seconds: float, steady_s: float
) -> tuple[list[LoadFigures], dict[str, Any]]:
    earthquake = make_earthquake(folder / "town", seed=3, size=TINY)
    token, entry = new_token("load", [Permission.READ], None)
    (folder / "tokens.yaml").write_text(entry)
    rows: list[LoadFigures] = []
    memory: dict[str, Any] = {}
    for name, batching in (("one by one", {"size": 1}), ("batches", {})):
        content = {
            "root": str(folder / name.replace(" ", "-")),
            "tokens": str(folder / "tokens.yaml"),
            "runs": {"town": str(earthquake.run_file)},
            "bundles": [BUNDLE],
            "limits": {"requests_per_minute": 10_000_000},
            "batching": batching,
        }
        settings = ServiceSettings.of(content, folder)
        with _served(settings) as address:
            capacity = 0.0
            for clients in (1, 16, 32):
                row = asyncio.run(_closed(address, token, name, clients, seconds))
                rows.append(row)
                capacity = max(capacity, row.per_s)
            before = _rss_mb()
            for share in (0.5, 0.9, 2.0):
                rows.append(
                    asyncio.run(_open(address, token, name, share * capacity, seconds, share))
                )
            memory[f"{name}: growth_mb"] = round(_rss_mb() - before, 1)
            if name == "batches":
                rate = 0.25 * capacity
                memory["steady"] = asyncio.run(_steady(address, token, rate, steady_s))
    return rows, memory


async def _steady(address: str, token: str, rate: float, seconds: float) -> dict[str, Any]:
    """Memory while a low load goes on, ten times."""
    rss_mb, parts = [round(_rss_mb(), 1)], []
    for _ in range(10):
        parts.append(await _open(address, token, "batches", rate, seconds / 10, 0.25))
        rss_mb.append(round(_rss_mb(), 1))
    return {
        "seconds": seconds,
        "per_s": round(rate, 1),
        "answered": sum(part.answered for part in parts),
        "failed": sum(part.failed for part in parts),
        "rss_mb": rss_mb,
        "largest_over_first": round(max(rss_mb) / rss_mb[0], 3),
    }


def _stages(name: str) -> dict[str, Any]:
    """Time of a chip in each stage that has nothing of HTTP, in this process, ms."""
    opened, body = OpenBundle(name), io.BytesIO()
    side = opened.spec.window_px
    rng = np.random.default_rng(5)
    pixels_YXB = rng.integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels_YXB).save(body, "PNG")
    images = dict.fromkeys(opened.spec.epochs, np.moveaxis(pixels_YXB, 2, 0).copy())
    chips = [Chip(images=images)] * 32
    row = {"bundle": name, "side_px": side, "engine": opened.engine.name}
    decode_s = _least_s(lambda: read_chip(body.getvalue(), "post", side * side))
    row["decode_ms"] = round(1000 * decode_s * len(images), 2)
    row["stack_ms"] = round(1000 * _least_s(lambda: batch_of(chips[:8], opened.spec)) / 8, 2)
    for count in (1, 8, 32):
        batch = batch_of(chips[:count], opened.spec)
        took_s = _least_s(partial(opened.engine.score, batch))
        row[f"engine_ms_of_{count}"] = round(1000 * took_s / count, 2)
    return row


def _least_s(work: Callable[[], object], times: int = 7) -> float:
    """The shortest of a few tries: the one that other load disturbed least."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


@contextmanager
def _served(settings: ServiceSettings) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with running(settings, "127.0.0.1", port) as address:
        health = httpx.get(f"{address}healthz", timeout=120, trust_env=False)
        health.raise_for_status()
        yield address


def _rss_mb() -> float:
    """Memory of this process's children: Ray and its workers."""
    own = psutil.Process().children(recursive=True)
    return float(sum(p.memory_info().rss for p in own if p.is_running()) / 1e6)


PROCESSES = {
    "ProxyActor": "proxy",
    "quakestream:ingress": "ingress",
    "quakestream:predictor": "predictor",
    "ServeController": "controller",
}
"""Names of Serve's processes by what their command lines hold."""


def _cpu_s() -> dict[str, float]:
    """CPU time of this process, and of its children by what they are."""
    spent = {"client": time.process_time()}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            line, times = " ".join(process.cmdline()), process.cpu_times()
            name = next((n for part, n in PROCESSES.items() if part in line), "rest of Ray")
            spent[name] = spent.get(name, 0.0) + times.user + times.system
    return spent


def _form(seed: int) -> tuple[bytes, str]:
    """A chip as the body of a form, and its content type."""
    rng, file = np.random.default_rng(seed), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(file, "PNG")
    files = {"post": ("post", file.getvalue(), "image/png")}
    request = httpx.Request("POST", "http://service/predict", files=files)
    return request.read(), request.headers["content-type"]


@dataclass(slots=True)
class _Seen:
    """Answers while they come."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failed: int = 0

    async def send(self, client: aiohttp.ClientSession, seed: int) -> bool:
        """Sends one chip; True if it was refused."""
        body, type_ = _FORMS[seed % len(_FORMS)]
        began = time.perf_counter()
        try:
            async with client.post("/predict", data=body, headers={"Content-Type": type_}) as got:
                await got.read()
        except (aiohttp.ClientError, TimeoutError):
            self.failed += 1
            return False
        took = time.perf_counter() - began
        if got.status == 200:
            self.answered_s.append(took)
        elif got.status in (429, 503) and "problem" in got.content_type:
            self.refused_s.append(took)
            return True
        else:
            self.failed += 1
        return False


_FORMS = [_form(seed) for seed in range(16)]


async def _closed(
    address: str, token: str, batching: str, clients: int, seconds: float
) -> LoadFigures:
    """Clients that send the next chip when the last one is answered."""
    seen, end = _Seen(), time.perf_counter() + seconds

    async def one(client: aiohttp.ClientSession, number: int) -> None:
        while time.perf_counter() < end:
            if await seen.send(client, number):
                await asyncio.sleep(RETRY_S)

    async def all_of(client: aiohttp.ClientSession) -> None:
        await asyncio.gather(*(one(client, n) for n in range(clients)))

    return await _seen(seen, address, token, batching, f"closed {clients}", all_of)


async def _open(
    address: str, token: str, batching: str, rate: float, seconds: float, share: float
) -> LoadFigures:
    """Chips at a rate, whether answers come or not."""
    seen = _Seen()

    async def at_rate(client: aiohttp.ClientSession) -> None:
        tasks, began = [], time.perf_counter()
        for number in range(max(int(rate * seconds), 1)):
            tasks.append(asyncio.create_task(seen.send(client, number)))
            await asyncio.sleep(began + (number + 1) / rate - time.perf_counter())
        await asyncio.gather(*tasks)

    return await _seen(seen, address, token, batching, f"open {share:.0%} of capacity", at_rate)


async def _seen(
    seen: _Seen,
    address: str,
    token: str,
    batching: str,
    load: str,
    send: Callable[[aiohttp.ClientSession], Awaitable[None]],
) -> LoadFigures:
    # httpx takes longer for each request the more of them wait: it would measure itself.
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(
        address,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=60),
        connector=aiohttp.TCPConnector(limit=0),
    ) as client:
        before, began = _cpu_s(), time.perf_counter()
        await send(client)
        took, after = time.perf_counter() - began, _cpu_s()
    times = np.array(seen.answered_s or [float("nan")]) * 1000
    refused = np.array(seen.refused_s) * 1000
    requests = len(times) + len(refused) + seen.failed
    return LoadFigures(
        batching=batching,
        load=load,
        requests=requests,
        answered=len(seen.answered_s),
        refused=len(refused),
        failed=seen.failed,
        per_s=round(len(seen.answered_s) / took, 1),
        p50_ms=round(float(np.percentile(times, 50)), 1),
        p99_ms=round(float(np.percentile(times, 99)), 1),
        refused_p99_ms=round(float(np.percentile(refused, 99)), 1) if len(refused) else None,
        longest_ms=round(float(np.nanmax([*times, *refused])), 1),
        cpu_ms={
            name: round((after[name] - before.get(name, 0.0)) / requests * 1000, 2)
            for name in after
        },
    )


if __name__ == "__main__":
    main("service", run)
