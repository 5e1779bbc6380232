"""HTTP with servers that redirect, never end, crawl, refuse HEAD or want passwords."""

import base64
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quakestream.errors import StorageError
from quakestream.storage import MissingObjectError, StorageOptions, fingerprint, read_bytes, web
from quakestream.storage.filesystems import NoRangesError
from quakestream.storage.hosts import HostKind, host_kind, may_name
from quakestream.storage.limits import DOCUMENT, BodyLimits
from quakestream.storage.regular import regular_file
from quakestream.storage.uris import encoded_url
from quakestream.storage.web import WebRequest, web_copy, web_get, web_info, web_range

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]
NONE = StorageOptions()
TINY = BodyLimits(most_bytes=1000, total_s=0.6, least_bytes_per_s=50.0, window_s=0.2)


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A real server on loopback whose every answer is given by a function; and its requests."""
    requests: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.command, self.path, dict(self.headers)))
            answer(self)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()


def sends(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(pause_s: float, chunk: bytes) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(chunk)
                time.sleep(pause_s)
        except OSError:
            return

    return answer


@pytest.mark.parametrize(
    ("answer", "limits", "words"),
    [
        (endless(0, bytes(600)), TINY, "too large"),
        (endless(0.02, b"x"), replace(TINY, least_bytes_per_s=200.0), "too slow"),
        (endless(0.02, b"xx"), replace(TINY, window_s=10.0), "takes too long"),
        (sends(b"", Content_Length="999999"), TINY, "too large.*999,999"),
    ],
    ids=["without end", "crawls", "takes long", "says it is large"],
)
def test_a_body_is_held_to_its_limits(answer: Answer, limits: BodyLimits, words: str) -> None:
    with server(answer) as (url, requests):
        started = time.monotonic()
        with pytest.raises(StorageError, match=words):
            web_get(WebRequest(url=url), NONE, limits)
        assert time.monotonic() - started < 5
    assert len(requests) == 1


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "http://169.254.169.254/latest", "ftp://h/x"]
)
def test_a_redirect_is_held_to_the_rule(target: str) -> None:
    with server(sends(b"", 302, Location=target)) as (url, _):
        for read in (
            lambda: web_get(WebRequest(url=url), NONE, DOCUMENT),
            lambda: web_range(url, 0, 10, NONE),
            lambda: fingerprint(url),
        ):
            with pytest.raises(StorageError, match="redirect is not followed"):
                read()


@pytest.mark.parametrize(
    "inner", ["http://127.0.0.1:1/", "http://localhost:1/", "http://10.0.0.7/"]
)
def test_a_public_host_does_not_lead_inside(inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public host is played by a proxy, which every request to it goes through."""
    with server(sends(b"", 301, Location=inner)) as (proxy, requests):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(StorageError, match=r"not followed.*expected a public web server"):
            read_bytes("http://data.invalid/catalog.json")
    assert [path for _, path, _ in requests] == ["http://data.invalid/catalog.json"]


def test_a_redirect_on_the_same_kind_of_host_is_followed_without_the_password() -> None:
    with (
        server(sends(b"there")) as (other, seen),
        server(sends(b"", 307, Location=f"{other}/x?sig=a%2Fb")) as (url, first),
    ):
        named = url.replace("//", "//user:pa%20ss@")
        assert read_bytes(named) == b"there"
    login = base64.b64encode(b"user:pa ss").decode()
    assert first[0][2]["Authorization"] == f"Basic {login}"
    assert "Authorization" not in seen[0][2]
    assert seen[0][1] == "/x?sig=a%2Fb"


def test_configured_headers_stay_with_their_host() -> None:
    options = StorageOptions(protocols={"http": {"headers": {"X-Key": "k"}}})
    with server(sends(b"1")) as (other, seen), server(sends(b"", 302, Location=other)) as (url, _):
        assert web_get(WebRequest(url=url), options, DOCUMENT).data == b"1"
    assert "X-Key" not in seen[0][2]
    with pytest.raises(StorageError, match="unknown setting: block_size"):
        web_info("http://127.0.0.1:1/", StorageOptions(protocols={"http": {"block_size": 1}}))


