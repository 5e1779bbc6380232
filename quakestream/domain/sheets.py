"""Acquisitions as scenes made of tiles, and sheets: tiles whose pixels lie on one lattice.

A sheet can be read as one raster. Most acquisitions are one; two UTM zones make two.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from affine import Affine

from quakestream.domain.bands import NOTHING_STATED, Bands
from quakestream.domain.scene import Scene

WHOLE_PX = 0.01
"""Largest distance from a whole number of pixels between tiles of one lattice."""


def acquisition_of(tiles: Sequence[Scene]) -> Scene:
    """One scene out of the tiles of one acquisition.

    Its cloud cover and angle are means over the tiles that state them, by number of pixels, and
    its GSD is that of the finest. Its version is that of all tiles.
    """
    ordered = tuple(sorted(tiles, key=lambda tile: (tile.id, tile.href)))
    first = ordered[0]
    versions = repr([tile.version for tile in ordered])
    where = sheet_box(ordered) if one_lattice(ordered) else None
    name = f"{first.id}+{len(ordered) - 1}"
    return replace(
        first,
        id=name,
        href=f"tiles:{name}",
        etag=hashlib.sha256(versions.encode()).hexdigest()[:32],
        datetime=min(tile.datetime for tile in ordered),
        cloud_cover=_mean(ordered, [tile.cloud_cover for tile in ordered]),
        off_nadir_deg=_mean(ordered, [tile.off_nadir_deg for tile in ordered]),
        gsd_m=min((tile.gsd_m for tile in ordered if tile.gsd_m), default=None),
        transform=where[0] if where else None,
        shape=where[1] if where else None,
        credit=_joined(tile.credit for tile in ordered),
        licence=_joined(tile.licence for tile in ordered),
        stated=NOTHING_STATED,
        bands=Bands(),  # each tile has its own; together they are red, green and blue
        notes=(),
        tiles=ordered,
    )


def one_lattice(tiles: Sequence[Scene]) -> bool:
    """True if all pixels lie on one lattice: one CRS, one size of pixel, whole-pixel offsets."""
    first = tiles[0]
    if first.transform is None or first.shape is None or not first.crs_wkt:
        return False
    return all(_fits(tile, first) for tile in tiles[1:])


def sheet_box(tiles: Sequence[Scene]) -> tuple[Affine, tuple[int, int]]:
    """Transform and (height, width) of the smallest raster that holds tiles of one lattice."""
    place = [(*offset_px(tile, tiles[0]), tile.shape or (0, 0)) for tile in tiles]
    top, left = min(row for row, _, _ in place), min(col for _, col, _ in place)
    bottom = max(row + shape[0] for row, _, shape in place)
    right = max(col + shape[1] for _, col, shape in place)
    first = tiles[0].transform
    assert first is not None
    return first @ Affine.translation(left, top), (bottom - top, right - left)


def offset_px(tile: Scene, of: Scene) -> tuple[int, int]:
    """Row and column of a tile's first pixel on the lattice of another."""
    row, col = _offset(tile, of)
    return round(row), round(col)


@lru_cache(maxsize=1024)  # scenes are compared by identity
def sheets_of(scene: Scene) -> tuple[Scene, ...]:
    """The sheets of an acquisition; the scene itself where it is one, or one file."""
    if not scene.tiles or scene.transform is not None:
        return (scene,)
    sheets: dict[tuple[str, float], list[list[Scene]]] = defaultdict(list)
    for tile in scene.tiles:
        same = sheets[tile.crs_wkt, round(tile.transform.a, 6) if tile.transform else 0.0]
        home = next((sheet for sheet in same if one_lattice([sheet[0], tile])), None)
        if home is None:
            same.append([tile])
        else:
            home.append(tile)
    groups = [sheet for some in sheets.values() for sheet in some]
    return tuple(group[0] if len(group) == 1 else acquisition_of(group) for group in groups)


def _fits(tile: Scene, first: Scene) -> bool:
    if tile.transform is None or tile.shape is None or tile.crs_wkt != first.crs_wkt:
        return False
    a, b = tile.transform, first.transform
    assert b is not None
    far = max(*tile.shape, *(first.shape or (1, 1)))
    if max(abs(a.a - b.a), abs(a.e - b.e)) / abs(b.a) * far > WHOLE_PX:
        return False
    return all(abs(v - round(v)) <= WHOLE_PX for v in _offset(tile, first))


def _offset(tile: Scene, of: Scene) -> tuple[float, float]:
    assert tile.transform is not None
    assert of.transform is not None
    col, row = ~of.transform @ (tile.transform.c, tile.transform.f)
    return float(row), float(col)


def _mean(tiles: Sequence[Scene], values: list[float | None]) -> float | None:
    sizes = [t.shape[0] * t.shape[1] if t.shape else 1 for t in tiles]
    known = [(v, s) for v, s in zip(values, sizes, strict=True) if v is not None]
    if not known:
        return None
    return round(sum(v * s for v, s in known) / sum(s for _, s in known), 6)


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
