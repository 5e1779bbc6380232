"""A silent host costs a plan a few requests; slow hosts and bad files cost nothing."""

import datetime as dt
import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from shapely.geometry import box

from quakestream.domain import Scene
from quakestream.errors import SceneError
from quakestream.pipeline.planning.scenes import probe_scenes
from quakestream.pipeline.planning.silent_hosts import FAILURES, HOSTS, SilentHosts
from quakestream.storage import MissingObjectError, NoAnswerError, StorageOptions, web

A, B = "https://a.example/1.tif", "https://b.example/1.tif"
SILENCE = NoAnswerError("cannot read: timed out", A)


def scenes(root: str, number: int) -> list[Scene]:
    when, outline = dt.datetime(2023, 2, 7, tzinfo=dt.UTC), box(36, 37, 37, 38)
    names = [f"s{n}" for n in range(number)]
    return [Scene(id=n, href=f"{root}/{n}.tif", datetime=when, outline=outline) for n in names]


@pytest.fixture
def slow_host() -> Iterator[str]:
    """A server that takes a while to say that there is no such file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.05)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_silent_host_is_skipped_and_its_scenes_are_named(
    monkeypatch: pytest.MonkeyPatch, slow_host: str
) -> None:
    monkeypatch.setattr(web, "PAUSE_S", 0.001)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        silent = f"http://127.0.0.1:{closed.getsockname()[1]}"
        mixed = scenes(silent, 40) + scenes(slow_host, 16)
        found = probe_scenes(mixed, StorageOptions(), SilentHosts(patience_s=0.0))
    assert [issue.subject for issue in found.issues] == [scene.id for scene in mixed]
    causes = [issue.cause for issue in found.issues]
    skipped = [cause for cause in causes[:40] if "not asked for" in cause]
    assert len(skipped) > 20
    assert all("no answer from the server" in c for c in causes[:40] if c not in skipped)
    assert all(issue.retryable for issue in found.issues[:40])
    assert all("there is no such object" in cause for cause in causes[40:])


def test_a_host_is_silent_after_several_requests_and_a_while() -> None:
    hosts = SilentHosts(patience_s=5.0)
    now = time.monotonic()
    for age_s in range(FAILURES - 1):
        hosts.note(A, SILENCE, now - 6.0 - age_s)
    hosts.check(A)
    hosts.note(A, SILENCE, now)
    with pytest.raises(NoAnswerError, match="3 requests without an answer in 7 s"):
        hosts.check(A)
    hosts.check(B)
    young = SilentHosts(patience_s=5.0)
    for _ in range(20):
        young.note(A, SILENCE, now)
    young.check(A)


@pytest.mark.parametrize("answer", [None, SceneError("no CRS", A), MissingObjectError("gone", A)])
def test_any_answer_ends_a_silence(answer: Exception | None) -> None:
    hosts = SilentHosts(patience_s=0.0)
    for error in [SILENCE] * (FAILURES - 1) + [answer] + [SILENCE] * (FAILURES - 1):
        hosts.note(A, error, time.monotonic())
        hosts.check(A)


def test_files_of_this_machine_are_never_silent() -> None:
    hosts = SilentHosts(patience_s=0.0)
    for _ in range(FAILURES):
        hosts.note("/data/a.tif", SILENCE, 0.0)
    hosts.check("/data/a.tif")


def test_hosts_of_which_none_answers_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PAUSE_S", 0.001)
    with socket.socket() as closed:
        closed.bind(("0.0.0.0", 0))
        port = closed.getsockname()[1]
        dead = [scenes(f"http://127.0.1.{n}:{port}", 1)[0] for n in range(1, 199)]
        found = probe_scenes(dead, StorageOptions(), SilentHosts(patience_s=0.0))
    causes = [issue.cause for issue in found.issues]
    skipped = [cause for cause in causes if "not asked for, because" in cause]
    assert len(causes) == 198
    assert len(skipped) >= 198 - 2 * HOSTS, "as many again may be under way"
    assert "hosts answered in 0 s; check the network of this machine" in skipped[0]
    assert all(issue.retryable for issue in found.issues)


def test_one_answer_shows_that_the_network_is_there() -> None:
    hosts = SilentHosts(patience_s=5.0)
    then = time.monotonic() - 6.0
    dead = [f"https://{n}.example/a.tif" for n in range(3 * HOSTS)]
    for place in dead[: HOSTS - 1]:
        hosts.note(place, SILENCE, then)
        hosts.check(B)
    hosts.note(dead[HOSTS - 1], SILENCE, then)
    with pytest.raises(NoAnswerError, match=f"none of {HOSTS} hosts answered in 6 s"):
        hosts.check(B)
    hosts.check("/data/a.tif")
    hosts.note("/data/a.tif", None, then)
    with pytest.raises(NoAnswerError):
        hosts.check(B)
    hosts.note(A, MissingObjectError("gone", A), then)
    for place in dead:
        hosts.note(place, SILENCE, then)
        hosts.check(B)
