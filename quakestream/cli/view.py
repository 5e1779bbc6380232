"""`quakestream view`: the finished map in a browser."""

import webbrowser
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

import typer

from quakestream.cli.common import S3Anon, S3Endpoint, s3_options, warn_of_other_products
from quakestream.cli.signals import serves
from quakestream.errors import RequestError
from quakestream.outputs.live import LiveMap, live_part
from quakestream.outputs.pictures import READ_ERRORS
from quakestream.storage import MissingObjectError, Store, open_store
from quakestream.storage.content_types import content_type


def view(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: a free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Serve only, open no browser.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
) -> None:
    """Serve a finished map on this machine, to this machine only.

    The page shows every building, and windows of the scenes at full resolution.

    Example: quakestream view s3://bucket/runs/kahramanmaras
    """
    store = open_store(out, s3_options(endpoint_url, anon))
    warn_of_other_products(store)
    serves("the map")
    with map_server(store, port) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        typer.echo(address)
        typer.echo("Press Ctrl-C to stop.", err=True)
        if not no_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("", err=True)


def map_server(store: Store, port: int = 0) -> ThreadingHTTPServer:
    """A server on loopback for the products of the snapshot that run.json names.

    Raises:
        RequestError: if there is no finished map, or the port is taken.
    """
    handler = partial(_Handler, store, LiveMap(store))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise RequestError(
            "cannot serve", f"127.0.0.1:{port}", got=str(error), remedy="try --port 0"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    """Serves the page, its parts under `live/`, and the products of the snapshot by name."""

    def __init__(self, store: Store, live: LiveMap, *args: object) -> None:
        self.store, self.live = store, live
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        # Split before unquoting: an id of a scene may hold slashes.
        parts = [unquote(part) for part in address.path.lstrip("/").split("/")]
        if self.headers.get("Host", "").split(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403, "this server answers to 127.0.0.1 only")
        elif parts == [""]:
            self._send(self.live.page(), "index.html")
        elif parts == ["favicon.ico"]:
            self.send_response(204)
            self.end_headers()
        elif parts == ["report.html"]:
            self._send(self.live.report(), "report.html")
        elif parts[0] == "live":
            self._send_part(parts[1:], parse_qs(address.query))
        else:
            self._send_product("/".join(parts))

    def _send_part(self, parts: list[str], query: dict[str, list[str]]) -> None:
        """A part of the map. What cannot be understood is not there."""
        try:
            data, name = live_part(self.live, parts, query)
        except READ_ERRORS:
            self.send_error(502, "the scene cannot be read from this machine")
            return
        if data is None:
            self.send_error(404, "no such part of the map")
        else:
            self._send(data, name)

    def _send_product(self, name: str) -> None:
        run = self.live.run
        names = {product["name"] for product in run["products"]} | {"run.json"}
        if name not in names:
            self.send_error(404, "no such product")
            return
        try:
            data = self.store.get(f"snapshots/{run['snapshot']}/{name}")
        except MissingObjectError:
            self.send_error(404, "no such product in the snapshot")
            return
        self._send(data, name)

    def _send(self, data: bytes, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type(name))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        # Addresses of pictures name the snapshot; all else may belong to another map tomorrow.
        cache = "private, max-age=86400" if name.endswith(".webp") else "no-store"
        self.send_header("Cache-Control", cache)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the page says what it could not show."""
