"""Outlines what has no footprint yet, from points or boxes.

python -m training.sam IMAGE --prompts BOXES.geojson --weights sam_vit_b_01ec64.pth -o OUT.geojson
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd

from quakestream.errors import QuakestreamError, RequestError
from training.data.pairs import read_image
from training.networks.sam import SIZES, build_sam
from training.sam.outline import outlines


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes outlines. Returns 0 when done, 2 if the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        network = build_sam(options.size).eval()
        report = network.load_published(options.weights)
        image = read_image(options.image)
        prompts = _read(options.prompts).to_crs(f"EPSG:{image.grid.epsg}")
        found = outlines(network, image, list(prompts.geometry))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2
    rows = prompts.assign(predicted_iou=[f[1] if f else None for f in found])
    rows = rows.set_geometry([f[0] if f else None for f in found], crs=prompts.crs)
    kept = rows[rows.geometry.notna()]
    kept.to_crs(4326).to_file(options.out, driver="GeoJSON")
    lost = len(rows) - len(kept)
    print(f"{len(kept)} outlines; {lost} prompts off the image or without an answer")
    print(f"{len(report.loaded)} weights loaded")
    return 0


def _read(path: Path) -> gpd.GeoDataFrame:
    try:
        table = gpd.read_file(path)
    except Exception as error:  # the drivers' exceptions have no common base
        raise RequestError(f"prompts cannot be read ({error})", str(path)) from error
    if not len(table) or table.crs is None:
        raise RequestError(
            "no prompts",
            str(path),
            expected="points or polygons with a CRS",
            got=f"{len(table)} rows, CRS {table.crs}",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.sam",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", type=Path, help="north-up image of three bands of 8 bits")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE")
    parser.add_argument("--weights", type=Path, required=True, metavar="PTH")
    parser.add_argument("--size", choices=sorted(SIZES), default="b")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="GEOJSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
