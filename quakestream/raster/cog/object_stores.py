"""obstore's stores from the run file's `storage:` mapping and the environment."""

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quakestream.storage import StorageOptions, protocol_of

CONNECT_S, READ_S = 10.0, 20.0
"""Without an answer for so long a request is given up, as GDAL's are. GDAL's own variables,
`GDAL_HTTP_CONNECTTIMEOUT` and `GDAL_HTTP_LOW_SPEED_TIME`, say otherwise for both."""
RETRIES = 3
RETRIES_S = 60.0
"""For how long a request is retried."""
_S3 = {"endpoint_url", "anon", "region", "addressing_style"}
_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def object_store(href: str, options: StorageOptions) -> tuple[Any, str] | None:
    """The obstore store of a URI and the object's path in it.

    None where fsspec is the better way: obstore is not installed, the settings
    are more than it knows, credentials lie in a profile it does not read, or the
    URL is signed or escaped and must reach the server as it was written.
    """
    try:
        import obstore  # noqa: F401
    except ImportError:
        return None
    settings = options.of(href)
    protocol = protocol_of(href)
    parts, patience = urlsplit(href), _patience()
    if parts.query or parts.fragment or "%" in href or " " in href:
        return None
    path = parts.path.lstrip("/")
    if protocol in ("http", "https") and not settings:
        return _web(f"{parts.scheme}://{parts.netloc}", patience), path
    if protocol == "s3" and settings.keys() <= _S3 and _s3_credentials(settings):
        return _s3(parts.netloc, _frozen(settings), _environment("AWS_"), patience), path
    if protocol == "gs" and (not settings or settings == {"token": "anon"}):
        return _gs(parts.netloc, bool(settings), _environment("GOOGLE_"), patience), path
    if protocol == "az" and settings.keys() <= {"account_name", "anon"} and "@" not in href:
        return _az(parts.netloc, _frozen(settings), _environment("AZURE_"), patience), path
    return None


def _s3_credentials(settings: Mapping[str, Any]) -> bool:
    """True if obstore finds the credentials that s3fs and GDAL would find."""
    if settings.get("anon") or any(os.environ.get(name) for name in _KEYS):
        return True
    profile = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    named = os.environ.get("AWS_PROFILE") or Path(profile).expanduser().is_file()
    return not named  # else the instance's own role, which obstore asks for


def _frozen(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(settings.items()))


def _environment(prefix: str) -> tuple[tuple[str, str], ...]:
    """What the stores read from the environment: another one is another store."""
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(prefix)))


def _patience() -> tuple[float, float]:
    """Seconds to wait for a connection, and for an answer."""
    names = ("GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_LOW_SPEED_TIME")
    connect_s, read_s = (
        float(given) if (given := os.environ.get(name, "")).isdigit() and int(given) else usual
        for name, usual in zip(names, (CONNECT_S, READ_S), strict=True)
    )
    return connect_s, read_s


def _clients(patience: tuple[float, float], *, allow_http: bool = False) -> dict[str, Any]:
    connect_s, read_s = patience
    whole_s = timedelta(seconds=min(RETRIES_S, 3 * read_s))
    return {
        "client_options": {
            "allow_http": allow_http,
            "connect_timeout": timedelta(seconds=connect_s),
            "timeout": timedelta(seconds=RETRIES_S),
            "read_timeout": timedelta(seconds=read_s),
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": whole_s},
    }


# Stores keep connections: one for all scenes of a bucket.
@lru_cache(maxsize=32)
def _web(url: str, patience: tuple[float, float]) -> Any:
    from obstore.store import HTTPStore

    return HTTPStore.from_url(url, **_clients(patience, allow_http=True))


@lru_cache(maxsize=32)
def _s3(
    bucket: str,
    settings: tuple[tuple[str, Any], ...],
    environment: tuple[tuple[str, str], ...],
    patience: tuple[float, float],
) -> Any:
    from obstore.store import S3Store

    given, known = dict(settings), dict(environment)
    endpoint = given.get("endpoint_url")
    style = given.get("addressing_style", "path" if endpoint else "virtual")
    region = given.get("region") or known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION")
    config: Any = {
        "region": region or "us-east-1",
        "virtual_hosted_style_request": style == "virtual",
    }
    if endpoint:
        config["endpoint"] = str(endpoint).rstrip("/")
    if given.get("anon"):
        config["skip_signature"] = True
    plain = str(endpoint or known.get("AWS_ENDPOINT_URL", "")).startswith("http://")
    return S3Store(bucket, config=config, **_clients(patience, allow_http=plain))


@lru_cache(maxsize=32)
def _gs(
    bucket: str,
    anon: bool,
    environment: tuple[tuple[str, str], ...],
    patience: tuple[float, float],
) -> Any:
    from obstore.store import GCSStore

    config: Any = {"skip_signature": True} if anon else {}
    return GCSStore(bucket, config=config, **_clients(patience))


@lru_cache(maxsize=32)
def _az(
    container: str,
    settings: tuple[tuple[str, Any], ...],
    environment: tuple[tuple[str, str], ...],
    patience: tuple[float, float],
) -> Any:
    from obstore.store import AzureStore

    given = dict(settings)
    config: Any = {}
    if given.get("account_name"):
        config["account_name"] = given["account_name"]
    if given.get("anon"):
        config["skip_signature"] = True
    return AzureStore(container, config=config, **_clients(patience))
