"""Queues of work on a device, as the runtimes of a device see them.

Tensors are those of whatever implements this; nothing here imports a framework.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

Call = Callable[[Mapping[str, Any]], Any]
"""Inputs by name on the device to logits of float32 there."""


class QueueEvent(Protocol):
    """A point in a queue of work."""

    def record(self) -> None: ...

    def wait(self) -> None:
        """Holds the queue that is asked inside of, not the host."""
        ...

    def synchronize(self) -> None:
        """Holds the host; returns at once if it was never recorded."""
        ...


class Streams(Protocol):
    """Two queues of work on a device: copies to it, and all else."""

    @property
    def device(self) -> Any: ...

    def copying(self) -> AbstractContextManager[Any]:
        """What is queued inside goes to the copying queue."""
        ...

    def working(self) -> AbstractContextManager[Any]: ...

    def event(self) -> QueueEvent: ...

    def handle(self) -> int:
        """Of the working queue, for libraries that queue by themselves."""
        ...

    def settle(self) -> None:
        """Holds the host until all queues of the device are empty."""
        ...

    def floats(self, shape: tuple[int, ...]) -> Any:
        """Room for float32 on the device."""
        ...

    def captured(self, call: Call, inputs: Mapping[str, Any]) -> Call:
        """The call with its launches recorded once; its output is overwritten by the next."""
        ...
