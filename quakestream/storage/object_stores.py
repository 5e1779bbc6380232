"""Makes obstore's stores from the run file's `storage:` mapping and the environment."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quakestream.storage.filesystems import StorageOptions
from quakestream.storage.uris import protocol_of

CONNECT_S, READ_S = 10.0, 20.0
"""Seconds after which a request without an answer is given up, as in GDAL. GDAL's variables
`GDAL_HTTP_CONNECTTIMEOUT` and `GDAL_HTTP_LOW_SPEED_TIME` change them for both readers."""
RETRIES = 3
RETRIES_S = 60.0
"""Seconds during which a request is retried."""
_S3_SETTINGS = {"endpoint_url", "anon", "region", "addressing_style"}
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def object_store(href: str, options: StorageOptions) -> tuple[Any, str] | None:
    """The obstore store of a URI and the object's path in it.

    None where another must read the object: obstore is not installed or does not know all
    settings, credentials lie in a profile that obstore does not read, or the key is escaped.
    """
    try:
        import obstore  # noqa: F401
    except ImportError:
        return None
    settings = options.of(href)
    protocol = protocol_of(href)
    parts, waits = urlsplit(href), timeouts()
    if parts.query or parts.fragment or "%" in href or " " in href:
        return None
    path = parts.path.lstrip("/")
    if protocol == "s3" and settings.keys() <= _S3_SETTINGS and _s3_credentials(settings):
        return _s3(parts.netloc, _frozen(settings), _environment("AWS_"), waits), path
    if protocol == "gs" and (not settings or settings == {"token": "anon"}):
        return _gs(parts.netloc, bool(settings), _environment("GOOGLE_"), waits), path
    if protocol == "az" and settings.keys() <= {"account_name", "anon"} and "@" not in href:
        return _az(parts.netloc, _frozen(settings), _environment("AZURE_"), waits), path
    return None


def has_s3_credentials(options: StorageOptions) -> bool:
    """True if this process has been given a way into s3: a key, a role, a profile, or `anon`."""
    settings = options.of("s3://")
    known = settings.get("anon") or any(os.environ.get(name) for name in _CREDENTIALS)
    return bool(known) or _has_profile()


def in_order(places: Sequence[str], options: StorageOptions) -> list[str]:
    """Places of one file: the first one first, but s3 without credentials last.

    Without credentials, each request to s3 waits for a cloud's metadata service first.
    """
    if has_s3_credentials(options):
        return list(places)
    return sorted(places, key=lambda place: protocol_of(place) == "s3")


def _has_profile() -> bool:
    profile = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    return bool(os.environ.get("AWS_PROFILE")) or Path(profile).expanduser().is_file()


def _s3_credentials(settings: Mapping[str, Any]) -> bool:
    """True if obstore finds the credentials that s3fs and GDAL would find."""
    if settings.get("anon") or any(os.environ.get(name) for name in _CREDENTIALS):
        return True
    return not _has_profile()  # without a profile, obstore asks for the instance's role


def _frozen(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(settings.items()))


def _environment(prefix: str) -> tuple[tuple[str, str], ...]:
    """Variables that a store reads: part of the cache key, as other values make another store."""
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(prefix)))


def timeouts() -> tuple[float, float]:
    """Seconds to wait for a connection, and for an answer."""
    names = ("GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_LOW_SPEED_TIME")
    connect_s, read_s = (
        float(value) if (value := os.environ.get(name, "")).isdigit() and int(value) else default
        for name, default in zip(names, (CONNECT_S, READ_S), strict=True)
    )
    return connect_s, read_s


def _clients(waits: tuple[float, float], *, allow_http: bool = False) -> dict[str, Any]:
    connect_s, read_s = waits
    retry_s = timedelta(seconds=min(RETRIES_S, 3 * read_s))
    return {
        "client_options": {
            "allow_http": allow_http,
            "connect_timeout": timedelta(seconds=connect_s),
            "timeout": timedelta(seconds=RETRIES_S),
            "read_timeout": timedelta(seconds=read_s),
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": retry_s},
    }


# Stores keep connections open, so all scenes of a bucket share one store.
@lru_cache(maxsize=32)
def _s3(
    bucket: str,
    settings: tuple[tuple[str, Any], ...],
    environment: tuple[tuple[str, str], ...],
    waits: tuple[float, float],
) -> Any:
    from obstore.store import S3Store

    values, variables = dict(settings), dict(environment)
    endpoint = values.get("endpoint_url")
    style = values.get("addressing_style", "path" if endpoint else "virtual")
    region = (
        values.get("region") or variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    )
    config: Any = {
        "region": region or "us-east-1",
        "virtual_hosted_style_request": style == "virtual",
    }
    if endpoint:
        config["endpoint"] = str(endpoint).rstrip("/")
    if values.get("anon"):
        config["skip_signature"] = True
    plain = str(endpoint or variables.get("AWS_ENDPOINT_URL", "")).startswith("http://")
    return S3Store(bucket, config=config, **_clients(waits, allow_http=plain))


@lru_cache(maxsize=32)
def _gs(
    bucket: str,
    anon: bool,
    environment: tuple[tuple[str, str], ...],
    waits: tuple[float, float],
) -> Any:
    from obstore.store import GCSStore

    config: Any = {"skip_signature": True} if anon else {}
    return GCSStore(bucket, config=config, **_clients(waits))


@lru_cache(maxsize=32)
def _az(
    container: str,
    settings: tuple[tuple[str, Any], ...],
    environment: tuple[tuple[str, str], ...],
    waits: tuple[float, float],
) -> Any:
    from obstore.store import AzureStore

    values = dict(settings)
    config: Any = {}
    if values.get("account_name"):
        config["account_name"] = values["account_name"]
    if values.get("anon"):
        config["skip_signature"] = True
    return AzureStore(container, config=config, **_clients(waits))
