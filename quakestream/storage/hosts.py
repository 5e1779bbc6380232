"""How far inside the network a host lies, so that strangers' links cannot ask machines inside.

A catalogue from the internet, or a redirect, may name any URL. Followed blindly, it makes this
machine ask services that only this machine can reach, such as a cloud's metadata service
(server-side request forgery, CWE-918).
"""

import ipaddress
import socket
from enum import IntEnum
from functools import lru_cache
from urllib.parse import urlsplit


class HostKind(IntEnum):
    """Kinds of hosts, from the outermost to the innermost."""

    PUBLIC = 0
    PRIVATE = 1
    """An address of a local network (RFC 1918, RFC 4193, RFC 6598)."""
    LOOPBACK = 2
    """This machine."""
    LINK_LOCAL = 3
    """169.254.0.0/16 and fe80::/10, where clouds keep the credentials of a machine."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


def host_kind(url: str) -> HostKind:
    """The kind of a URL's host; of several addresses, the innermost counts.

    A name that cannot be resolved here counts as public: a proxy may know it, and no request
    reaches it without one.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return _kind(host) if host else HostKind.PUBLIC


def may_name(document: HostKind, target: HostKind) -> bool:
    """True if a document on a host of one kind may name a host of another.

    A link leads outward or stays; link-local addresses are never named.
    """
    return target <= document and target is not HostKind.LINK_LOCAL


@lru_cache(maxsize=4096)
def _kind(host: str) -> HostKind:
    if host == "localhost" or host.endswith(".localhost"):
        return HostKind.LOOPBACK
    try:
        return _kind_of_address(host)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return HostKind.PUBLIC
    return max((_kind_of_address(str(entry[4][0])) for entry in found), default=HostKind.PUBLIC)


def _kind_of_address(text: str) -> HostKind:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_link_local:
        return HostKind.LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return HostKind.LOOPBACK
    return HostKind.PUBLIC if address.is_global else HostKind.PRIVATE
