"""Servers on loopback for benchmarks: a folder over HTTP (nginx) and in a bucket (Ceph radosgw)."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import Any

from benchmarks.common import data_dir
from quakestream.storage import StorageOptions
from quakestream.storage.filesystems import filesystem

RADOSGW_PORT = 7480
"""Fixed by the script that starts it."""
ATTEMPTS = 3
"""To start the gateway."""
_NGINX = """
user {user}; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class UnavailableError(Exception):
    """A server cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where a folder can be read from."""

    uri: str
    """Prefix of every file's name."""
    options: StorageOptions = field(default_factory=StorageOptions)


@contextmanager
def web(folder: Path) -> Iterator[Served]:
    """A folder over HTTP by nginx, one worker.

    Raises:
        UnavailableError: if nginx is not installed, or does not start.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise UnavailableError("nginx is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="qs-nginx-") as place:
        settings = Path(place) / "nginx.conf"
        settings.write_text(_NGINX.format(folder=place, port=port, root=folder, user=getuser()))
        server = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            _wait(port, "nginx")
            yield Served(uri=f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(10)


@contextmanager
def bucket(folder: Path) -> Iterator[Served]:
    """A folder in a bucket of Ceph's S3 gateway, its data in memory.

    Raises:
        UnavailableError: if the gateway is not installed, or does not start.
    """
    script = data_dir().parent / "tools" / "radosgw.sh"
    if shutil.which("radosgw") is None or not script.is_file():
        raise UnavailableError("radosgw, or the script that starts it, is not here")
    if answers(RADOSGW_PORT):
        raise UnavailableError(f"port {RADOSGW_PORT} is taken")
    place = Path(tempfile.mkdtemp(prefix="qs-rgw-"))
    before = {name: os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        for attempt in range(ATTEMPTS):  # a busy machine may be too slow for its monitor
            made = subprocess.run(
                ["bash", str(script), str(place / f"c{attempt}")], **quiet, check=False
            )
            if made.returncode == 0:
                break
            end_processes(place / f"c{attempt}" / "run")
        else:
            raise UnavailableError(f"radosgw did not start (exit code {made.returncode})")
        _wait(RADOSGW_PORT, "radosgw")
        os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"}
        endpoint = {"endpoint_url": f"http://127.0.0.1:{RADOSGW_PORT}"}
        options = StorageOptions(protocols={"s3": endpoint})
        fs, _ = filesystem("s3://bench", options)
        fs.mkdir("bench")
        for path in sorted(folder.glob("*.tif")):
            fs.put_file(str(path), f"bench/{path.name}")
        yield Served(uri="s3://bench", options=options)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for folder_of_pids in place.glob("c*/run"):
            end_processes(folder_of_pids)
        shutil.rmtree(place, ignore_errors=True)


def answers(port: int) -> bool:
    """True if something listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(port: int, name: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not answers(port):
        if time.monotonic() > until:
            raise UnavailableError(f"{name} does not answer on port {port}")
        time.sleep(0.1)


def end_processes(folder: Path) -> None:
    """Ends the processes whose pid files lie in a folder, the gateway first."""
    pids = [int(p.read_text()) for p in sorted(folder.glob("*.pid"), reverse=True)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 10
    for pid in pids:
        while time.monotonic() < until and Path(f"/proc/{pid}").exists():
            time.sleep(0.1)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
