"""`quakestream view`: the finished map in a browser."""

import webbrowser
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from quakestream.errors import RequestError
from quakestream.outputs.readback import current_run
from quakestream.storage import MissingObjectError, Store, open_store

_TYPES = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def view(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: a free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Serve only, open no browser.")
    ] = False,
) -> None:
    """Serve a finished map on this machine, to this machine only.

    Example: quakestream view s3://bucket/runs/kahramanmaras
    """
    with map_server(open_store(out), port) as server:
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
    run = current_run(store)
    names = {product["name"] for product in run["products"]} | {"run.json"}
    handler = partial(_Handler, store, f"snapshots/{run['snapshot']}/", frozenset(names))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise RequestError(
            "cannot serve", f"127.0.0.1:{port}", got=str(error), remedy="try --port 0"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    """Serves the products of the snapshot by name, and nothing else."""

    def __init__(self, store: Store, prefix: str, names: frozenset[str], *args: object) -> None:
        self.store, self.prefix, self.names = store, prefix, names
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
        if self.headers.get("Host", "").split(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403, "this server answers to 127.0.0.1 only")
        elif name not in self.names:
            self.send_error(404, "no such product")
        else:
            self._send(name)

    def _send(self, name: str) -> None:
        try:
            data = self.store.get(self.prefix + name)
        except MissingObjectError:
            self.send_error(404, "no such product in the snapshot")
            return
        self.send_response(200)
        self.send_header(
            "Content-Type", _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        )
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the page is one request."""
