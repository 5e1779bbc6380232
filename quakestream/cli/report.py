"""`quakestream report`: the finished map as a printable page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from quakestream.cli.common import S3Anon, S3Endpoint, s3_options, warn_of_other_products
from quakestream.errors import RequestError
from quakestream.outputs.report import report_html
from quakestream.storage import open_store


def report(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    scores: Annotated[
        Path | None, typer.Option(help="Output of `quakestream score --json`.")
    ] = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
) -> None:
    """Write report.html next to the map anew, with scores: figures and inputs, to print.

    Example: quakestream report out/ --scores scores.json
    """
    store = open_store(out, s3_options(endpoint_url, anon))
    warn_of_other_products(store)
    store.put("report.html", report_html(store, _read_scores(scores) if scores else None))
    typer.echo(store.uri_of("report.html"))


def _read_scores(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestError("cannot read the scores", str(path), got=str(error)) from error
    if not isinstance(value, dict) or "auc" not in value:
        raise RequestError("not a score", str(path), "the output of `quakestream score --json`")
    return value
