"""A pool of actors that start early, receive work as they have room, and may die meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from quakestream.errors import ClusterError, QuakestreamError
from quakestream.pipeline.backends.cluster import ray_failure

RESTARTS = 20
"""How often an actor may come back. Machines are taken away during a long run, but an actor that
dies whenever it opens must end."""
ATTEMPTS = 4
"""How often an item is tried when actors die on it. One death may be chance or a machine taken
away; an item that kills every actor must end the run."""
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Attempt(Generic[T]):
    """An item that an actor works on."""

    item: T
    actor: int = -1
    attempts: int = 0


class ActorPool:
    """Actors that are used as soon as they are open.

    An item whose actor dies goes to another actor, so it must be safe to run twice. The actor is
    used again once Ray has restarted it.

    Args:
        actors: actor handles with a method `open` that may be called again, made with
            `max_restarts=RESTARTS`. Ray itself may retry `open` alone. It is called at once, and
            returns the name of the machine that the actor is on.
        open_with: arguments of `open`.
        on_death: called once for each death of an actor that comes back.
        more: called before each wait; returns actors that join. The pool does without one that
            cannot be opened.
        on_refusal: called with the reason when an actor that joined could not be opened.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        *open_with: Any,
        on_death: Callable[[], None] = lambda: None,
        more: Callable[["ActorPool"], Sequence[Any]] = lambda _: (),
        on_refusal: Callable[[QuakestreamError], None] = lambda _: None,
    ) -> None:
        self._on_death, self._more, self._on_refusal = on_death, more, on_refusal
        self._actors: list[Any] = []
        self._open_with, self._first = open_with, len(actors)
        self._opening: dict[Any, int] = {}
        self._open: list[bool] = []
        self.machines: list[str] = []
        """Where each actor that is or was open works; empty for one that was not open yet."""
        self._add(actors)

    @property
    def opening(self) -> int:
        """Actors that are not open yet, or not again."""
        return len(self._opening)

    def _add(self, actors: Sequence[Any]) -> None:
        for actor in actors:
            self._opening[actor.open.remote(*self._open_with)] = len(self._actors)
            self._actors.append(actor)
            self._open.append(False)
            self.machines.append("")

    def close(self) -> None:
        """Ends the actors' processes."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()

    def results(
        self, items: Iterable[T], submit: Callable[[Any, T], Any], per_actor: int
    ) -> Iterator[Any]:
        """Results of items, in any order; items are taken as there is room for them.

        Args:
            submit: gives an item to an actor; returns Ray's reference to the result.
            per_actor: items that one actor holds at a time.

        Raises:
            QuakestreamError: an actor raises it, or cannot be opened because of it.
            ClusterError: actors die again and again.
        """
        left, again = iter(items), deque[_Attempt[T]]()
        running: dict[Any, _Attempt[T]] = {}
        while True:
            self._add(self._more(self))
            while (n := self._actor_with_room(running.values(), per_actor)) is not None:
                attempt = again.popleft() if again else next((_Attempt(i) for i in left), None)
                if attempt is None:
                    break
                attempt.actor, attempt.attempts = n, attempt.attempts + 1
                running[submit(self._actors[n], attempt.item)] = attempt
            if not running and not again and any(self._open):
                return
            done = ray.wait([*running, *self._opening], num_returns=1)[0][0]
            if done in self._opening:
                self._opened(done)
                continue
            attempt = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:  # raised by our code: no retry helps
                raise ray_failure(error) from error
            except ray.exceptions.RayError as error:
                self._lost(attempt, error)
                again.append(attempt)
            else:
                yield result

    def _actor_with_room(self, running: Iterable[_Attempt[Any]], per_actor: int) -> int | None:
        """The open actor that holds the fewest items, if it has room."""
        load = [0 if is_open else per_actor for is_open in self._open]
        for attempt in running:
            load[attempt.actor] += 1
        n = min(range(len(load)), key=load.__getitem__)
        return n if load[n] < per_actor else None

    def _opened(self, done: Any) -> None:
        """Marks an actor as open.

        Raises:
            QuakestreamError: why it could not be opened, unless it joined later.
        """
        n = self._opening.pop(done)
        try:
            self.machines[n] = ray.get(done)
        except ray.exceptions.RayError as error:
            if n < self._first:
                raise ray_failure(error) from error
            self._on_refusal(ray_failure(error))
        else:
            self._open[n] = True

    def _lost(self, attempt: _Attempt[Any], error: Exception) -> None:
        """Waits for the actor to come back; other actors take its items meanwhile.

        Raises:
            ClusterError: actors died on this item again and again.
        """
        if attempt.attempts >= ATTEMPTS:
            raise ClusterError(
                f"{ATTEMPTS} workers died while they worked on one commit group "
                f"({ray_failure(error).what})",
                remedy="look into Ray's logs; where memory ran out, ask for smaller cells or "
                "fewer readers",
            ) from error
        if self._open[attempt.actor]:
            self._open[attempt.actor] = False
            self._on_death()
            opening = self._actors[attempt.actor].open.remote(*self._open_with)
            self._opening[opening] = attempt.actor
