"""Tiles of one raster, read as one layer."""

from dataclasses import dataclass, replace

import numpy as np

from quakestream.domain import Window
from quakestream.errors import HazardError
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.layers import RasterLayer

_EVEN_PX = 0.01
"""Largest distance of tiles from one lattice, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiledLayer:
    """Tiles of one raster on one lattice, read as one."""

    uri: str
    frame: PixelFrame
    tiles: tuple[tuple[RasterLayer, Window], ...]
    """Each tile with the pixels of `frame` that it covers."""

    @property
    def note(self) -> str:
        """An assumption that was made about a tile; empty without one."""
        return next((layer.note for layer, _ in self.tiles if layer.note), "")

    def read(self, window: Window) -> Floats:
        """Values of a window, NaN without a value. Where tiles overlap, the first one counts.

        Around the Earth, as of tiles on both sides of 180°, columns go on from the last to the
        first.

        Raises:
            HazardError: if a file is damaged there.
        """
        values_YX = np.full(window.shape, np.nan)
        turn = self.frame.turn_px
        turns = range(window.col // turn, (window.col_end - 1) // turn + 1) if turn else (0,)
        for layer, place in self.tiles:
            for number in turns:
                around = replace(place, col=place.col + number * turn)
                shared = around.shared(window)
                if not (shared.height and shared.width):
                    continue
                row, col = shared.row - around.row, shared.col - around.col
                own = Window(row=row, col=col, height=shared.height, width=shared.width)
                inside = shared.slices_in(window)
                known = ~np.isnan(values_YX[inside])
                values_YX[inside] = np.where(known, values_YX[inside], layer.read(own))
        return values_YX


OpenLayer = RasterLayer | TiledLayer
"""An open raster of one band of values, of one file or of several."""


def tiled(layers: list[RasterLayer], text: str) -> TiledLayer:
    """Tiles as one layer, over the smallest frame that holds all of them.

    Raises:
        HazardError: if they do not lie on one lattice.
    """
    first = layers[0].frame
    places = [_place(one, first, layers[0].uri) for one in layers]
    outer = places[0]
    for place in places[1:]:
        outer = outer.union(place)
    frame = PixelFrame(
        crs=first.crs,
        transform=first.transform @ first.transform.translation(outer.col, outer.row),
        height=outer.height,
        width=outer.width,
    )
    moved = [
        Window(row=p.row - outer.row, col=p.col - outer.col, height=p.height, width=p.width)
        for p in places
    ]
    return TiledLayer(uri=text, frame=frame, tiles=tuple(zip(layers, moved, strict=True)))


def _place(layer: RasterLayer, first: PixelFrame, first_uri: str) -> Window:
    """Pixels of a tile on the lattice of the first one."""
    frame = layer.frame
    col, row = ~first.transform @ (frame.transform.c, frame.transform.f)
    right, down = ~first.transform @ (frame.transform @ (frame.width, frame.height))
    off = max(
        abs(col - round(col)),
        abs(row - round(row)),
        abs(right - col - frame.width),
        abs(down - row - frame.height),
    )
    if frame.crs != first.crs or off > _EVEN_PX:
        raise HazardError(
            "tiles of the DEM lie on several lattices",
            layer.uri,
            expected=f"the CRS and the pixels of {first_uri}",
            remedy="make one raster of them with gdalwarp",
        )
    return Window(row=round(row), col=round(col), height=frame.height, width=frame.width)
