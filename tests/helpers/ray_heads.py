"""A Ray cluster on this machine in processes of its own, as `ray start` makes it."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

START_S = 90
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a cluster listens, and the environment that it was started with."""

    address: str
    dashboard: str
    metrics: str
    """URL of what Prometheus reads from the head."""
    env: dict[str, str]

    @property
    def token(self) -> dict[str, str]:
        """Variables that let a process join."""
        return {name: value for name, value in self.env.items() if name.startswith("RAY_AUTH_")}


@contextmanager
def ray_head(
    extra: Mapping[str, str] | None = None, *, dashboard: bool = False, cpus: int = 2
) -> Iterator[Head]:
    """A cluster with a token, on free ports, ended with the block.

    Args:
        extra: variables for the cluster and its workers over those of this process, of which
            none about Ray or a cloud is kept.
        dashboard: on loopback; needs ray[default].
        cpus: what the head offers; 0 as on a cluster whose head only directs.
    """
    port, page, metrics = _free_port(), _free_port(), _free_port()
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "AWS_"))}
    # A busy machine takes longer than Ray's half a minute to start an agent.
    env = kept | {"RAY_agent_register_timeout_ms": "120000"} | dict(extra or {}) | _token()
    head = Head(
        address=f"127.0.0.1:{port}",
        dashboard=f"http://127.0.0.1:{page}",
        metrics=f"http://127.0.0.1:{metrics}/metrics",
        env=env,
    )
    options = [
        *("--head", "--disable-usage-stats", f"--num-cpus={cpus}"),
        *(f"--port={port}", f"--include-dashboard={dashboard}", f"--metrics-export-port={metrics}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={page}"),
    ]
    with _node(options, env, own_folder=True):
        _wait(lambda: _listens(port), head.address)
        if dashboard:
            _wait(lambda: _answers(f"{head.dashboard}/api/version"), head.dashboard)
        yield head


@contextmanager
def ray_worker(head: Head, *, cpus: int = 1) -> Iterator["subprocess.Popen[bytes]"]:
    """A further node of the cluster, in processes of its own, ended with the block."""
    with _node([f"--address={head.address}", f"--num-cpus={cpus}"], head.env) as process:
        yield process


@contextmanager
def _node(
    options: list[str], env: dict[str, str], *, own_folder: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """`ray start --block`, which ends what it started when it is told to end.

    It is there once its agent is, without which a head takes no jobs. On a busy machine an agent
    may be too late for its raylet, which ends then; the node is started again.
    """
    folder = tempfile.mkdtemp(prefix="qsh", dir="/tmp")  # paths of sockets are short
    agent = _free_port()  # all agents of a machine want one port
    command = [*RAY, "start", "--block", *options, f"--dashboard-agent-listen-port={agent}"]
    command += [f"--temp-dir={folder}"] if own_folder else []
    process = _started(command, env, agent)
    try:
        yield process
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _started(
    command: list[str], env: dict[str, str], agent: int, attempts: int = 3
) -> "subprocess.Popen[bytes]":
    for _ in range(attempts):
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            if _listens(agent):
                return process
            time.sleep(0.5)
        _end(process)
    raise TimeoutError("a node of Ray did not start")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    process.kill()


def _token() -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(there: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_S
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Ray does not listen at {name}")
        time.sleep(0.5)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:  # it is there, and wants the token
        return True
    except OSError:
        return False
    return True
