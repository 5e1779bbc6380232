"""A tile in the layout of the published xBD data, with one building of every class."""

import json
from pathlib import Path

import numpy as np
import shapely
from PIL import Image as Picture

from quakestream.tiling import unproject

EPSG, WEST, NORTH, PIXEL = 32637, 500_000.0, 4_100_000.0, 0.6
SUBTYPES = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")


def write_tile(
    folder: Path, name: str, subtypes: tuple[str, ...] = SUBTYPES, seed: int = 0
) -> None:
    """A tile in the layout of the published data: images/*.png and labels/*.json."""
    rng = np.random.default_rng(seed)
    features: dict[str, list[dict[str, object]]] = {"lng_lat": [], "xy": []}
    for n, subtype in enumerate(subtypes):
        pixel = shapely.box(20 + 30 * n, 30 + 11 * n, 40 + 30 * n, 45 + 11 * n)
        metres = shapely.transform(pixel, lambda xy: xy * (PIXEL, -PIXEL) + (WEST, NORTH))
        (lonlat,) = unproject(np.array([metres], object), EPSG)
        told = {"feature_type": "building", "subtype": subtype, "uid": f"{name}-{n}"}
        for key, shape in (("lng_lat", lonlat), ("xy", pixel)):
            features[key].append(
                {"properties": told, "wkt": shapely.to_wkt(shape, rounding_precision=14)}
            )
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / f"labels/{name}_post_disaster.json").write_text(json.dumps({"features": features}))
    for epoch in ("pre", "post"):
        counts = rng.integers(1, 256, (200, 200, 3)).astype(np.uint8)
        Picture.fromarray(counts).save(folder / f"images/{name}_{epoch}_disaster.png")
