"""What is said of scenes that a web server does not give: once, with what to do."""

import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.errors import HazardError, ReadError, SceneError, StorageError
from quakestream.hazard.layers import open_layer
from quakestream.pipeline.planning.scenes import probe_scenes
from quakestream.raster.datasets import open_dataset
from quakestream.raster.messages import restated
from quakestream.storage import StorageOptions, web
from quakestream.testing.worlds import write_scene
from tests.unit.pipeline.test_silent_hosts import scenes

NONE = StorageOptions()
PAGE = b"<!DOCTYPE html><title>Log in</title>"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("image") / "a.tif"
    write_scene(path, np.full((3, 64, 64), 9, np.uint8))
    return path.read_bytes()


@pytest.fixture
def server(image: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`/STATUS.tif`, bodies by name, and `/NAME/app/…`: a server that answers all with a page."""
    bodies = {"page": PAGE, "empty": b"", "head": image[:150], "half": image}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").partition(".")[0]
            if self.path == "/app/s0.tif":
                self.send(image)
            elif self.path.startswith("/app/"):
                self.answer(200, PAGE, len(PAGE))
            elif self.path.endswith(".msk") or name.isdigit():
                self.answer(int(name) if name.isdigit() else 404, b"", 0)
            elif name == "gone":
                self.close_connection = True
            else:
                self.send(bodies[name], cut=name == "half")

        def send(self, body: bytes, *, cut: bool = False) -> None:
            """The bytes that are asked for, or the first half of them."""
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            part = body[first : last + 1]
            self.answer(206, part[: len(part) // 2] if cut else part, len(part), len(body))

        def answer(self, status: int, body: bytes, length: int, whole: int = 0) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            if status == 206:
                self.send_header("Content-Range", f"bytes 0-{length - 1}/{whole}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    monkeypatch.setattr(web, "PAUSE_S", 0.001)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


LATER = "run the same command again to retry"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "403",
            "cannot read: permission denied (403 Forbidden); get a new signed address, or copy "
            "the file to a place without a login",
        ),
        ("404", "cannot read: there is no such object; check the address"),
        ("503", f"cannot read: the server answers 503 Service Unavailable; {LATER}"),
        (
            "page",
            "not a raster of a supported format: got a web page; its address may need a login, "
            "or have expired",
        ),
        ("empty", "not a raster of a supported format: got an empty file"),
        ("half", f"cannot read: the body ends before its stated length; {LATER}, or get the "
         "file again"),
        (
            "gone",
            "cannot read: no answer from the server (it closed the connection); check the address "
            "and the network",
        ),
    ],
)  # fmt: skip
def test_a_message_says_once_what_failed(server: str, name: str, said: str) -> None:
    href = f"{server}/{name}.tif"
    with pytest.raises(SceneError) as caught, open_dataset(href, NONE):
        raise AssertionError
    assert str(caught.value) == f"{href}: {said}"


def test_a_cut_header_is_no_other_format(server: str) -> None:
    with pytest.raises(SceneError) as caught, open_dataset(f"{server}/head.tif", NONE):
        raise AssertionError
    assert str(caught.value).startswith(f"{server}/head.tif: cannot open: file is cut: its direct")
    assert not caught.value.got


def test_hosts_that_give_no_answer_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PAUSE_S", 0.001)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/a.tif"
        for href, why in {
            refused: "connection refused",
            "http://no-such-host.invalid/a.tif": "its name is not known",
        }.items():
            with pytest.raises(SceneError) as caught, open_dataset(href, NONE):
                raise AssertionError
            what = f"cannot read: no answer from the server ({why})"
            assert str(caught.value) == f"{href}: {what}; check the address and the network"


def test_a_server_that_answers_all_with_a_page_has_no_mask(server: str) -> None:
    found = probe_scenes(scenes(f"{server}/app", 1), NONE)
    assert found.issues == []
    assert [scene.shape for scene in found.scenes] == [(64, 64)]


def test_what_may_pass_is_retried_by_the_next_run(server: str) -> None:
    names = ("half", "503", "page", "head")
    (one,) = scenes(server, 1)
    some = [replace(one, id=name, href=f"{server}/{name}.tif") for name in names]
    found = probe_scenes(some, NONE)
    assert [(i.subject, i.retryable) for i in found.issues] == [
        *(("half", True), ("503", True)),
        *(("page", False), ("head", False)),
    ]


def test_a_layer_says_what_its_file_said(server: str, tmp_path: Path) -> None:
    with pytest.raises(HazardError) as caught, open_layer(f"{server}/403.tif", NONE):
        raise AssertionError
    assert str(caught.value).count("cannot") == 1
    missing = str(tmp_path / "none.tif")
    with pytest.raises(HazardError) as caught, open_layer(missing, NONE):
        raise AssertionError
    assert str(caught.value) == f"{missing}: cannot open: no such file or directory"


def test_an_error_of_ours_keeps_its_fields_under_another_kind() -> None:
    below = StorageError("cannot read: timed out", "http://h/a.tif", remedy="run again")
    middle = OSError("see above")
    middle.__cause__ = below
    where = "http://h/a.tif (scene a, rows 0..9)"
    error = restated(ReadError, "cannot read", where, middle)
    assert str(error) == f"{where}: cannot read: timed out; run again"
    beside = StorageError("cannot read: not a file", "/a.tif.ovr")
    assert restated(SceneError, "cannot open", "/a.tif", beside).where == "/a.tif.ovr"
    other = restated(SceneError, "cannot open", "/a.tif", OSError(28, "No space left", "/a.tif"))
    assert str(other) == "/a.tif: cannot open: no space left"
