"""fsspec file systems from the run file's `storage:` mapping, and their errors made ours.

Credentials come from the environment (AWS_ACCESS_KEY_ID, ...) and are never
part of the options.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec

from quakestream.errors import MissingExtraError, QuakestreamError, StorageError
from quakestream.storage.uris import protocol_of

_PACKAGES = {"s3": "s3fs", "http": "aiohttp", "https": "aiohttp", "gs": "gcsfs", "az": "adlfs"}


class MissingObjectError(StorageError, FileNotFoundError):
    """There is no object of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """The run file's `storage:` mapping. A value: nothing is open, no secret is in it."""

    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per protocol, for s3 `endpoint_url, anon, region, addressing_style`; other
    protocols pass theirs to fsspec as they are."""

    def of(self, uri: str) -> Mapping[str, Any]:
        """Settings of the protocol a URI names; `https` reads those of `http` too."""
        protocol = protocol_of(uri)
        found = self.protocols.get(protocol)
        if found is None and protocol == "https":
            found = self.protocols.get("http")
        return found or {}


def filesystem(uri: str, options: StorageOptions) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path inside it.

    fsspec keeps one instance per process, thread and settings, so this is
    cheap to call again and nothing open needs to travel.

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
            f"cannot open {uri}: {protocol}:// needs {package}; pip install {package}"
        ) from error
    except ValueError as error:
        raise StorageError(
            f"cannot open {uri}: unknown protocol {protocol!r}; use a path, file, s3, http(s), "
            "gs or az"
        ) from error
    fs = cls(**_arguments(protocol, options.of(uri)))
    return fs, fs._strip_protocol(uri)


def _arguments(protocol: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(settings)
    if protocol in ("http", "https"):
        # Signed and percent-encoded URLs must reach the server as they were written.
        return {"encoded": True, **given}
    if protocol != "s3":
        return given
    client = dict(given.pop("client_kwargs", {}))
    if region := given.pop("region", None):
        client["region_name"] = region
    config = dict(given.pop("config_kwargs", {}))
    style = given.pop("addressing_style", "path" if given.get("endpoint_url") else None)
    if style:
        config["s3"] = {"addressing_style": style}
    # A listing that was cached before another worker committed is a wrong answer; and one
    # request at a time saves the HEAD that s3fs sends before each concurrent GET.
    fixed = {"use_listings_cache": False, "max_concurrency": 1}
    return {"client_kwargs": client, "config_kwargs": config, **fixed, **given}


@contextmanager
def translated(verb: str, uri: str) -> Iterator[None]:
    """Turns whatever a file system raises into one of our storage errors.

    botocore and aiohttp errors share no base but Exception, hence the wide net;
    the original stays as the cause.
    """
    try:
        yield
    except QuakestreamError:
        raise
    except FileNotFoundError as error:
        # fsspec's HTTP says "not found" of every refusal and of a server that is away.
        told = error.__cause__
        if _of_web(told) and getattr(told, "status", 0) not in (404, 410):
            raise StorageError(f"cannot {verb} {uri}: {_cause(told or error)}") from error
        missing = (
            "its bucket or container does not exist; make it, or check the name"
            if verb == "write"
            else "there is no such object; check the name and the bucket or folder"
        )
        raise MissingObjectError(f"cannot {verb} {uri}: {missing}") from error
    except Exception as error:
        raise StorageError(f"cannot {verb} {uri}: {_cause(error)}") from error


def _of_web(error: BaseException | None) -> bool:
    return type(error).__module__.partition(".")[0] == "aiohttp"


def _cause(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    status = getattr(error, "status", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the device; free some or choose another place, then run again"
    if number == errno.EROFS:
        return "the file system is read-only; choose another place, then run again"
    if isinstance(error, NotADirectoryError):
        return "a part of its path is a file, not a folder; choose another place, then run again"
    if number == errno.EFBIG:
        return "the file would be larger than the system allows"
    if isinstance(error, PermissionError) or status in (401, 403):
        told = f" ({error})" if str(error) not in ("", "None") else ""
        return f"permission denied{told}; check credentials, `anon` and the rights on the place"
    if isinstance(error, NotImplementedError):
        return "this kind of store cannot do that"
    if isinstance(error, TimeoutError):
        return "timed out"
    if type(error).__name__ == "NoCredentialsError":
        return "no credentials in the environment; set them, or `storage: {s3: {anon: true}}`"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
