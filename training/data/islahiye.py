"""Buildings of İslahiye: crops after the event with the mask of the footprint, no coordinates.

"Not destroyed" is the absence of a tag, so that damaged buildings that stand are among them. The
destroyed ones are larger than the others: report figures within sizes too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from quakestream.errors import RequestError

GSD_M = 0.3
"""Nominal, not stated in the files."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostCrop:
    """One building after the event."""

    id: str
    destroyed: bool
    block: int
    """One of ten runs of the sorted ids, a stand-in for place."""
    pixels_BYX: NDArray[np.uint8]
    inside_YX: NDArray[np.bool_]
    """True inside the footprint."""

    def resized(self, gsd_m: float) -> "PostCrop":
        """The crop at another GSD; an outline keeps at least one pixel."""
        height, width = (max(1, round(s * GSD_M / gsd_m)) for s in self.inside_YX.shape)
        image = Image.fromarray(self.pixels_BYX.transpose(1, 2, 0))
        small = image.resize((width, height), Image.Resampling.BOX)
        mask = Image.fromarray(self.inside_YX.astype(np.uint8) * 255)
        share_YX = np.asarray(mask.resize((width, height), Image.Resampling.BOX))
        return PostCrop(
            id=self.id,
            destroyed=self.destroyed,
            block=self.block,
            pixels_BYX=np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1)),
            inside_YX=share_YX >= min(128, int(share_YX.max())),
        )


def islahiye_crops(data_dir: Path) -> Iterator[PostCrop]:
    """All crops of the development part, one at a time.

    Raises:
        RequestError: if the folder is missing.
    """
    root = data_dir / "islahiye-qqb-2023"
    if not root.is_dir():
        raise RequestError(
            "no crops of İslahiye",
            str(root),
            remedy="set QUAKESTREAM_DATA to the folder of the data",
        )
    table = pd.read_csv(root / "develop_labels.csv")
    with ZipFile(root / "develop.zip") as files:
        columns = (table[name].to_numpy(np.int64) for name in ("osm_id", "destroyed", "block"))
        for osm_id, destroyed, block in zip(*columns, strict=True):
            image = Image.open(BytesIO(files.read(f"{osm_id}.webp"))).convert("RGB")
            mask = Image.open(BytesIO(files.read(f"{osm_id}_footprint.png")))
            yield PostCrop(
                id=str(osm_id),
                destroyed=bool(destroyed),
                block=int(block),
                pixels_BYX=np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)),
                inside_YX=np.asarray(mask).astype(bool),
            )
