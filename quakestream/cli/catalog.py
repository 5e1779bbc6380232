"""`quakestream catalog`: a STAC catalogue for people who only have GeoTIFFs."""

import json
import os
from typing import Annotated, Any

import typer

from quakestream.catalog import read_times, write_catalogue
from quakestream.catalog.images import is_image
from quakestream.config import is_uri
from quakestream.errors import RequestError
from quakestream.storage import StorageOptions


def catalog(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="GeoTIFFs: paths, URIs or folders.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the catalogue.")],
    times: Annotated[
        str | None,
        typer.Option("--times", help="CSV with the columns file,datetime: when images were taken."),
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option("--s3-endpoint", help="S3 endpoint, if not Amazon's.")
    ] = None,
    anon: Annotated[bool, typer.Option("--s3-anon", help="Read S3 without credentials.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr.")] = False,
) -> None:
    """Write a static STAC catalogue of images, and print the path of its catalog.json.

    Times come from --times, the TIFF tag, or a date in the file name.

    Example: quakestream catalog images/*.tif -o stac/
    """
    s3: dict[str, Any] = {"endpoint_url": endpoint_url} if endpoint_url else {}
    options = StorageOptions(protocols={"s3": s3 | ({"anon": True} if anon else {})})
    known = None if times is None else read_times(times, options)
    written = write_catalogue(_expanded(images), out, known, options)
    if as_json:
        found = {
            "catalog": written.path,
            "items": list(written.item_ids),
            "issues": [{"subject": i.subject, "cause": i.cause} for i in written.issues],
            "notes": list(written.notes),
        }
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        typer.echo(written.path)
    if not quiet:
        for issue in written.issues:
            typer.echo(f"not taken: {issue.subject}: {issue.cause}", err=True)
        for note in written.notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"{len(written.item_ids)} items, {len(written.issues)} problems", err=True)
    if written.issues:
        raise typer.Exit(1)


def _expanded(images: list[str]) -> list[str]:
    """Images, with folders replaced by the images in them.

    Raises:
        RequestError: if a folder holds none.
    """
    found = []
    for image in images:
        if is_uri(image) or not os.path.isdir(image):
            found.append(image)
            continue
        inside = sorted(os.path.join(image, name) for name in os.listdir(image) if is_image(name))
        if not inside:
            raise RequestError(f"no image in the folder {image}; expected GeoTIFFs")
        found.extend(inside)
    return found
