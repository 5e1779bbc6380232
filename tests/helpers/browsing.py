"""A page in headless Chromium, over the DevTools protocol."""

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update --disable-dev-shm-usage
    --remote-debugging-port=0 --window-size=1280,800
""".split()  # noqa: SIM905


class Browser:
    """One page over the DevTools protocol; keeps every request and every complaint."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.count = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.loop.run_until_complete(self._connect(port))

    async def _connect(self, port: int) -> None:
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://127.0.0.1:{port}/json") as reply:
            target = next(t for t in await reply.json() if t["type"] == "page")
        url = target["webSocketDebuggerUrl"]
        self.socket = await self.session.ws_connect(url, max_msg_size=0)
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self._call(f"{domain}.enable", {})

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        me = self.count
        await self.socket.send_json({"id": me, "method": method, "params": params})
        while True:
            message = json.loads((await self.socket.receive(timeout=60)).data)
            if message.get("id") == me:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.loop.run_until_complete(self._call(method, params))

    def evaluate(self, script: str) -> Any:
        got = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=address)
        for _ in range(200):
            with suppress(AssertionError):  # the old page may go away under the question
                if self.evaluate("document.documentElement?.dataset.ready") == "yes":
                    return
            time.sleep(0.05)
        raise AssertionError(f"the page did not come up: {self.complaints}")

    def screenshot(self) -> np.ndarray:
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def close(self) -> None:
        async def end() -> None:
            await self.socket.close()
            await self.session.close()

        self.loop.run_until_complete(end())
        self.loop.close()


def opened_browser(profile: Path) -> Iterator[Browser]:
    """A browser until the iterator is closed; the test is skipped where there is none."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (looked for chromium, google-chrome)")
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    port_file = profile / "DevToolsActivePort"
    for _ in range(400):
        if port_file.exists() and len(port_file.read_text().split()) == 2:
            break
        time.sleep(0.05)
    page = Browser(int(port_file.read_text().split()[0]))
    yield page
    page.close()
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=20)
