"""Features of a frozen network for real buildings after an earthquake, for quick tables.

    python -m benchmarks.frozen_features islahiye -o islahiye.npz
    python -m benchmarks.frozen_features adiyaman -o adiyaman.npz

Every building is seen through the same window of 29 m, so that the size of its outline says
nothing. Features are means over the maps of EfficientNet-Lite0 (ImageNet) at strides 16 and 32.
İslahiye has no coordinates: its blocks are runs of OpenStreetMap ids.
"""

import argparse
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from training.data.pairs import LabelledPair
from training.data.turkiye import default_data_dir, turkiye_pairs
from training.metrics import blocks_of
from training.networks.efficientnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EfficientNetLite,
    load_imagenet,
)

WINDOW_M = 29.0
SIDE_PX = 128
"""Side that windows are resized to."""
BLOCK_M = 100.0
ISLAHIYE_GSD_M = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrozenSet:
    """Buildings of known state with their features."""

    id_N: NDArray[np.str_]
    feature_ND: NDArray[np.float64]
    """Standardised over the set, without looking at labels."""
    destroyed_N: NDArray[np.bool_]
    block_N: NDArray[np.int64]
    """Ground of a building; no block is on both sides of a split."""
    place_N2: NDArray[np.float64]
    """Coordinates, metres; NaN where they are unknown."""

    def __len__(self) -> int:
        return len(self.id_N)

    def part(self, row_N: NDArray[np.int64] | NDArray[np.bool_]) -> "FrozenSet":
        """Some of the buildings."""
        return FrozenSet(
            id_N=self.id_N[row_N],
            feature_ND=self.feature_ND[row_N],
            destroyed_N=self.destroyed_N[row_N],
            block_N=self.block_N[row_N],
            place_N2=self.place_N2[row_N],
        )


def load_frozen(path: Path) -> FrozenSet:
    """Reads a file of this program."""
    with np.load(path) as stored:
        feature_ND = stored["feature"].astype(np.float64)
        spread_D = np.maximum(feature_ND.std(axis=0), 1e-6)
        return FrozenSet(
            id_N=stored["id"],
            feature_ND=(feature_ND - feature_ND.mean(axis=0)) / spread_D,
            destroyed_N=stored["destroyed"],
            block_N=stored["block"],
            place_N2=stored["place"],
        )


def features(window_NBYX: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of the two deepest maps, (N, 432)."""
    network = EfficientNetLite(3)
    load_imagenet(network, ("red", "green", "blue"))
    network.eval()
    parts = []
    with torch.inference_mode():
        for first in range(0, len(window_NBYX), 32):
            counts = torch.from_numpy(window_NBYX[first : first + 32]).float()
            levels = network((counts - IMAGENET_MEAN) / IMAGENET_STD)
            parts.append(torch.cat([m.mean(dim=(2, 3)) for m in levels[-2:]], dim=1).numpy())
    return np.concatenate(parts)


def window_of(
    pixels_BYX: NDArray[np.uint8], row: float, col: float, side: int
) -> NDArray[np.uint8]:
    """A square window round a place, mirrored at the edge of the image, resized."""
    top, left = round(row - side / 2), round(col - side / 2)
    _, height, width = pixels_BYX.shape
    margins = (
        max(0, -top),
        max(0, top + side - height),
        max(0, -left),
        max(0, left + side - width),
    )
    image_YXB = np.ascontiguousarray(np.moveaxis(pixels_BYX, 0, -1))
    image_YXB = image_YXB[max(0, top) : top + side, max(0, left) : left + side]
    image_YXB = cv2.copyMakeBorder(image_YXB, *margins, cv2.BORDER_REFLECT_101)
    resized = cv2.resize(image_YXB, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.moveaxis(resized, -1, 0), np.uint8)


def islahiye(data_dir: Path) -> dict[str, NDArray[np.generic]]:
    """Crops of İslahiye; what a crop lacks of the window is mirrored."""
    folder = data_dir / "islahiye-qqb-2023"
    table = pd.read_csv(folder / "develop_labels.csv")
    side = round(WINDOW_M / ISLAHIYE_GSD_M)
    windows = []
    with zipfile.ZipFile(folder / "develop.zip") as archive:
        inside = {Path(name).name: name for name in archive.namelist()}
        for osm_id in table["osm_id"]:
            image = Image.open(io.BytesIO(archive.read(inside[f"{osm_id}.webp"])))
            pixels_BYX = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
            _, height, width = pixels_BYX.shape
            windows.append(window_of(pixels_BYX, height / 2, width / 2, side))
    return {
        "id": table["osm_id"].astype(str).to_numpy(np.str_),
        "feature": features(np.stack(windows)),
        "destroyed": table["destroyed"].to_numpy(np.bool_),
        "block": table["block"].to_numpy(np.int64),
        "place": np.full((len(table), 2), np.nan),
    }


def adiyaman(data_dir: Path) -> dict[str, NDArray[np.generic]]:
    """Windows of the four scenes of Adıyaman after the event."""
    pairs = [p for p in turkiye_pairs(data_dir) if p.name.startswith("adiyaman")]
    windows = [w for pair in pairs for w in _windows(pair)]
    buildings = [b for pair in pairs for b in pair.buildings]
    centre_N2 = np.array([(b.geometry.centroid.x, b.geometry.centroid.y) for b in buildings])
    return {
        "id": np.array([b.id for b in buildings], np.str_),
        "feature": features(np.stack(windows)),
        "destroyed": np.array([b.destroyed for b in buildings], np.bool_),
        "block": blocks_of(centre_N2[:, 0], centre_N2[:, 1], side_m=BLOCK_M),
        "place": centre_N2,
    }


def _windows(pair: LabelledPair) -> list[NDArray[np.uint8]]:
    side = round(WINDOW_M / pair.grid.gsd_m)
    found = []
    for building in pair.buildings:
        west, south, east, north = building.geometry.bounds
        col, row = ~pair.grid.transform @ ((west + east) / 2, (south + north) / 2)
        row, col = row - pair.window.row, col - pair.window.col
        found.append(window_of(pair.post.pixels_BYX, row, col, side))
    return found


SETS = {"islahiye": islahiye, "adiyaman": adiyaman}


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes and writes features."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="NPZ")
    options = parser.parse_args(arguments)
    found = SETS[options.set](default_data_dir())
    np.savez_compressed(options.out, **found)  # type: ignore[arg-type]
    destroyed, blocks = int(found["destroyed"].sum()), len(np.unique(found["block"]))
    print(f"{len(found['id'])} buildings, {destroyed} destroyed, {blocks} blocks")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
