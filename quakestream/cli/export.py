"""`quakestream export`: files of a finished map for other programs."""

from typing import Annotated

import typer

from quakestream.cli.common import (
    S3Anon,
    S3Endpoint,
    print_json,
    s3_options,
    warn_of_other_products,
)
from quakestream.errors import RequestError
from quakestream.outputs.export_map import exported
from quakestream.outputs.exports import EXPORTS
from quakestream.storage import Store, open_store

_LIST = ", ".join(f"{name} ({made.prefix})" for name, made in EXPORTS.items())


def export(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    products: Annotated[list[str], typer.Argument(help=f"What to write: {_LIST}.")],
    folder: Annotated[
        str | None,
        typer.Option("-o", "--folder", help="Folder or URI to write to, else the map's."),
    ] = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON, for machines.")] = False,
) -> None:
    """Write a finished map as files for other programs: GeoPackage, KMZ, PMTiles, PDF.

    gpkg opens in QGIS coloured by verdict, with buildings, landslides, cells and areas. kml is for
    Google Earth and phones, the worst first. ems has the layers of Copernicus grading packages, hxl
    is the summary with HXL tags, pdf a page to print, stac a catalogue of the products. A later
    `map` into the same folder removes what an earlier map was exported to; `outputs: [gpkg]` in the
    run file writes it with every map.

    Example: quakestream export out/ gpkg kml -o handover/
    """
    wanted = list(dict.fromkeys("kml" if name == "kmz" else name for name in products))
    if unknown := [name for name in wanted if name not in EXPORTS]:
        raise RequestError(
            "cannot export this", "products", expected=", ".join(EXPORTS), got=", ".join(unknown)
        )
    options = s3_options(endpoint_url, anon)
    store = open_store(out, options)
    warn_of_other_products(store)
    target = store if folder is None else open_store(folder, options)
    place = ".." if folder is None else store.uri.rstrip("/")
    written = [_put(target, name, data) for name, data in exported(store, wanted, place)]
    if as_json:
        print_json({"files": written})
    else:
        for place in written:
            typer.echo(place)


def _put(target: Store, name: str, data: bytes) -> str:
    target.put(name, data)
    return target.uri_of(name)
