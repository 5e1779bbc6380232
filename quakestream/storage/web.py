"""HTTP: one client for documents, files and byte ranges, with bounds and checked redirects.

Every request is a GET (or the POST of a search), since signed URLs often allow no HEAD. A body
has a largest size, a deadline and a least rate (`quakestream.storage.limits`). A redirect leads
to a host of the same kind or further out, and credentials stay with the host they were given for.
"""

import http.client
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.util import Timeout, make_headers

from quakestream.errors import StorageError
from quakestream.storage.bounds import bounded, check_size
from quakestream.storage.filesystems import (
    MissingObjectError,
    NoAnswerError,
    NoRangesError,
    StorageOptions,
)
from quakestream.storage.hosts import host_kind, may_name
from quakestream.storage.limits import RANGE, BodyLimits
from quakestream.storage.object_stores import RETRIES, timeouts
from quakestream.storage.uris import encoded_url, is_web, protocol_of

_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 429, 500, 502, 503, 504)
"""Statuses of a server that may answer later."""
PAUSE_S = 0.5
"""Pause before the second attempt; each further one is twice as long."""
_CHUNK_BYTES = 1 << 16
_LATER = "run the same command again to retry"
Value = TypeVar("Value")
_SETTINGS = {"headers", "client_kwargs"}


class WebRefusal(Exception):  # noqa: N818 - a cause, which no one raises alone
    """A status that says no; `status` is read where errors are told apart."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {http.client.responses.get(status, '')}".strip())
        self.status = status


class ShortBody(urllib3.exceptions.HTTPError):
    """A body that ended before its stated length: the object is cut, or the connection was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    """A request, as it is sent again after a redirect or a failure."""

    url: str
    method: str = "GET"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAnswer:
    """The whole body of an answer."""

    data: bytes
    url: str
    """Where it came from, after redirects."""


def web_get(request: WebRequest, options: StorageOptions, limits: BodyLimits) -> WebAnswer:
    """A whole object.

    Raises:
        MissingObjectError: if there is none.
        StorageError: if it cannot be read within the limits.
    """

    def read(response: Any, url: str) -> WebAnswer:
        return WebAnswer(data=b"".join(_body(response, request.url, limits)), url=url)

    return _retried(request, options, limits, read)


def web_copy(url: str, path: str, options: StorageOptions, limits: BodyLimits) -> None:
    """Copies an object to a file of this machine.

    Raises:
        MissingObjectError: if there is none.
        StorageError: if it cannot be read within the limits.
        OSError: if the file cannot be written.
    """

    def read(response: Any, _: str) -> None:
        with open(path, "wb") as file:
            for chunk in _body(response, url, limits):
                file.write(chunk)

    _retried(WebRequest(url=url), options, limits, read)


def web_range(url: str, start: int, length: int, options: StorageOptions) -> bytes:
    """A range of an object; fewer bytes only where the object ends.

    Raises:
        MissingObjectError: if there is none.
        NoRangesError: if the server ignores ranges.
        StorageError: if it cannot be read within the limits.
    """
    limits = replace(RANGE, most_bytes=length)

    def read(response: Any, _: str) -> bytes:
        if response.status == 416:
            return b""
        if response.status != 206:
            raise NoRangesError("server ignores byte ranges", url, "206 Partial Content", "200 OK")
        return b"".join(_body(response, url, limits))

    return _retried(_range_request(url, start, length), options, limits, read)


def web_info(url: str, options: StorageOptions) -> dict[str, Any]:
    """`size` (None where the server does not say), and the headers that tell versions apart.

    Raises:
        MissingObjectError: if there is no such object.
        StorageError: if the server does not answer.
    """

    def read(response: Any, _: str) -> dict[str, Any]:
        names = ("ETag", "Last-Modified")
        known = {name: response.headers[name] for name in names if name in response.headers}
        return {"size": _whole_size(response), **known}

    return _retried(_range_request(url, 0, 1), options, RANGE, read)


def _range_request(url: str, start: int, length: int) -> WebRequest:
    return WebRequest(url=url, headers={"Range": f"bytes={start}-{start + length - 1}"})


def _whole_size(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    if response.status in (206, 416):
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def _retried(
    request: WebRequest,
    options: StorageOptions,
    limits: BodyLimits,
    read: Callable[[Any, str], Value],
) -> Value:
    """What `read` makes of the answer; what may pass is tried again."""
    _, read_s = timeouts()
    last_start = time.monotonic() + min(limits.total_s, 3 * read_s)
    for attempt in range(RETRIES + 1):
        try:
            with _answer(request, options) as (response, url):
                return read(response, url)
        except (urllib3.exceptions.HTTPError, WebRefusal, http.client.HTTPException) as error:
            passing = not isinstance(error, WebRefusal) or error.status in _PASSING
            pause_s = PAUSE_S * 2**attempt
            tries = 1 if _is_cut(error) else RETRIES
            if attempt >= tries or not passing or time.monotonic() + pause_s > last_start:
                _raise(error, request.url)
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def _raise(error: Exception, url: str) -> NoReturn:
    status = getattr(error, "status", 0)
    if status in (404, 410):
        remedy = "check the address"
        raise MissingObjectError(
            "cannot read: there is no such object", url, remedy=remedy
        ) from error
    if status in (401, 403):
        remedy = "get a new signed address, or copy the file to a place without a login"
        raise StorageError(
            f"cannot read: permission denied ({error})", url, remedy=remedy
        ) from error
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # a timeout to urllib3
    if isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)) and not refused:
        raise NoAnswerError("cannot read: timed out", url, remedy=_LATER) from error
    if isinstance(error, WebRefusal):
        remedy = _LATER if status in _PASSING else ""
        what = f"cannot read: the server answers {error}"
        raise StorageError(what, url, remedy=remedy) from error
    if _is_cut(error):
        what = "cannot read: the body ends before its stated length"
        raise StorageError(what, url, remedy=f"{_LATER}, or get the file again") from error
    what = f"cannot read: no answer from the server ({_silence(error)})"
    raise NoAnswerError(what, url, remedy="check the address and the network") from error


