"""URIs: protocols, local paths, and hrefs relative to the document that holds them."""

import os
import posixpath
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_ALIASES = {"": "file", "local": "file", "gcs": "gs", "abfs": "az", "abfss": "az", "s3a": "s3"}
_WEB = ("http", "https")
_KEPT = "%!$&'()*+,/:;=@~-._"
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def protocol_of(uri: str) -> str:
    """The protocol of a URI: `file, memory, s3, http, https, gs, az`, or another one as written."""
    match = _SCHEME.match(uri)
    name = match.group(1).lower() if match else ""
    return _ALIASES.get(name, name)


def is_remote(uri: str) -> bool:
    """True unless the object is a file of this machine or in its memory."""
    return protocol_of(uri) not in ("file", "memory")


def is_web(uri: str) -> bool:
    """True for http and https."""
    return protocol_of(uri) in _WEB


def bucket_of(uri: str) -> str:
    """The bucket or container of a URI, such as `s3://bucket`; empty where there is none."""
    if not is_remote(uri) or is_web(uri):
        return ""
    return f"{protocol_of(uri)}://{urlsplit(uri).netloc}"


def one_of_each_bucket(uris: Iterable[str]) -> tuple[str, ...]:
    """The first of the URIs in each bucket; those in none are left out."""
    first: dict[str, str] = {}
    for uri in uris:
        if bucket := bucket_of(uri):
            first.setdefault(bucket, uri)
    return tuple(first.values())


def local_path(uri: str) -> str:
    """Absolute path of a `file://` URI or a plain path."""
    match = _SCHEME.match(uri)
    if not match:
        return os.path.abspath(uri)
    rest = uri[match.end() :]
    if rest.startswith("localhost/"):
        rest = rest.removeprefix("localhost")
    return os.path.abspath(unquote(rest))


def resolve_href(base: str, href: str) -> str:
    """The URI that an href in the document `base` refers to.

    Unlike `urllib.parse.urljoin` it knows s3, gs and az, and it keeps the query (a signature)
    of an absolute href.
    """
    if _SCHEME.match(href):
        return href
    if protocol_of(base) == "file":
        return os.path.normpath(os.path.join(os.path.dirname(local_path(base)), href))
    parts = urlsplit(base)
    if href.startswith("//"):
        return f"{parts.scheme}:{href}"
    path, question, query = href.partition("?")
    folder = "/" if path.startswith("/") else posixpath.dirname(parts.path) or "/"
    joined = posixpath.normpath(posixpath.join(folder, path.lstrip("/"))) if path else parts.path
    if path.endswith("/"):
        joined = f"{joined.rstrip('/')}/"
    kept_query = query if question and parts.scheme in _WEB else ""
    return urlunsplit((parts.scheme, parts.netloc, joined, kept_query, ""))


def relative_href(base: str, uri: str) -> str:
    """The href of `uri` in the document `base`: relative within one store, else the whole URI."""
    if protocol_of(base) == protocol_of(uri) == "file":
        folder = os.path.dirname(local_path(base))
        relative = os.path.relpath(local_path(uri), folder).replace(os.sep, "/")
    elif urlsplit(base)[:2] == urlsplit(uri)[:2] and not urlsplit(uri).query:
        folder = posixpath.dirname(urlsplit(base).path) or "/"
        relative = posixpath.relpath(urlsplit(uri).path, folder)
    else:
        return uri
    return relative if relative.startswith("../") else f"./{relative}"


def encoded_url(url: str) -> str:
    """An http(s) URL with what no URL may hold percent-encoded; what is encoded stays.

    Browsers do the same (WHATWG URL). A signature in the query reaches the server unchanged. The
    fragment, which no server sees, is left out.
    """
    parts = urlsplit(url)
    host = parts.netloc
    if not host.isascii():
        login, at, name = host.rpartition("@")
        host = f"{quote(login, safe=_KEPT)}{at}{name.encode('idna').decode()}"
    path = _STRAY_PERCENT.sub("%25", parts.path)
    query = _STRAY_PERCENT.sub("%25", parts.query)
    encoded = quote(path, safe=_KEPT), quote(query, safe=_KEPT + "?")
    return urlunsplit((parts.scheme, host, *encoded, ""))
