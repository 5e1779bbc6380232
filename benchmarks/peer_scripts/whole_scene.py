"""A whole scene at once, in the manner of Microsoft's building-damage-assessment workflow.

Both scenes are read into memory, scored patch by patch with a margin that is thrown away (the
outermost pixels of the scene are never predicted), decided per pixel, written as a class map,
and each building takes the share of damaged pixels inside it, one after the other.
"""

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.mask
import torch

from benchmarks.peer_scripts.common import arguments, network, statistics

PATCH_PX, PADDING_PX, BATCH = 512, 64, 4
CORE_PX = PATCH_PX - 2 * PADDING_PX


def main() -> None:
    options = arguments()
    torch.set_num_threads(2)
    model = network(options.bundle, options.network)
    scenes = {}
    for epoch in ("pre", "post"):
        path = getattr(options, epoch)
        mean, std = statistics(path)
        with rasterio.open(path) as scene:
            counts, profile = scene.read(), scene.profile
        scenes[epoch] = torch.from_numpy(
            (counts.astype(np.float32) - mean[:, None, None]) / std[:, None, None]
        )
    height, width = scenes["post"].shape[1:]
    damage = np.zeros((height, width), np.uint8)
    places = [
        (min(row, height - PATCH_PX), min(col, width - PATCH_PX))
        for row in range(0, height - 2 * PADDING_PX, CORE_PX)
        for col in range(0, width - 2 * PADDING_PX, CORE_PX)
    ]
    lower = options.precision == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            pre, post = (
                torch.stack([scenes[e][:, r : r + PATCH_PX, c : c + PATCH_PX] for r, c in batch])
                for e in ("pre", "post")
            )
            classes = (model(pre, post).float()[:, 0] > 0).numpy()
            for (row, col), found in zip(batch, classes, strict=True):
                inner = slice(PADDING_PX, PATCH_PX - PADDING_PX)
                damage[row : row + PATCH_PX, col : col + PATCH_PX][inner, inner] = (
                    found[inner, inner] + 1
                )
    profile |= {"count": 1, "compress": "deflate", "photometric": "minisblack"}
    path = options.out / "damage.tif"
    with rasterio.open(path, "w", **profile) as target:
        target.write(damage, 1)
    with rasterio.open(path) as classes_map:
        boxes = gpd.read_parquet(options.boxes).to_crs(classes_map.crs)
        shares = []
        for outline in boxes.geometry:
            inside, _ = rasterio.mask.mask(classes_map, [outline], crop=True)
            predicted = (inside > 0).sum()
            shares.append(float((inside == 2).sum() / predicted) if predicted else np.nan)
    boxes["damage_share"] = shares
    boxes.to_parquet(options.out / "buildings.parquet")


if __name__ == "__main__":
    main()
