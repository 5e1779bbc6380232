"""Starts the service on a Ray of this machine, and ends it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from ray import serve
from ray.serve.config import HTTPOptions

from quakestream.pipeline.backends.cluster import ray_cluster
from serving.app import application
from serving.proxy import middlewares
from serving.settings import ServiceSettings

ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{middlewares.__module__}.{middlewares.__name__}",
    # Serve kills a proxy that is not ready within 5 s: a busy machine takes longer to start one.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
}
"""Environment variables of Serve, which the processes of a Ray that starts here inherit."""
REQUEST_S = 120.0
"""Time after which the proxy gives up on a request. The ingress does sooner."""


@contextmanager
def running(settings: ServiceSettings, host: str, port: int, **options: Any) -> Iterator[str]:
    """Runs the service for the time of the block.

    Args:
        settings: of the service.
        host: address to listen on.
        port: port to listen on.
        options: further arguments of `ray.init`.

    Yields:
        The service's address.
    """
    app = application(settings)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with ray_cluster(None, **options):
        try:
            http = HTTPOptions(host=host, port=port, request_timeout_s=REQUEST_S)
            serve.start(http_options=http)
            serve.run(app, name="quakestream", route_prefix="/")
            yield f"http://{host}:{port}/"
        finally:
            cast("Any", serve).shutdown()
