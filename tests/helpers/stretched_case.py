"""16-bit GeoTIFFs of many kinds."""

from pathlib import Path
from typing import Any

from tests.helpers.tiles_case import write_tiff
from tests.helpers.widening import widened


def write_wide(path: Path, *, fill: int = 0, **options: Any) -> Path:
    """A 16-bit GeoTIFF of the usual texture, with options of `write_tiff` and `widened`."""
    ours = {k: options.pop(k) for k in ("overviews", "endianness") if k in options}
    plain = {k: v for k, v in options.items() if k not in ("predictor", "compress")}
    visual = write_tiff(path.with_suffix(".visual.tif"), **plain)
    coded = {k: v for k, v in options.items() if k not in ("bands", "masked", "nodata", "alpha")}
    return widened(visual, path, fill=fill, **coded, **ours)
