"""Which hrefs a catalogue may name, and what they mean.

A catalogue is written by somebody else. What it names is read by this machine, with this
machine's rights and from inside this machine's network, so the rule is:

- A remote catalogue names remote places: http(s), s3, gs, az. Never files of this machine.
- A catalogue on this machine names files and remote places.
- A link leads outward or stays (`quakestream.storage.hosts`): a catalogue on the internet names no
  address of a local network or of this machine; one on a local network names none of this machine;
  nobody names a link-local address.
- No other scheme, no chain of schemes (`simplecache::…`), none of GDAL's own names (`/vsi…`).

The run file is written by the user: what it names itself is not held to the rule.
"""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, urlsplit

from quakestream.errors import CatalogItemError, QuakestreamError
from quakestream.storage import StorageOptions, fingerprint, is_remote, is_web, protocol_of
from quakestream.storage import resolve_href as resolved
from quakestream.storage.hosts import HostKind, host_kind, may_name

_REMOTE = ("http", "https", "s3", "gs", "az")
_NAMED_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):(//|:)")


@dataclass(frozen=True, kw_only=True, eq=False)
class HrefRule:
    """The rule for the hrefs of one catalogue."""

    root: str
    """The catalogue's own place, as the run file names it."""
    options: StorageOptions = field(default_factory=StorageOptions)

    @cached_property
    def kind(self) -> HostKind:
        """How far inside the network the catalogue lies; a file of this machine is innermost."""
        if not is_remote(self.root):
            return HostKind.LOOPBACK
        if is_web(self.root):
            return host_kind(self.root)
        endpoint = self.options.of(self.root).get("endpoint_url")
        return host_kind(str(endpoint)) if endpoint else HostKind.PUBLIC

    def place(self, base: str, href: str) -> str:
        """The place that an href in the document `base` means.

        An href is a URI reference, so `%20` is a space. Many catalogues of files were written
        without knowing that: a file whose name is the href as it stands comes first.

        Raises:
            CatalogItemError: if the catalogue may not name it.
        """
        href = href.strip()
        self._check_scheme(href)
        if _is_broken(href):
            raise self._refused(href, "it is not an address")
        if is_remote(base) and _climbs(base, href):
            raise self._refused(href, "it climbs above the root of its server")
        uri = resolved(base, href)
        self._check(uri, href)
        if is_web(uri) or "%" not in uri or href.lower().startswith("file:"):
            return uri
        decoded = unquote(uri)
        return decoded if not self._exists(uri) and self._exists(decoded) else uri

    def _check_scheme(self, href: str) -> None:
        match = _NAMED_SCHEME.match(href)
        if href.startswith("/vsi"):
            raise self._refused(href, "it is a name of GDAL's own")
        if match is None:
            return
        scheme = match.group(1).lower()
        if match.group(2) == ":":
            raise self._refused(href, f"{scheme}:: is a chain of schemes")
        if match.group(2) == "//" and protocol_of(href) not in (*_REMOTE, "file", "memory"):
            raise self._refused(href, f"{scheme}:// is not read")

    def _check(self, uri: str, href: str) -> None:
        if not is_remote(uri):
            if is_remote(self.root):
                raise self._refused(href, "a remote catalogue may not name files of this machine")
            return
        if not is_web(uri):
            return
        kind = host_kind(uri)
        if not may_name(self.kind, kind):
            where = f"{kind} address of {urlsplit(uri).hostname}"
            raise self._refused(href, f"a {self.kind} catalogue may not name the {where}")

    def _refused(self, href: str, why: str) -> CatalogItemError:
        return CatalogItemError(
            f"href is refused: {why}",
            got=href,
            remedy="if you trust it, copy the catalogue to this machine or correct the href",
        )

    def _exists(self, uri: str) -> bool:
        if not is_remote(uri):
            return os.path.exists(uri)
        try:
            fingerprint(uri, self.options)
        except QuakestreamError:
            return False
        return True


def _is_broken(href: str) -> bool:
    """True for brackets that hold no IPv6 address, and for a port that is no number."""
    try:
        return is_web(href) and (urlsplit(href).port or 0) < 0
    except ValueError:
        return True


def _climbs(base: str, href: str) -> bool:
    """True for a relative href with more `..` than its document has folders."""
    if _NAMED_SCHEME.match(href) or href.startswith("//"):
        return False
    depth = 0 if href.startswith("/") else urlsplit(base).path.count("/") - 1
    for part in href.partition("?")[0].split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False
