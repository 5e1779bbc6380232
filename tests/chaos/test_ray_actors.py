"""Actors that die, cannot be opened, or raise."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("ray")

import ray

from quakestream.errors import ClusterError, EngineError, ReadError
from quakestream.pipeline.backends.ray_pool import ATTEMPTS, RESTARTS, ActorPool

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("ray_backend")]
AT_ONCE = 3


class Worker:
    """Answers with its process id. `die_once` dies at an item that has no mark file yet."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    @ray.method(max_task_retries=-1)
    def open(self) -> None:
        if (self._folder / "refuse").exists():
            raise EngineError("no engine of that name")

    def answer(self, item: int) -> tuple[int, int]:
        time.sleep(0.02)
        return item, os.getpid()

    def die_once(self, item: int) -> tuple[int, int]:
        mark = self._folder / f"died-{item}"
        if item % 20 == 7 and not mark.exists():
            mark.touch()
            os._exit(1)
        return self.answer(item)

    def die(self, item: int) -> tuple[int, int]:
        with (self._folder / "deaths").open("a") as deaths:
            deaths.write(f"{item}\n")
        os._exit(1)

    def refuse(self, item: int) -> tuple[int, int]:
        raise ReadError(f"cannot read block {item}")


@pytest.fixture
def actors(tmp_path: Path) -> Iterator[ActorPool]:
    make = cast("Any", ray.remote(Worker)).options(
        num_cpus=0.5, max_restarts=RESTARTS, max_concurrency=2
    )
    made = ActorPool([make.remote(str(tmp_path)) for _ in range(2)])
    yield made
    made.close()


def test_every_item_is_answered_once_though_actors_die(actors: ActorPool, tmp_path: Path) -> None:
    stream = actors.results(range(60), lambda actor, n: actor.die_once.remote(n), AT_ONCE)
    answers = list(stream)
    assert sorted(item for item, _ in answers) == list(range(60))
    assert len(list(tmp_path.glob("died-*"))) == 3
    assert len({pid for _, pid in answers}) > 2, "those that died came back"


def test_items_are_taken_as_there_is_room(actors: ActorPool) -> None:
    taken = []

    def items() -> Iterator[int]:
        for n in range(40):
            taken.append(n)
            yield n

    answered = 0
    for _ in actors.results(items(), lambda actor, n: actor.answer.remote(n), AT_ONCE):
        answered += 1
        assert len(taken) <= answered + 2 * AT_ONCE
    assert answered == len(taken) == 40


def test_an_item_that_kills_every_actor_is_an_error(actors: ActorPool, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=f"{ATTEMPTS} workers died while they worked on"):
        list(actors.results([1], lambda actor, n: actor.die.remote(n), AT_ONCE))
    assert (tmp_path / "deaths").read_text().count("1\n") <= ATTEMPTS


def test_an_error_of_an_actor_is_raised_by_the_caller(actors: ActorPool) -> None:
    with pytest.raises(ReadError, match="cannot read block 5"):
        list(actors.results([5], lambda actor, n: actor.refuse.remote(n), AT_ONCE))


def test_an_actor_that_cannot_be_opened_raises_its_error(tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    made = ActorPool([cast("Any", ray.remote(Worker)).options(num_cpus=0).remote(str(tmp_path))])
    with pytest.raises(EngineError, match="no engine of that name"):
        list(made.results([1], lambda actor, n: actor.answer.remote(n), AT_ONCE))
    made.close()
