"""Byte ranges of one object: the protocol that readers use, and requests for several ranges.

Many small requests cost more than a few large ones, and bytes that nobody needs cost too:
`merge_ranges` joins neighbouring ranges as long as few bytes are fetched in vain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """How the ranges of an object are best requested."""

    gap_bytes: int = 256 << 10
    """Ranges further apart are never joined."""
    waste: float = 0.1
    """Bytes that nobody needs, over bytes needed: the most that joining may cost a request."""
    request_bytes: int = 4 << 20
    """A request that has reached this size takes in no further range."""
    requests: int = 8
    """Requests that may be under way at once; with 0 each block is read by the thread that
    decodes it."""


INLINE = FetchPolicy(gap_bytes=-1, requests=0)
"""The policy of local files: a read costs a microsecond, so ranges are never joined."""


class Fetcher(Protocol):
    """Reads byte ranges of one open object. Safe to call from several threads."""

    @property
    def policy(self) -> FetchPolicy:
        """How the object's ranges are best requested."""
        ...

    def fetch(self, start: int, length: int) -> Buffer:
        """`length` bytes from `start`; fewer only where the object ends.

        Raises:
            MissingObjectError: if there is no such object.
            StorageError: if it cannot be read.
        """
        ...

    def size(self) -> int:
        """Bytes of the whole object.

        Raises:
            StorageError: if the store does not say.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """One request, and the ranges that it brings."""

    start: int
    length: int
    members: tuple[int, ...]
    """Indices of the ranges inside it, in order of their offset."""


def merge_ranges(
    starts: Sequence[int], lengths: Sequence[int], policy: FetchPolicy
) -> list[RangeRequest]:
    """Requests that bring all ranges, in order of offset; each wastes at most `policy.waste`.

    Ranges may overlap or be equal.
    """
    requests: list[RangeRequest] = []
    members: list[int] = []
    begin = end = needed = 0
    for n in sorted(range(len(starts)), key=lambda n: starts[n]):
        start, stop = starts[n], starts[n] + lengths[n]
        new = max(stop - max(start, end), 0) if members else lengths[n]
        joined = max(end, stop) - begin
        near = start - end <= policy.gap_bytes and end - begin < policy.request_bytes
        if members and near and joined - (needed + new) <= policy.waste * (needed + new):
            end, needed = max(end, stop), needed + new
        else:
            if members:
                requests.append(RangeRequest(begin, end - begin, tuple(members)))
            begin, end, needed, members = start, stop, lengths[n], []
        members.append(n)
    if members:
        requests.append(RangeRequest(begin, end - begin, tuple(members)))
    return requests
