"""Ground without landslides for an RGB set: towns, intact and in ruins.

    python -m training.data.slide_towns SET --train seed:101 town_post.tif --validation seed:201

Roofs, rubble and bare lots look like fresh slides to a network that saw hillsides alone. A source
is a georeferenced image of three bands of uint8 in which nothing slid, or `seed:N` for both images
of a synthetic town. Images are averaged to 1 m and cut into chips whose masks are empty. Nobody
checks that an image has no slide: name only images of ground that was looked at.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import cos, radians
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError

from quakestream.errors import QuakestreamError, SceneError
from quakestream.synthetic import TRAINING, make_earthquake
from training.data.slide_chips import PARTS, ChipSetInfo, Part, info_of, write_chip, write_info

U8 = NDArray[np.uint8]
CHIP_PX, GSD_M = 256, 1.0
SEEN = 0.9
"""Least share of a chip that the sensor saw."""
DESTROYED = 0.3
"""Expected share of destroyed buildings in a synthetic town: much rubble."""
_DEGREE_M = 111_320.0
_SEED, _TOWNS = "seed:", ", and towns without slides"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TownImage:
    """Counts at 1 m of ground where nothing slid."""

    name: str
    pixels_BYX: U8
    seen_YX: NDArray[np.bool_]


def read_town(path: Path) -> TownImage:
    """An image, averaged to 1 m.

    Raises:
        SceneError: if it has fewer than three bands, has not 8 bits, or has no CRS.
    """
    with rasterio.open(path) as source:
        if source.count < 3 or source.dtypes[0] != "uint8" or source.crs is None:
            raise SceneError(
                "image cannot be used for training",
                str(path),
                expected="three bands of uint8 with a CRS",
                got=f"{source.count} bands of {source.dtypes[0]}, {source.crs}",
            )
        x_m, y_m = _pixel_m(source)
        shape = round(source.height * y_m / GSD_M), round(source.width * x_m / GSD_M)
        pixels_BYX = source.read((1, 2, 3), out_shape=(3, *shape), resampling=Resampling.average)
        seen_YX = source.dataset_mask(out_shape=shape) > 0
    return TownImage(name=path.stem, pixels_BYX=pixels_BYX, seen_YX=seen_YX)


def towns_of(source: str) -> Iterator[TownImage]:
    """The images of a source: one of a file, two of a synthetic town."""
    if not source.startswith(_SEED):
        yield read_town(Path(source))
        return
    seed = int(source.removeprefix(_SEED))
    size = replace(TRAINING, destroyed=DESTROYED)
    with TemporaryDirectory() as folder:
        town = make_earthquake(Path(folder), seed=seed, size=size)
        for epoch, path in (("pre", town.pre[0]), ("post", town.post[0])):
            yield replace(read_town(path), name=f"seed{seed}_{epoch}")


def write_towns(root: Path, part: Part, images: Iterator[TownImage]) -> int:
    """Adds chips without slides to a part of a set; returns their number."""
    count = 0
    for image in images:
        height, width = image.seen_YX.shape
        for top in range(0, height - CHIP_PX + 1, CHIP_PX):
            for left in range(0, width - CHIP_PX + 1, CHIP_PX):
                rows, cols = slice(top, top + CHIP_PX), slice(left, left + CHIP_PX)
                if image.seen_YX[rows, cols].mean() < SEEN:
                    continue
                pixels = image.pixels_BYX[:, rows, cols].astype(np.float32)
                empty = np.zeros((CHIP_PX, CHIP_PX), np.uint8)
                write_chip(root, part, f"t{image.name}x{top}x{left}", pixels, empty)
                count += 1
    return count


def _with_towns(info: ChipSetInfo) -> ChipSetInfo:
    """The description of a set that has towns besides."""
    told = info.description.endswith(_TOWNS)
    return info if told else replace(info, description=info.description + _TOWNS)


def _pixel_m(source: rasterio.DatasetReader) -> tuple[float, float]:
    """Width and height of a pixel in metres, in the middle of an image in degrees."""
    x, y = abs(source.transform.a), abs(source.transform.e)
    if not source.crs.is_geographic:
        return x, y
    middle = (source.bounds.bottom + source.bounds.top) / 2
    return x * _DEGREE_M * cos(radians(middle)), y * _DEGREE_M


def main(arguments: Sequence[str] | None = None) -> int:
    """Extends one set. Returns 0 when done, 2 if the request is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.slide_towns",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, metavar="SET", help="RGB set at 1 m")
    for part in PARTS:
        parser.add_argument(f"--{part}", nargs="*", default=[], metavar="FILE|seed:N")
    options = parser.parse_args(arguments)
    try:
        info = info_of(options.root)
        if info.dtype != "uint8" or info.gsd_m != GSD_M:
            raise SceneError(
                "set is not one of RGB counts",
                str(options.root),
                expected=f"uint8 at {GSD_M} m",
                got=f"{info.dtype} at {info.gsd_m} m",
            )
        write_info(options.root, _with_towns(info))
        for part in PARTS:
            for source in getattr(options, part):
                count = write_towns(options.root, part, towns_of(source))
                print(f"{options.root}: {part}, {count} chips of {Path(source).name}")
    except (QuakestreamError, ValueError, RasterioIOError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
