"""The static layers of the landslide prior, as files of others hold them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Window
from quakestream.errors import HazardError
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.layers import RasterLayer
from quakestream.hazard.terrain import FILLS

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """What the values of a layer mean, and which of them can be."""

    name: str
    """The key under `terrain` in a run file."""
    meaning: str
    low: float
    high: float
    """Values outside have no meaning: they are classes that nobody knows, or fills."""
    method: Literal["nearest", "linear"]
    remedy: str
    typical: float = float("inf")
    """Ground of which half is above this is of another unit."""
    other: str = ""
    """The layer whose values this one is mistaken for."""
    other_low: float = 0.0
    other_high: float = 0.0
    """Range of the values of that layer that have no meaning here."""


LITHOLOGY = LayerRule(
    name="lithology",
    meaning="coefficients of lithology",
    low=-4.0,
    high=0.0,  # no rock of USGS's layer is above it, and nearly all land cover is
    method="nearest",
    other="landcover",
    other_high=2.5,
    remedy="replace the class numbers by coefficients, as USGS's GLIM_replace.tif has them",
)
LANDCOVER = LayerRule(
    name="landcover",
    meaning="coefficients of land cover",
    low=-1.3,  # USGS's layer has -1.26 at least; most rocks are below
    high=4.0,
    method="nearest",
    other="lithology",
    other_low=-4.0,
    remedy="replace the class numbers by coefficients, as USGS's globcover_replace.tif has them",
)
CTI = LayerRule(
    name="cti",
    meaning="compound topographic indices",
    low=-5.0,
    high=60.0,
    method="linear",
    remedy="give a raster of ln(area / tan(slope))",
)
STDDEV = LayerRule(
    name="stddev",
    meaning="standard deviations of the logit",
    low=0.0,
    high=50.0,
    method="linear",
    remedy="leave it out: 0.03 counts everywhere",
)
GRADIENT = LayerRule(
    name="slope",
    meaning="gradients, rise over run",
    low=0.0,
    high=30.0,
    method="linear",
    remedy="give the tangent of the slope, not degrees or percent",
    typical=1.0,  # at 230 m, ground of which half is steeper than 45° does not exist
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuledLayer:
    """An open layer whose impossible values count as missing."""

    layer: RasterLayer
    rule: LayerRule

    @property
    def frame(self) -> PixelFrame:
        return self.layer.frame

    def read(self, window: Window) -> tuple[Floats, Bools]:
        """Values of a window, NaN where missing, and True where a value has no meaning.

        Raises:
            HazardError: if most values have no meaning, so that the file is another one.
        """
        values = self.layer.read(window)
        values = np.where(np.isin(values, FILLS), np.nan, values)
        known = np.isfinite(values)
        strange = known & ~((values >= self.rule.low) & (values <= self.rule.high))
        if 2 * int(strange.sum()) > int(known.sum()) or self._is_other(values, strange):
            raise self._wrong(f"{self.rule.low:g} to {self.rule.high:g}", values[strange])
        large = known & (values > self.rule.typical)
        if 2 * int(large.sum()) > int(known.sum()):
            raise self._wrong(f"mostly up to {self.rule.typical:g}", values[large])
        return np.where(strange, np.nan, values), strange

    def _is_other(self, values: Floats, strange: Bools) -> bool:
        """True where this is the other layer: 0 fills the ocean of both, and is no class."""
        classes = np.isfinite(values) & (values != 0)
        return 2 * int(strange.sum()) > int(classes.sum()) and self._of_other(values[strange])

    def _of_other(self, found: Floats) -> bool:
        """True for values of the layer that this one is mistaken for; class numbers are not."""
        low, high = self.rule.other_low, self.rule.other_high
        inside = bool(((found >= low) & (found <= high)).all())
        return bool(self.rule.other) and inside and not (found % 1 == 0).all()

    def _wrong(self, expected: str, found: Floats) -> HazardError:
        """The error of a file that is not this layer."""
        got = f"{found.min():g} to {found.max():g}"
        what, remedy = f"values are no {self.rule.meaning}", self.rule.remedy
        if self._of_other(found):
            remedy = f"they are those of {self.rule.other}: give each layer in its own place"
        return HazardError(what, self.layer.uri, expected, got, remedy)

    def at(self, lon_YX: Floats, lat_YX: Floats) -> tuple[Floats, Bools]:
        """Values at points (EPSG:4326), NaN where missing, and True where it has no meaning.

        Between pixels a linear layer has the weighted mean of those with a value, as long as
        the nearest one has a value.
        """
        row, col = self._positions(lon_YX, lat_YX)
        finite = np.isfinite(row) & np.isfinite(col)
        nothing = np.full(row.shape, np.nan), np.zeros(row.shape, np.bool_)
        if not finite.any():
            return nothing
        window = self.frame.inside(_around(row[finite], col[finite]))
        if not window.height:
            return nothing
        values, strange = self.read(window)
        row, col = row - window.row, col - window.col
        near_row, near_col, inside = _nearest_pixel(row, col, values.shape)
        near = np.where(inside, values[near_row, near_col], np.nan)
        unknown = inside & strange[near_row, near_col]
        if self.rule.method == "nearest":
            return near, unknown
        return np.where(np.isnan(near), np.nan, _weighted(values, row, col)), unknown

    def _positions(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Rows and columns; around the Earth, columns of the second turn without a jump."""
        row, col = self.frame.positions(lon, lat)
        turn = self.frame.turn_px
        if not turn or not np.isfinite(col).any():
            return row, col
        first = col[np.isfinite(col)][0]
        return row, first + (col - first + turn / 2) % turn - turn / 2 + turn


def _around(row: Floats, col: Floats) -> Window:
    """The pixels around positions, with one more on each side."""
    top, left = int(np.floor(row.min())) - 1, int(np.floor(col.min())) - 1
    return Window(
        row=top,
        col=left,
        height=int(np.ceil(row.max())) + 2 - top,
        width=int(np.ceil(col.max())) + 2 - left,
    )


def _nearest_pixel(
    row: Floats, col: Floats, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp], Bools]:
    """Rows and columns of the nearest pixels, and True where a position lies on the raster."""
    inside = (row >= -0.5) & (row <= shape[0] - 0.5) & (col >= -0.5) & (col <= shape[1] - 0.5)
    near = [
        np.clip(np.floor(np.where(inside, at, 0.0) + 0.5).astype(np.intp), 0, size - 1)
        for at, size in ((row, shape[0]), (col, shape[1]))
    ]
    return near[0], near[1], inside


def _weighted(values: Floats, row: Floats, col: Floats) -> Floats:
    """Mean of the four pixels around, weighted by nearness, of those with a value."""
    height, width = values.shape
    row, col = np.clip(row, 0.0, height - 1.0), np.clip(col, 0.0, width - 1.0)
    row, col = np.nan_to_num(row), np.nan_to_num(col)
    top, left = np.floor(row).astype(np.intp), np.floor(col).astype(np.intp)
    down, right = row - top, col - left
    bottom, east = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    total = weight = np.zeros(row.shape)
    for r, c, w in (
        (top, left, (1 - down) * (1 - right)),
        (top, east, (1 - down) * right),
        (bottom, left, down * (1 - right)),
        (bottom, east, down * right),
    ):
        total = total + w * filled[r, c]
        weight = weight + w * known[r, c]
    with np.errstate(invalid="ignore"):
        mean: Floats = total / weight
    return mean


SlopesOf = Callable[[Window], Floats]
"""Slopes in degrees of a window of a frame."""
