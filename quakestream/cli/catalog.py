"""`quakestream catalog`: a STAC catalogue of bare GeoTIFFs."""

import json
import os
from typing import Annotated

import typer

from quakestream.catalog import read_times, write_catalogue
from quakestream.catalog.images import is_image
from quakestream.cli.common import EXIT_ATTENTION, S3Anon, S3Endpoint, counted, s3_options
from quakestream.config import is_uri
from quakestream.errors import RequestError
from quakestream.storage import MissingObjectError, StorageOptions, Store, open_store


def catalog(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="GeoTIFFs: paths, URIs or folders (a URI/)."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the catalogue.")],
    times: Annotated[
        str | None,
        typer.Option(
            "--times",
            help="CSV with the columns file,datetime (commas, semicolons or tabs): acquisition "
            "times of images.",
        ),
    ] = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing on stderr.")] = False,
) -> None:
    """Write a static STAC catalogue of images, and print the path of its catalog.json.

    Times come from --times, the TIFF tag, or a date in the file name.

    Example: quakestream catalog images/*.tif -o stac/
    """
    options = s3_options(endpoint_url, anon) or StorageOptions()
    known = None if times is None else read_times(times, options)
    written = write_catalogue(_expanded(images, options), out, known, options)
    if as_json:
        summary = {
            "catalog": written.path,
            "items": list(written.item_ids),
            "issues": [{"subject": i.subject, "cause": i.cause} for i in written.issues],
            "notes": list(written.notes),
        }
        typer.echo(json.dumps(summary, ensure_ascii=False))
    else:
        typer.echo(written.path)
    if not quiet:
        for issue in written.issues:
            typer.echo(f"left out: {issue.subject}: {issue.cause}", err=True)
        for note in written.notes:
            typer.echo(f"note: {note}", err=True)
        items = counted(len(written.item_ids), "item")
        typer.echo(f"{items}, {counted(len(written.issues), 'problem')}", err=True)
    if written.issues:
        raise typer.Exit(EXIT_ATTENTION)


def _images_below(store: Store) -> list[str]:
    try:
        return [store.uri_of(name) for name in store.list() if is_image(name)]
    except MissingObjectError as error:
        raise RequestError.of(error.problem) from error


def _expanded(images: list[str], options: StorageOptions) -> list[str]:
    """The images, with the content of folders in place of the folders.

    A path is a folder if it is one; a URI is one if it ends with a slash. All that lies in the
    folder of a store counts, at any depth, since its folders are only parts of names.

    Raises:
        RequestError: if a folder holds no image, or a bucket does not exist.
    """
    files = []
    for image in images:
        if is_uri(image) and image.endswith("/"):
            inside = _images_below(open_store(image, options))
        elif not is_uri(image) and os.path.isdir(image):
            names = sorted(os.listdir(image))
            inside = [os.path.join(image, name) for name in names if is_image(name)]
        else:
            files.append(image)
            continue
        if not inside:
            raise RequestError("folder holds no image", image, "GeoTIFFs")
        files.extend(inside)
    return files
