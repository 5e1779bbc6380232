"""Scenes cut into tiles, as vendors deliver them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine

from quakestream.testing import World
from tests.helpers.mapping import edit

Box = tuple[int, int, int, int]
"""First row and column of a tile, and those behind its last, pixels of the scene."""


def squares(height: int, width: int, side: int, overlap: int = 0) -> list[Box]:
    """Boxes of one size from the upper left; those at the other edges are smaller."""
    return [
        (row, col, min(row + side + overlap, height), min(col + side + overlap, width))
        for row in range(0, height, side)
        for col in range(0, width, side)
    ]


def cut(path: Path, boxes: Sequence[Box], **options: Any) -> list[Path]:
    """Writes a tile for each box and removes the scene. Options go to the tiles' profile."""
    with rasterio.open(path) as dataset:
        counts_BYX, profile = dataset.read(), dict(dataset.profile)
        tags = dataset.tags()
    tiles = []
    for number, (top, left, bottom, right) in enumerate(boxes):
        tile = path.with_name(f"{path.stem}_T{number:02d}.tif")
        place = profile["transform"] @ Affine.translation(left, top)
        shape = {"height": bottom - top, "width": right - left, "transform": place}
        with rasterio.open(tile, "w", **(profile | shape | options)) as dataset:
            dataset.write(counts_BYX[:, top:bottom, left:right])
            dataset.update_tags(**tags)
        tiles.append(tile)
    path.unlink()
    return tiles


def name_tiles(run_file: Path, path: Path, tiles: Sequence[Path]) -> None:
    """Puts tiles into a run file in place of their scene."""

    def change(content: dict[str, Any]) -> None:
        catalog = content["imagery"]["catalog"]
        catalog.remove(str(path))
        catalog.extend(str(tile) for tile in tiles)

    edit(run_file, change)


def in_tiles(world: World, side: int = 210) -> list[Path]:
    """Cuts the post scene of a world into squares."""
    with rasterio.open(world.post) as dataset:
        boxes = squares(dataset.height, dataset.width, side)
    tiles = cut(world.post, boxes)
    name_tiles(world.run_file, world.post, tiles)
    return tiles
