"""Protocols of a device's work queues, for the runtimes that use one.

An implementation brings its own tensor type, so this module imports no framework.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

Call = Callable[[Mapping[str, Any]], Any]
"""Maps inputs on the device, by name, to float32 logits on the device."""


class QueueEvent(Protocol):
    """A point in a queue of work."""

    def record(self) -> None: ...

    def wait(self) -> None:
        """Makes the current queue wait for this point. The host does not wait."""
        ...

    def synchronize(self) -> None:
        """Makes the host wait for this point. Returns at once if it was never recorded."""
        ...


class Streams(Protocol):
    """Two work queues of a device: one for copies to it, one for all other work."""

    @property
    def device(self) -> Any: ...

    def copy_queue(self) -> AbstractContextManager[Any]:
        """Makes the queue of copies the current queue inside the block."""
        ...

    def work_queue(self) -> AbstractContextManager[Any]:
        """Makes the queue of other work the current queue inside the block."""
        ...

    def event(self) -> QueueEvent:
        """A new event, not recorded yet."""
        ...

    def handle(self) -> int:
        """Native handle of the work queue, for libraries that queue work themselves."""
        ...

    def synchronize(self) -> None:
        """Makes the host wait until all queues of the device are empty."""
        ...

    def empty(self, shape: tuple[int, ...]) -> Any:
        """An uninitialised float32 tensor on the device."""
        ...

    def capture(self, call: Call, inputs: Mapping[str, Any]) -> Call:
        """A call that replays the recorded launches of `call`. Each call overwrites its output."""
        ...
