"""One run writes to an output at a time."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quakestream.errors import InUseError
from quakestream.outputs import lease
from quakestream.outputs.layout import LEASE
from quakestream.outputs.lease import LeaseRecord, held_lease, newest_lease
from quakestream.storage import Store, open_store
from tests.helpers.servers import S3Server

STORES = ["folder", "memory", "moto", pytest.param("radosgw", marks=pytest.mark.slow)]


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind = getattr(request, "param", "folder")
    if kind == "folder":
        return open_store(str(tmp_path / "out"))
    if kind == "memory":
        return open_store(f"memory://{tmp_path.name}/out")
    server: S3Server = request.getfixturevalue(kind)
    bucket = f"lease-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    return open_store(f"{server.make_bucket(bucket)}/out", server.options)


def nothing(line: str) -> None:
    raise AssertionError(line)


def write(store: Store, number: int, **changed: object) -> LeaseRecord:
    """The lease of another run."""
    record = replace(lease._own_record(), token="other", **changed)  # type: ignore[arg-type]
    store.put(f"{LEASE}{number:08}.json", record.to_json())
    return record


ELSEWHERE = {"machine": "another", "host": "node-3", "pid": 4711}


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_of_many_runs_that_begin_at_once_one_holds(store: Store) -> None:
    begin, end, answers = threading.Barrier(6), threading.Event(), list[str]()

    def run() -> None:
        begin.wait()
        try:
            with held_lease(store, nothing):
                answers.append("held")
                end.wait(30)
        except InUseError as error:
            answers.append(f"process {os.getpid()} on " if str(os.getpid()) in str(error) else "?")

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while len(answers) < 6 and time.monotonic() < until:
        time.sleep(0.02)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["held"] + [f"process {os.getpid()} on "] * 5
    assert len(store.list(LEASE)) == 1
    with held_lease(store, nothing):  # given back: the next run begins at once
        pass
    record = newest_lease(store)[1]
    assert record is not None
    assert record.ended == "finished"


@pytest.mark.parametrize("store", STORES[:3], indirect=True)
def test_an_object_is_created_once(store: Store) -> None:
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.get("a/b") == b"first"
    assert store.list("a/") == ["a/b"]


@pytest.mark.parametrize(
    ("error", "ended"),
    [(KeyboardInterrupt, "interrupted"), (SystemExit, "interrupted"), (ValueError, "failed")],
)
def test_a_lease_says_how_its_run_ended(
    store: Store, error: type[BaseException], ended: str
) -> None:
    with pytest.raises(error), held_lease(store, nothing):
        raise error
    record = newest_lease(store)[1]
    assert record is not None
    assert record.ended == ended


def _hold(uri: str, held: "multiprocessing.synchronize.Event") -> None:
    with held_lease(open_store(uri), nothing):
        held.set()
        time.sleep(600)


def test_a_killed_run_is_taken_over_at_once_on_its_machine(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=_hold, args=(store.uri, held))
    process.start()
    assert held.wait(30)
    with pytest.raises(InUseError, match=f"process {process.pid} on .*, since .* UTC"):
        held_lease(store, nothing).__enter__()
    os.kill(process.pid or 0, signal.SIGKILL)
    lines: list[str] = []
    until = time.monotonic() + 10
    while time.monotonic() < until:  # also before anybody has asked for its exit code
        try:
            with held_lease(store, lines.append):
                break
        except InUseError:
            time.sleep(0.01)
    process.join()
    assert len(lines) == 1
    assert f"taken over from process {process.pid}" in lines[0]


def test_another_process_of_the_same_number_is_not_the_run(store: Store) -> None:
    write(store, 3, process="long ago")
    lines: list[str] = []
    with held_lease(store, lines.append):
        assert newest_lease(store)[0] == 4
    assert "taken over" in lines[0]


def test_a_run_elsewhere_is_refused_once_it_gives_a_sign(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SIGN_S", 0.05)
    held = write(store, 1, **ELSEWHERE)
    sign = threading.Timer(
        0.2, lambda: write(store, 1, **ELSEWHERE, since=held.since, sign=datetime.now(UTC))
    )
    sign.start()
    lines: list[str] = []
    with pytest.raises(InUseError, match="process 4711 on node-3"):
        held_lease(store, lines.append).__enter__()
    sign.join()
    assert "waiting up to" in lines[0]


def test_a_run_elsewhere_that_is_silent_is_taken_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SIGN_S", 0.05)
    monkeypatch.setattr(lease, "SILENT_AFTER", timedelta(seconds=0.5))
    write(store, 1, **ELSEWHERE)
    lines: list[str] = []
    with held_lease(store, lines.append):
        pass
    assert [line.split(": ", 1)[1][:10] for line in lines] == ["in use by ", "taken over"]


def test_an_old_lease_is_taken_over_without_waiting(store: Store) -> None:
    write(store, 7, **ELSEWHERE, sign=datetime.now(UTC) - timedelta(seconds=61))
    lines: list[str] = []
    with held_lease(store, lines.append):
        pass
    assert len(lines) == 1
    assert store.list(LEASE) == [f"{LEASE}00000008.json"]


def test_who_lost_the_lease_is_told_and_does_not_take_it_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SIGN_S", 0.02)
    with held_lease(store, nothing) as mine:
        mine.check()
        write(store, 2, **ELSEWHERE)
        with pytest.raises(InUseError, match=r"another run has taken over.*4711 on node-3"):
            mine.check()
        time.sleep(0.1)
    record = newest_lease(store)[1]
    assert record is not None
    assert (record.token, record.ended) == ("other", "")


def test_a_lease_shows_that_its_run_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SIGN_S", 0.02)
    with held_lease(store, nothing):
        signs = set()
        until = time.monotonic() + 10
        while len(signs) < 3 and time.monotonic() < until:
            record = newest_lease(store)[1]
            signs |= {record.sign} if record else set()
            time.sleep(0.01)
        assert len(signs) == 3


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: b"",
        lambda d: d[:40],
        lambda d: b"[]",
        lambda d: b"[" * 100_000,
        lambda d: d.replace(b"20", b"xx"),
        lambda d: d.replace(b"+00:00", b""),
    ],
)
def test_a_damaged_lease_holds_nobody_back(store: Store, damage: Damage) -> None:
    record = write(store, 5, **ELSEWHERE)
    store.put(f"{LEASE}00000005.json", damage(record.to_json()))
    store.put(f"{LEASE}notes.txt", b"?")
    with held_lease(store, nothing):
        assert newest_lease(store)[0] == 6
