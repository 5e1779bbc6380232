"""GDAL's virtual paths of objects, and its configuration."""

import os
from urllib.parse import urlsplit

from quakestream.errors import StorageError
from quakestream.storage.filesystems import StorageOptions
from quakestream.storage.uris import local_path, protocol_of

GDAL_CACHE_BYTES = 96_000_000
_TIMEOUTS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
}
"""Seconds and bytes per second. Without them a server that stalls blocks a run forever."""
_PREFIXES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}


def gdal_path(uri: str) -> str:
    """GDAL's name of a URI: a path, `/vsis3/…`, `/vsicurl/…`, `/vsigs/…` or `/vsiaz/…`.

    Raises:
        StorageError: if GDAL cannot read from that kind of store.
    """
    protocol = protocol_of(uri)
    if protocol == "file":
        return uri if uri.startswith("/vsi") else local_path(uri)
    if protocol in ("http", "https"):
        return f"/vsicurl/{uri}"
    if protocol in _PREFIXES:
        return _PREFIXES[protocol] + uri.partition("://")[2]
    raise StorageError(
        "GDAL cannot read from this kind of store",
        uri,
        remedy="use a path, file, s3, http(s), gs or az",
    )


def gdal_env(options: StorageOptions | None = None) -> dict[str, str | int]:
    """GDAL's configuration for the same options, to be passed to `rasterio.Env(**…)`.

    It holds no credentials: GDAL takes them from the environment, as s3fs does.
    GDAL looks for sidecars (.msk, .ovr) by name and never lists a folder. In a bucket of
    thousands of scenes, listing costs more than the header.
    """
    env: dict[str, str | int] = {
        # By default GDAL caches blocks in 5 % of the machine's memory, so a run's memory would
        # grow with its scenes. Cells are read once, so a larger cache gains little.
        "GDAL_CACHEMAX": GDAL_CACHE_BYTES,
        "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
        "GDAL_HTTP_MAX_RETRY": "3",
        "GDAL_HTTP_RETRY_DELAY": "0.5",
        **{name: value for name, value in _TIMEOUTS.items() if name not in os.environ},
    }
    s3 = (options or StorageOptions()).of("s3://")
    if endpoint := s3.get("endpoint_url"):
        parts = urlsplit(str(endpoint))
        env["AWS_S3_ENDPOINT"] = parts.netloc + parts.path.rstrip("/")
        env["AWS_HTTPS"] = "NO" if parts.scheme == "http" else "YES"
        virtual = s3.get("addressing_style") == "virtual"
        env["AWS_VIRTUAL_HOSTING"] = "TRUE" if virtual else "FALSE"
    if region := s3.get("region"):
        env["AWS_REGION"] = str(region)
    if s3.get("anon"):
        env["AWS_NO_SIGN_REQUEST"] = "YES"
    return env
