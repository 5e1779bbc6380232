"""Chips of RGB counts at 1 m with landslides: synthetic hillsides, and real chips beside them.

    python -m training.data.slide_scenery_rgb -o FOLDER --seed 1 --regions 40,6,8
    python -m training.data.slide_scenery_rgb -o FOLDER --real hokkaido-iburi-rgb-mini --half 0

Files have the layout of `training.data.slide_chips`, with the bands red, green and blue. The first
form makes pieces of hillside, 512 m a side, with forest, grass, parcels, pits, roads, rivers,
overgrown scars and fresh slides. The second adds real chips with their masks to the training and
validation parts of such a set, and can leave one half of the scenes out to be judged on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from quakestream.errors import QuakestreamError, RequestError
from quakestream.synthetic.hills import Hills, HillsLayout, make_hills
from quakestream.synthetic.hillsides import SOIL, paint_hillsides
from quakestream.synthetic.noise import fractal
from quakestream.synthetic.sensor import Acquisition, counts_of
from quakestream.synthetic.settings import SceneLayout, stream
from quakestream.synthetic.surface import Surface
from training.data.slide_chips import PARTS, ChipSetInfo, Part, write_chip, write_info
from training.data.slide_lookalikes import fields, quarries, roads
from training.data.slide_photos import Photo, halves, read_photos

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
GSD_M, FINE_PX, CHIP_PX = 1.0, 1024, 256
RGB = ("red", "green", "blue")
INFO = ChipSetInfo(
    bands=RGB,
    gsd_m=GSD_M,
    physical_per_stored=(1.0, 1.0, 1.0),
    dtype="uint8",
    description="synthetic hillsides",
    licence="Apache-2.0",
)


def make_hillside(seed: int) -> tuple[U8, U8]:
    """Counts (band, y, x) of a hillside of 512 m at 1 m, and its mask of fresh slides."""
    rng = stream(seed, "hillside look")
    layout = HillsLayout(
        shape=(FINE_PX, FINE_PX),
        transform=Affine(0.5, 0.0, 0.0, 0.0, -0.5, 0.0),
        relief_m=float(rng.uniform(60.0, 190.0)),
        valley_m=float(rng.uniform(350.0, 900.0)),
        slide_share=float(rng.choice([0.01, 0.04, 0.09, 0.16])),
        scar_share=float(rng.uniform(0.0, 0.05)),
        slide_length_m=float(rng.uniform(22.0, 60.0)),
    )
    hills = make_hills(seed, layout)
    surface = Surface(
        albedo_BYX=np.full((3, *layout.shape), 0.3, np.float32),
        height_YX=np.zeros(layout.shape, np.float32),
        vegetation_YX=np.zeros(layout.shape, np.float32),
    )
    everywhere = np.ones(layout.shape, bool)
    paint_hillsides(seed, surface, hills, slid=True, where_YX=everywhere)
    fresh_YX = hills.slide_YX > 0
    _paint_look_alikes(rng, surface, hills, fresh_YX)
    scene = SceneLayout(
        id=f"hillside-{seed}", epoch="post", acquired=datetime(2026, 3, 1, tzinfo=UTC)
    )
    sun = replace(Acquisition.random(seed, scene), greenness=float(rng.uniform(0.15, 1.0)))
    counts_BYX = counts_of(rng, surface, sun)
    half = FINE_PX // 2
    bands = [cv2.resize(b, (half, half), interpolation=cv2.INTER_AREA) for b in counts_BYX]
    share_YX = cv2.resize(fresh_YX.astype(np.float32), (half, half), interpolation=cv2.INTER_AREA)
    return np.stack(bands).astype(np.uint8), (share_YX >= 0.5).astype(np.uint8)


def _paint_look_alikes(
    rng: np.random.Generator, surface: Surface, hills: Hills, fresh_YX: NDArray[np.bool_]
) -> None:
    """Parcels, pits and roads, outside fresh slides."""
    field_YX, bare_YX = fields(rng, hills)
    soils = list(SOIL.values())
    fine_YX = 1.0 + 0.06 * fractal(rng, hills.layout.shape, 40, 1)
    grey = (0.36, 0.36, 0.37) if rng.random() < 0.5 else soils[int(rng.integers(4))]
    soil, pit = soils[int(rng.integers(4))], (0.56, 0.53, 0.48)
    for cover_YX, colour_B, green_YX in (
        (field_YX, soil, 0.85 * (1.0 - bare_YX)),
        (quarries(rng, hills) * float(rng.random() < 0.4), pit, 0.0 * bare_YX),
        (roads(rng, hills, width_m=5.0) * float(rng.random() < 0.7), grey, 0.0 * bare_YX),
    ):
        where_YX = (cover_YX > 0.5) & ~fresh_YX & ~hills.river_YX
        surface.vegetation_YX[where_YX] = green_YX[where_YX]
        surface.height_YX[where_YX] = 0.1
        for band in range(3):
            surface.albedo_BYX[band][where_YX] = colour_B[band] * fine_YX[where_YX]


def write_hillsides(root: Path, *, seed: int, regions: Sequence[int]) -> ChipSetInfo:
    """Writes a synthetic set: four chips per region; regions are never shared between parts.

    Raises:
        RequestError: if there are not three numbers of regions.
    """
    if len(regions) != 3 or min(regions) < 1:
        got = ",".join(map(str, regions))
        raise RequestError(
            "cannot generate such a set", str(root), expected="three numbers from 1", got=got
        )
    info = replace(INFO, description=f"synthetic hillsides (seed {seed})")
    write_info(root, info)
    first = 1000 * seed
    for part, count in zip(PARTS, regions, strict=True):
        for number in range(count):
            _write_parts(root, part, f"s{number}", *make_hillside(first + number))
        first += count
    return info


def write_photos(root: Path, photos: Sequence[Photo], half: int | None) -> int:
    """Adds real chips to the training and validation parts of a set.

    Every fourth scene validates. Training scenes are cut with overlap, so that they count beside
    many synthetic ones.

    Args:
        root: folder of the set.
        photos: all scenes.
        half: the half of the scenes that is left out, to be judged on; None leaves out none.

    Returns:
        Number of scenes that were added.
    """
    left_out = [] if half is None else [p.name for p in halves(photos)[half]]
    added = [p for p in photos if p.name not in left_out]
    for number, photo in enumerate(added):
        part: Part = "validation" if number % 4 == 3 else "train"
        step = CHIP_PX if part == "validation" else CHIP_PX // 2
        _write_parts(root, part, f"r{photo.name}", photo.pixels_BYX, photo.mask_YX, step)
    if half is not None:
        text = "\n".join(left_out) + "\n"
        (root / "left_out.txt").write_text(text, encoding="utf-8")
    return len(added)


def _write_parts(
    root: Path, part: Part, name: str, image_BYX: U8, mask_YX: U8, step: int = CHIP_PX
) -> None:
    """Cuts a scene into chips of 256 px, `step` pixels apart."""
    height, width = mask_YX.shape
    for top in range(0, height - CHIP_PX + 1, step):
        for left in range(0, width - CHIP_PX + 1, step):
            rows, cols = slice(top, top + CHIP_PX), slice(left, left + CHIP_PX)
            image = image_BYX[:, rows, cols].astype(np.float32)
            write_chip(root, part, f"{name}x{top}x{left}", image, mask_YX[rows, cols])


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or extends one set. Returns 0 when done, 2 if the request is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.slide_scenery_rgb",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--regions", default="40,6,8", metavar="TRAIN,VALIDATION,TEST")
    parser.add_argument(
        "--real", type=Path, metavar="FOLDER", help="add real chips: images/ and masks/"
    )
    parser.add_argument(
        "--half", type=int, choices=(0, 1), help="leave out this half of the real scenes"
    )
    options = parser.parse_args(arguments)
    try:
        if options.real:
            photos = read_photos(options.real)
            added = write_photos(options.out, photos, options.half)
            print(f"{options.out}: {added} of {len(photos)} scenes added")
            return 0
        regions = [int(text) for text in options.regions.split(",") if text.strip().isdigit()]
        info = write_hillsides(options.out, seed=options.seed, regions=regions)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}: {4 * sum(regions)} chips, {info.description}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
