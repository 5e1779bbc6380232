"""Checks that a worker can read what its driver can, before it works.

Credentials come from each machine's own environment, and never travel. A worker without them would
fail at every scene and every commit, and wait for a cloud's metadata service each time.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import ray

from quakestream.errors import ClusterError, MissingExtraError, StorageError
from quakestream.storage import (
    MissingObjectError,
    NoCredentialsError,
    StorageOptions,
    fingerprint,
)
from quakestream.storage.uris import bucket_of

ANSWER_S = 20.0
"""Time that a store has to answer a worker."""
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every machine before `ray start`, or give "
    "the machines a role, and start Ray again (it does not see variables that are set later)"
)
_SHARED = "give an output in a bucket, or in a folder that all machines share"
_REACHED = "make it readable from every machine of the cluster, and run the same command again"
_readable: set[tuple[str, str]] = set()
"""Objects that this process could read, with the options for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What every worker must be able to read. It holds no credentials."""

    objects: tuple[str, ...]
    options: StorageOptions

    def check(self) -> None:
        """Looks up each object, once per process.

        Raises:
            ClusterError: if this machine cannot read one. It names the machine and the object.
        """
        for uri in self.objects:
            key = uri, repr(self.options.of(uri))
            if key in _readable:
                continue
            error = _failure(uri, self.options)
            if error is not None:
                raise _refusal(uri, error) from error
            _readable.add(key)


@contextmanager
def errors_name_node() -> Iterator[None]:
    """Adds this machine's name to errors of stores: credentials, disk and network are its own."""
    try:
        yield
    except StorageError as error:
        where = f"{error.where} (worker on node {_node()})"
        raise StorageError.of(replace(error.problem, where=where)) from error


def checked(access: Access, function: Callable[[Any], Any], item: Any) -> Any:
    """Calls a function on a worker that can read what it must."""
    access.check()
    return function(item)


def _failure(uri: str, options: StorageOptions) -> StorageError | None:
    """Why an object cannot be looked up, within a bounded time; None if it can."""
    failures: list[StorageError] = []
    answered = threading.Event()

    def look_up() -> None:
        try:
            with suppress(MissingExtraError):  # other readers may know the store
                fingerprint(uri, options)
        except StorageError as error:
            failures.append(error)
        finally:
            answered.set()

    threading.Thread(target=look_up, daemon=True, name="access").start()
    if not answered.wait(ANSWER_S):
        return StorageError(f"no answer within {ANSWER_S:g} s", uri)
    return failures[0] if failures else None


def _refusal(uri: str, error: StorageError) -> ClusterError:
    worker = f"worker on node {_node()}"
    if isinstance(error, NoCredentialsError):
        return ClusterError(
            f"{worker} has no credentials for {bucket_of(uri)}", uri, remedy=_CREDENTIALS
        )
    if isinstance(error, MissingObjectError):
        return ClusterError(
            f"{worker} does not see what this machine has written there", uri, remedy=_SHARED
        )
    return ClusterError(
        f"{worker} cannot read there what this machine can", uri, got=error.what, remedy=_REACHED
    )


def _node() -> str:
    return str(cast("Any", ray).util.get_node_ip_address())
