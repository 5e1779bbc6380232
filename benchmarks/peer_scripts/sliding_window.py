"""Sliding windows over a pair of scenes, as users of torchgeo or geoai write it.

A Dataset reads windows with rasterio, a DataLoader batches them in worker processes, torch
scores them, probabilities go into one array of the scene and into a GeoTIFF; buildings are
burnt once and averaged.
"""

import geopandas as gpd
import numpy as np
import rasterio
import torch
from rasterio.features import rasterize
from rasterio.windows import Window
from torch.utils.data import DataLoader, Dataset

from benchmarks.peer_scripts.common import arguments, network, statistics

WINDOW_PX, HALO_PX, BATCH = 512, 16, 4
CORE_PX = WINDOW_PX - 2 * HALO_PX


class Pairs(Dataset):  # type: ignore[type-arg]
    """Windows of a pre and a post scene on the same pixels."""

    def __init__(self, pre: str, post: str) -> None:
        self.paths = (pre, post)
        self.scenes: tuple[rasterio.DatasetReader, ...] | None = None
        self.statistics = [statistics(p) for p in self.paths]
        with rasterio.open(post) as scene:
            rows, cols = range(0, scene.height, CORE_PX), range(0, scene.width, CORE_PX)
        self.places = [(r, c) for r in rows for c in cols]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, n: int) -> dict[str, torch.Tensor]:
        if self.scenes is None:  # each worker opens its own
            self.scenes = tuple(rasterio.open(p) for p in self.paths)
        row, col = self.places[n]
        window = Window(col - HALO_PX, row - HALO_PX, WINDOW_PX, WINDOW_PX)
        sample = {"place": torch.tensor([row, col])}
        for name, scene, (mean, std) in zip(
            ("pre", "post"), self.scenes, self.statistics, strict=True
        ):
            image = scene.read(window=window, boundless=True).astype(np.float32)
            sample[name] = torch.from_numpy((image - mean[:, None, None]) / std[:, None, None])
        return sample


def main() -> None:
    options = arguments()
    torch.set_num_threads(2)
    model = network(options.bundle, options.network)
    with rasterio.open(options.post) as scene:
        shape, profile = scene.shape, scene.profile
    probability = np.zeros(shape, np.float32)
    loader = DataLoader(
        Pairs(options.pre, options.post), batch_size=BATCH, num_workers=options.workers
    )
    lower = options.precision == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        for batch in loader:
            scores = torch.sigmoid(model(batch["pre"], batch["post"]).float())[:, 0].numpy()
            inner = scores[:, HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
            for (row, col), score in zip(batch["place"].tolist(), inner, strict=True):
                part = probability[row : row + CORE_PX, col : col + CORE_PX]
                part[:] = score[: part.shape[0], : part.shape[1]]
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1}
    profile |= {"dtype": "float32", "compress": "deflate", "tiled": True}
    with rasterio.open(options.post) as scene:
        profile |= {"crs": scene.crs, "transform": scene.transform}
    with rasterio.open(options.out / "probability.tif", "w", **profile) as target:
        target.write(probability, 1)
    boxes = gpd.read_parquet(options.boxes).to_crs(profile["crs"])
    ids = rasterize(
        zip(boxes.geometry, range(1, len(boxes) + 1), strict=True),
        out_shape=shape,
        transform=profile["transform"],
        dtype=np.int32,
    ).ravel()
    pixels = np.bincount(ids, minlength=len(boxes) + 1)[1:]
    sums = np.bincount(ids, weights=probability.ravel(), minlength=len(boxes) + 1)[1:]
    boxes["p_destroyed"] = sums / np.maximum(pixels, 1)
    boxes.to_parquet(options.out / "buildings.parquet")


if __name__ == "__main__":
    main()
