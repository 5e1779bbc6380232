"""Actors that are started early, given work as they have room, and may die meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from quakestream.errors import StorageError
from quakestream.pipeline.backends.ray_errors import cause_of

RESTARTS = 20
"""How often an actor may come back: machines are taken back in a long run, but one that dies
whenever it is opened must end."""
ATTEMPTS = 4
"""How often something is asked of actors that die meanwhile: once may be chance or a machine
taken back, and what kills every actor that tries it must end."""
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Asked(Generic[T]):
    """Something that an actor was asked."""

    item: T
    actor: int = -1
    attempts: int = 0


class Actors:
    """Actors that are used when they are there.

    What one was asked when it died is asked of another: it must be safe to do twice. The actor
    is used again when Ray has started it again.

    Args:
        handles: actors with a method `open` that may be called again, made with `RESTARTS` and
            asked for retries by Ray itself in `open` alone. It is called at once.
    """

    def __init__(self, handles: Sequence[Any]) -> None:
        self._actors = list(handles)
        self._opening = {actor.open.remote(): n for n, actor in enumerate(handles)}
        self._there = [False] * len(handles)

    def close(self) -> None:
        """Ends the actors' processes."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()

    def answers(
        self, items: Iterable[T], ask: Callable[[Any, T], Any], at_once: int
    ) -> Iterator[Any]:
        """What actors answer, in any order; items are taken as there is room for them.

        Args:
            ask: gives an actor an item; returns Ray's reference to the answer.
            at_once: items that one actor is asked for before it has answered the first.

        Raises:
            QuakestreamError: what an actor raises, or could not be opened for.
            StorageError: if actors die again and again.
        """
        left, again = iter(items), deque[_Asked[T]]()
        flying: dict[Any, _Asked[T]] = {}
        while True:
            while (n := self._free(flying.values(), at_once)) is not None:
                asked = again.popleft() if again else next((_Asked(i) for i in left), None)
                if asked is None:
                    break
                asked.actor, asked.attempts = n, asked.attempts + 1
                flying[ask(self._actors[n], asked.item)] = asked
            if not flying and not again and any(self._there):
                return
            done = ray.wait([*flying, *self._opening], num_returns=1)[0][0]
            if done in self._opening:
                self._opened(done)
                continue
            asked = flying.pop(done)
            try:
                answer = ray.get(done)
            except ray.exceptions.RayTaskError as error:  # our own code's, whoever is asked
                raise cause_of(error) from error
            except ray.exceptions.RayError as error:
                self._lost(asked, error)
                again.append(asked)
            else:
                yield answer

    def _free(self, flying: Iterable[_Asked[Any]], at_once: int) -> int | None:
        """The actor that has least to do, if it has room."""
        busy = [0 if there else at_once for there in self._there]
        for asked in flying:
            busy[asked.actor] += 1
        n = min(range(len(busy)), key=busy.__getitem__)
        return n if busy[n] < at_once else None

    def _opened(self, done: Any) -> None:
        """Takes note of an actor that is there.

        Raises:
            QuakestreamError: what it could not be opened for.
        """
        n = self._opening.pop(done)
        try:
            ray.get(done)
        except ray.exceptions.RayError as error:
            raise cause_of(error) from error
        self._there[n] = True

    def _lost(self, asked: _Asked[Any], error: Exception) -> None:
        """Waits for the actor to come back, and leaves what it was asked to the others.

        Raises:
            StorageError: if actors die of it again and again.
        """
        if asked.attempts >= ATTEMPTS:
            raise StorageError(
                f"{ATTEMPTS} workers died of one batch, or beside it: {cause_of(error)}; Ray's "
                "logs say why; where memory ran out, ask for smaller cells or fewer readers"
            ) from error
        if self._there[asked.actor]:
            self._there[asked.actor] = False
            self._opening[self._actors[asked.actor].open.remote()] = asked.actor
