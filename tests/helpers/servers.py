"""Real servers on loopback: S3 (moto for small objects, Ceph radosgw), and HTTP with faults."""

import http.server
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from benchmarks.stores import answers, end_processes
from quakestream.storage import StorageOptions
from quakestream.storage.filesystems import filesystem

RADOSGW_PORT = 7480
"""Port that the start script uses."""
ACCESS_KEY, SECRET_KEY = "test", "testtest"
"""Credentials of both servers. moto takes any, and one session may use both servers."""
STALL_S = 100.0
"""Time that a stalled connection stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """Address and credentials of an S3 server."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def storage(self) -> dict[str, Any]:
        """The `storage` section of a run file."""
        return {"s3": {"endpoint_url": self.endpoint}}

    @property
    def options(self) -> StorageOptions:
        return StorageOptions(protocols=self.storage)

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that hold the credentials."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def make_bucket(self, name: str) -> str:
        """Makes an empty bucket; returns its URI."""
        filesystem(f"s3://{name}", self.options)[0].mkdir(name)
        return f"s3://{name}"

    def upload(self, folder: Path, uri: str) -> None:
        """Copies a folder under a prefix."""
        fs, root = filesystem(uri, self.options)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            fs.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto on a free port, in a process of its own.

    GDAL holds the interpreter's lock while it opens a file, so a server in this process could
    not answer it.
    """
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = S3Server(
        endpoint=f"http://127.0.0.1:{port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )
    try:
        _wait_for(port)
        with _in_environment(server.env):
            yield server
    finally:
        process.terminate()
        process.wait()


@contextmanager
def radosgw_server(script: Path) -> Iterator[S3Server]:
    """Ceph's S3 gateway; the test is skipped with the reason where it cannot run."""
    if shutil.which("radosgw") is None:
        pytest.skip("no radosgw on PATH; apt-get install radosgw ceph-mon ceph-osd ceph-common")
    if not script.is_file():
        pytest.skip(f"no script {script} to start radosgw with")
    if answers(RADOSGW_PORT):
        pytest.skip(f"port {RADOSGW_PORT} is taken by another server")
    folder = Path(tempfile.mkdtemp(prefix="qs-rgw-"))  # short: its sockets lie below
    server = S3Server(
        endpoint=f"http://127.0.0.1:{RADOSGW_PORT}", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )
    try:
        started = subprocess.run(
            ["bash", str(script), str(folder / "ceph")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=180,
            check=False,
        )
        if started.returncode != 0 or not answers(RADOSGW_PORT):
            pytest.skip(f"radosgw did not start (exit code {started.returncode})")
        with _in_environment(server.env):
            yield server
    finally:
        end_processes(folder / "ceph" / "run")
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while not answers(port):
        assert time.monotonic() < until, f"no server on port {port}"
        time.sleep(0.05)


@contextmanager
def _in_environment(values: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with byte ranges, and faults for some of them.

    A fault is a status (403, 404, 500) or a share below 1. With a share the header states the
    whole size, but the connection ends after that share of the object. With a negative share
    the connection stays open and sends nothing more.
    """

    protocol_version = "HTTP/1.1"

    def __init__(
        self,
        *args: Any,
        faults: dict[str, float],
        sent: Counter[str],
        ranges: bool,
        **kwargs: Any,
    ) -> None:
        self._faults, self._sent, self._ranges = faults, sent, ranges
        super().__init__(*args, **kwargs)

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def log_message(self, *_: object) -> None:
        """Does not log."""

    def _answer(self, *, send: bool) -> None:
        fault = self._faults.get(unquote(urlsplit(self.path).path).lstrip("/"))
        path = Path(self.translate_path(self.path))
        share = 1.0 if fault is None else fault
        if share > 1 or not path.is_file():
            self.send_error(int(share) if share > 1 else 404)
            return
        data = path.read_bytes()
        start, stop, status = self._range(len(data))
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        if send:
            there = int(len(data) * abs(share))
            with suppress(ConnectionError):  # the client may have seen enough
                self.wfile.write(data[start : min(stop, there)])
            self._sent[self.path] += max(min(stop, there) - start, 0)
            self.close_connection = there < stop
            if share < 0 and there < stop:
                self.connection.settimeout(STALL_S)
                with suppress(OSError):
                    self.connection.recv(1)  # until the client gives up

    def _range(self, size: int) -> tuple[int, int, int]:
        asked = self.headers.get("Range", "")
        if not (self._ranges and asked.startswith("bytes=")):
            return 0, size, 200
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        return start, max(stop, start), 206


@dataclass(frozen=True, slots=True, kw_only=True)
class WebServer:
    """A folder over HTTP. `faults` maps paths to a status or a share; it may change any time."""

    url: str
    faults: dict[str, float]
    sent: Counter[str]
    """Bytes of each path that were sent as bodies."""


@contextmanager
def web_server(
    folder: Path, faults: dict[str, float] | None = None, *, ranges: bool = True
) -> Iterator[WebServer]:
    """Serves a folder on a free port for as long as the `with` lasts.

    Args:
        ranges: False for a server that sends whole files, whatever is asked.
    """
    known = dict(faults or {})
    sent: Counter[str] = Counter()
    handler = partial(_Handler, directory=str(folder), faults=known, sent=sent, ranges=ranges)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield WebServer(url=f"http://127.0.0.1:{server.server_port}", faults=known, sent=sent)
        server.shutdown()
        thread.join()