def _is_cut(error: BaseException | None) -> bool:
    """True for a body that ended too early: the object is cut, or the connection was."""
    cut = (ShortBody, urllib3.exceptions.IncompleteRead, http.client.IncompleteRead)
    return error is not None and (isinstance(error, cut) or _is_cut(error.__cause__))


def _silence(error: Exception) -> str:
    """Why a server gave no answer, in a few words."""
    cause = error.__cause__ or error
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name is not known"
    if isinstance(error, urllib3.exceptions.SSLError):
        reason = next((one for one in error.args if isinstance(one, ssl.SSLError)), cause)
        words = getattr(reason, "verify_message", None) or getattr(reason, "reason", None)
        return f"TLS: {str(words or reason).replace('_', ' ').lower()}"
    if isinstance(error, (urllib3.exceptions.ProtocolError, http.client.HTTPException)):
        return "it closed the connection"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause).rpartition(": ")[2].strip("()'\". ").lower() or type(cause).__name__


@contextmanager
def _answer(request: WebRequest, options: StorageOptions) -> Iterator[tuple[Any, str]]:
    """The answer after redirects, with its body unread, and the URL it came from."""
    kind = host_kind(request.url)
    headers = {**_configured(options, request.url), **request.headers}
    here = replace(request, headers=headers, url=encoded_url(request.url))
    for _ in range(_MOST_REDIRECTS + 1):
        response = _send(here)
        try:
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                if response.status >= 400 and response.status != 416:
                    raise WebRefusal(response.status)
                yield response, here.url
                return
            url = encoded_url(urljoin(here.url, location))
            if not is_web(url) or not may_name(kind, host_kind(url)):
                raise _refused(request.url, url)
            here = _redirected(here, url, response.status)
        finally:
            response.release_conn() if response.closed else response.close()
    raise StorageError("cannot read: too many redirects", request.url)


def _refused(url: str, target: str) -> StorageError:
    to = f"a {host_kind(target)} address" if is_web(target) else f"{protocol_of(target)}://"
    return StorageError(
        "redirect is not followed",
        url,
        expected=f"a {host_kind(url)} web server",
        got=to,
        remedy="name the final address itself, if it is meant",
    )


def _redirected(request: WebRequest, url: str, status: int) -> WebRequest:
    same_host = urlsplit(url)[:2] == urlsplit(_without_login(request.url)[0])[:2]
    kept = request.headers if same_host else {
        name: value for name, value in request.headers.items() if name == "Range"
    }  # fmt: skip
    moved = replace(request, url=url, headers=kept)
    if status == 303 or (request.method == "POST" and status in (301, 302)):
        return replace(moved, method="GET", body=None)
    return moved


def _send(request: WebRequest) -> Any:
    url, login = _without_login(request.url)
    connect_s, read_s = timeouts()
    return _pool(_proxy_of(url), os.getpid()).request(
        request.method,
        url,
        body=request.body,
        headers={"Accept-Encoding": "identity", "User-Agent": "quakestream", **login}
        | dict(request.headers),
        redirect=False,
        retries=False,
        preload_content=False,
        decode_content=False,
        timeout=Timeout(connect=connect_s, read=read_s),
    )


def _configured(options: StorageOptions, url: str) -> dict[str, str]:
    """Headers of the run file's `storage: {http: {headers: …}}`.

    Raises:
        StorageError: if there is a setting that is not known.
    """
    settings = options.of(url)
    if unknown := settings.keys() - _SETTINGS:
        names = ", ".join(sorted(unknown))
        raise StorageError(f"storage.http has an unknown setting: {names}", url, "headers")
    both = {**settings.get("client_kwargs", {}).get("headers", {}), **settings.get("headers", {})}
    return {str(name): str(value) for name, value in both.items()}


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """A URL without its user and password, and the header that carries them."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    header = make_headers(basic_auth=unquote(login))
    return urlunsplit((parts.scheme, host, *parts[2:])), {k.title(): v for k, v in header.items()}


@lru_cache(maxsize=32)
def _pool(proxy: str, _process: int) -> urllib3.PoolManager:
    """Open connections of this process: a forked child has its own."""
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=16)
    return urllib3.PoolManager(maxsize=16)


def _proxy_of(url: str) -> str:
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _body(response: Any, url: str, limits: BodyLimits) -> Iterator[bytes]:
    """The body in pieces, held to its limits and to its stated length."""

    def pieces() -> Iterator[bytes]:
        length = response.headers.get("Content-Length", "")
        left = int(length) if length.isdigit() else None
        check_size(left, url, limits)
        while chunk := response.read1(_CHUNK_BYTES):
            left = None if left is None else left - len(chunk)
            yield chunk
        if left:
            raise ShortBody(f"{left:,} bytes are missing")

    yield from bounded(pieces(), url, limits)
