"""Addresses at which no Ray answers. Most of the time of these tests is waiting."""

import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("ray")

IMPORT_S = 15
"""Time that a slow machine may take to import Ray."""
JOIN = """
import os, sys
from quakestream.errors import ClusterError
from quakestream.pipeline.backends.cluster import ray_cluster
try:
    with ray_cluster(sys.argv[1]):
        pass
except ClusterError as error:
    print(error, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    "listens",
    [
        pytest.param(True, id="mute port"),
        pytest.param(False, id="closed port", marks=pytest.mark.slow),
    ],
)
def test_a_dead_address_is_one_line_within_fifteen_seconds(listens: bool) -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if listens:
            port.listen()
        address = f"127.0.0.1:{port.getsockname()[1]}"
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", JOIN, address], capture_output=True, text=True, timeout=60
        )
        took_s = time.monotonic() - began
    assert done.stdout.startswith(f"Ray address {address}: ")
    assert "; check --address" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert not done.stderr
    assert took_s < 15 + IMPORT_S
