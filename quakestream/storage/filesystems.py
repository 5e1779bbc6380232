"""fsspec file systems from the run file's `storage:` mapping, and one kind of error for all.

Credentials come from the environment (AWS_ACCESS_KEY_ID, ...) and are never part of the options.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import fsspec

from quakestream.errors import MissingExtraError, QuakestreamError, StorageError
from quakestream.storage.uris import protocol_of

_NOT_THERE = (
    ("there is no such object", "check the name and the bucket or folder"),
    ("there is no such file", "check the path"),
)
"""What is missing and what to do: in a store, and on this machine."""
_OTHER_PLACE = "choose another place, then run again"
_PACKAGES = {"s3": "s3fs", "http": "aiohttp", "https": "aiohttp", "gs": "gcsfs", "az": "adlfs"}


NO_CREDENTIALS = "no credentials on the machine that asks"
CREDENTIALS_REMEDY = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role, there and on every worker; for a "
    "public bucket set `storage: {s3: {anon: true}}`"
)


_ENDPOINT_REMEDY = (
    "check the network, and the endpoint: --s3-endpoint, or `storage: {s3: {endpoint_url: ...}}`; "
    "without one, Amazon's is asked"
)


_SILENCE = {
    *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"),
    *("ConnectionClosedError", "ClientConnectionError"),
}
"""Names of botocore's and aiohttp's errors for a server that does not answer."""


class MissingObjectError(StorageError, FileNotFoundError):
    """There is no object of that name."""


class NoCredentialsError(StorageError):
    """This machine has no credentials for the store."""


class NoAnswerError(StorageError):
    """A server that cannot be reached, refuses connections or stays silent."""


class NoRangesError(StorageError):
    """A web server that sends whole objects and no ranges of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """The run file's `storage:` mapping: a value that holds nothing open and no secret."""

    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by protocol. s3 takes `endpoint_url, anon, region, addressing_style`; those of
    other protocols are passed to fsspec unchanged."""

    def of(self, uri: str) -> Mapping[str, Any]:
        """Settings of a URI's protocol; `https` falls back to those of `http`."""
        protocol = protocol_of(uri)
        settings = self.protocols.get(protocol)
        if settings is None and protocol == "https":
            settings = self.protocols.get("http")
        return settings or {}


def filesystem(uri: str, options: StorageOptions) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path inside it.

    fsspec keeps one instance per process, thread and settings. A second call is cheap, so
    nothing open needs to travel.

    Raises:
        MissingExtraError: if the package for the protocol is not installed.
        StorageError: if no file system knows the protocol.
    """
    protocol = protocol_of(uri)
    try:
        cls = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = _PACKAGES.get(protocol, f"fsspec's package for {protocol}")
        raise MissingExtraError(
            f"{protocol}:// needs the package {package}", uri, remedy=f"pip install {package}"
        ) from error
    except ValueError as error:
        raise StorageError(
            f"unknown protocol {protocol!r}", uri, remedy="use a path, file, s3, http(s), gs or az"
        ) from error
    try:
        fs = cls(**_arguments(protocol, options.of(uri)))
    except TypeError as error:  # a file system that needs a host or the like
        remedy = (
            f"set it under `storage: {{{protocol}: ...}}`, or use a path, s3, http(s), gs or az"
        )
        what = f"{protocol}:// lacks a setting that it needs"
        raise StorageError(what, uri, remedy=remedy) from error
    return fs, fs._strip_protocol(uri)


def _arguments(protocol: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(settings)
    if protocol in ("http", "https"):
        # Signed and percent-encoded URLs must reach the server as they were written.
        return {"encoded": True, **values}
    if protocol != "s3":
        return values
    client = dict(values.pop("client_kwargs", {}))
    if region := values.pop("region", None):
        client["region_name"] = region
    config = dict(values.pop("config_kwargs", {}))
    style = values.pop("addressing_style", "path" if values.get("endpoint_url") else None)
    if style:
        config["s3"] = {"addressing_style": style}
    # A cached listing would miss what another worker has committed since. One request at a
    # time saves the HEAD that s3fs sends before each concurrent GET.
    fixed = {"use_listings_cache": False, "max_concurrency": 1}
    return {"client_kwargs": client, "config_kwargs": config, **fixed, **values}


@contextmanager
def storage_errors(verb: str, uri: str) -> Iterator[None]:
    """Turns whatever a file system raises into a `StorageError` that names the object.

    botocore's and aiohttp's errors share no base but Exception, so all are caught. The
    original stays as the cause.

    Args:
        verb: the action, such as `read`; the message is `cannot read: ...`.
    """
    try:
        yield
    except QuakestreamError:
        raise
    except FileNotFoundError as error:
        # fsspec's HTTP raises it for every refusal, and for a server that does not answer
        web_error = error.__cause__
        if _is_aiohttp(web_error) and getattr(web_error, "status", 0) not in (404, 410):
            raise _storage_error(verb, uri, web_error or error) from error
        if verb == "write" and protocol_of(uri) == "file":
            what, remedy = "its folder cannot be made", _OTHER_PLACE
        elif verb == "write":
            what, remedy = "its bucket or container does not exist", "make it, or check the name"
        else:
            what, remedy = _NOT_THERE[protocol_of(uri) == "file"]
        raise MissingObjectError(f"cannot {verb}: {what}", uri, remedy=remedy) from error
    except Exception as error:
        raise _storage_error(verb, uri, error) from error


def _is_aiohttp(error: BaseException | None) -> bool:
    return type(error).__module__.partition(".")[0] == "aiohttp"


def _storage_error(verb: str, uri: str, error: BaseException) -> StorageError:
    if type(error).__name__ == "NoCredentialsError":  # botocore's
        return no_credentials(verb, uri)
    local = protocol_of(uri) == "file"
    what, remedy = _cause(error, local=local)
    kind = NoAnswerError if not local and _is_silence(error) else StorageError
    return kind(f"cannot {verb}: {what}", uri, remedy=remedy)


def _is_silence(error: BaseException) -> bool:
    """True for errors of connections, of Python, botocore and aiohttp."""
    names = {one.__name__ for one in type(error).__mro__}
    return isinstance(error, (TimeoutError, ConnectionError)) or bool(names & _SILENCE)


def no_credentials(verb: str, uri: str) -> NoCredentialsError:
    """The error for a store that this machine has no credentials for."""
    return NoCredentialsError(f"cannot {verb}: {NO_CREDENTIALS}", uri, remedy=CREDENTIALS_REMEDY)


def _cause(error: BaseException, *, local: bool) -> tuple[str, str]:
    """What went wrong, and what the user can do; an empty remedy where there is none."""
    number = getattr(error, "errno", None)
    status = getattr(error, "status", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the device", f"free some, or {_OTHER_PLACE}"
    if number == errno.EROFS:
        return "the file system is read-only", _OTHER_PLACE
    if isinstance(error, NotADirectoryError):
        return "a part of its path is a file, not a folder", _OTHER_PLACE
    if number == errno.EFBIG:
        return "the file would be larger than the system allows", ""
    if isinstance(error, PermissionError) or status in (401, 403):
        detail = f" ({error})" if str(error) not in ("", "None") else ""
        keys = "" if local else "credentials, `anon` and "
        return f"permission denied{detail}", f"check {keys}the rights on the place"
    if isinstance(error, NotImplementedError):
        return "this kind of store cannot do that", ""
    if isinstance(error, TimeoutError):
        return "timed out", ""
    if type(error).__name__ == "EndpointConnectionError":  # botocore's
        url = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
        return f"no server answers at {url.scheme}://{url.netloc}", _ENDPOINT_REMEDY
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, ""