def test_no_head_is_sent_and_sizes_are_known() -> None:
    """A URL signed for GET refuses HEAD; the stand-in server does not even know it."""
    ranged = sends(b"0", 206, Content_Range="bytes 0-0/12345", ETag='"v1"')
    with server(ranged) as (url, requests):
        assert web_info(f"{url}/a b.tif?X-Sig=1%2B1", NONE) == {"size": 12345, "ETag": '"v1"'}
        assert fingerprint(f"{url}/a.tif") == "v1"
    assert {command for command, _, _ in requests} == {"GET"}
    assert requests[0][1] == "/a%20b.tif?X-Sig=1%2B1"


def test_what_may_pass_is_tried_again_and_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "PAUSE_S", 0.01)
    answers = iter([sends(b"", 503), sends(b"ok")])
    with server(lambda handler: next(answers)(handler)) as (url, requests):
        assert read_bytes(url) == b"ok"
        assert len(requests) == 2
    with server(sends(b"", 404)) as (url, _), pytest.raises(MissingObjectError):
        read_bytes(url)
    denied = pytest.raises(StorageError, match=r"permission denied \(403")
    with server(sends(b"", 403)) as (url, _), denied:
        read_bytes(url)
    with server(sends(b"whole")) as (url, _), pytest.raises(NoRangesError):
        web_range(url, 0, 2, NONE)
    with server(sends(b"short", Content_Length="9")) as (url, requests):
        with pytest.raises(StorageError, match="ends before its stated length"):
            read_bytes(url)
        assert len(requests) == 2


def test_a_stalled_page_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    late = pytest.raises(StorageError, match="cannot read: timed out")
    with server(lambda _: time.sleep(2.5)) as (url, requests), late as caught:
        read_bytes(url)
    assert "\n" not in str(caught.value)
    assert len(requests) >= 2


def test_a_copy_is_bounded_too(tmp_path: Path) -> None:
    with server(endless(0, bytes(600))) as (url, _), pytest.raises(StorageError, match="too large"):
        web_copy(url, str(tmp_path / "x"), NONE, TINY)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://h/a b/é.tif", "http://h/a%20b/%C3%A9.tif"),
        ("http://h/a%20b/%C3%A9.tif?sig=x%2Fy%3D", "http://h/a%20b/%C3%A9.tif?sig=x%2Fy%3D"),
        ("http://h/50%.tif#part", "http://h/50%25.tif"),
        ("http://u:p@h/(a),b;c=[1].tif", "http://u:p@h/(a),b;c=%5B1%5D.tif"),
        ("http://bücher.example/x", "http://xn--bcher-kva.example/x"),
    ],
)
def test_urls_are_encoded_as_browsers_do(written: str, sent: str) -> None:
    assert encoded_url(written) == sent
    assert encoded_url(sent) == sent


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:9/", HostKind.LOOPBACK),
        ("http://[::1]/", HostKind.LOOPBACK),
        ("http://localhost/", HostKind.LOOPBACK),
        ("http://0.0.0.0/", HostKind.LOOPBACK),
        ("http://[::ffff:10.0.0.1]/", HostKind.PRIVATE),
        ("http://192.168.1.4/", HostKind.PRIVATE),
        ("http://100.64.0.1/", HostKind.PRIVATE),
        ("http://169.254.169.254/", HostKind.LINK_LOCAL),
        ("http://[fe80::1]/", HostKind.LINK_LOCAL),
        ("http://8.8.8.8/", HostKind.PUBLIC),
        ("http://nobody.invalid/", HostKind.PUBLIC),
        ("http://2130706433/", HostKind.LOOPBACK),
    ],
)
def test_the_kind_of_a_host(url: str, kind: HostKind) -> None:
    assert host_kind(url) is kind


def test_links_lead_outward_or_stay() -> None:
    kinds = list(HostKind)
    allowed = {(a, b) for a in kinds for b in kinds if may_name(a, b)}
    assert all(b <= a for a, b in allowed)
    assert not any(b is HostKind.LINK_LOCAL for _, b in allowed)
    assert (HostKind.LOOPBACK, HostKind.PRIVATE) in allowed


def test_only_regular_files_are_inputs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for place, words in (
        (tmp_path / "pipe.json", "a named pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a folder"),
    ):
        for read in (regular_file, read_bytes, fingerprint):
            with pytest.raises(StorageError, match=f"not a file: expected a file, got {words}"):
                read(str(place))
    (tmp_path / "large").write_bytes(bytes(2000))
    with pytest.raises(StorageError, match="too large"):
        read_bytes(str(tmp_path / "large"), NONE, TINY)
