"""The landslide prior of an event: the share of ground that slides, from ShakeMaps and layers.

The prior is made on the pixels of the slope layer, block by block, so that memory does not grow
with the area. Shaking, topographic index and deviation are interpolated to its pixels, lithology
and land cover are those of the nearest pixel.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from quakestream.config import HazardSection, TerrainSection
from quakestream.config.terrain import ShakingBetween
from quakestream.domain import Grid, Issue, Window
from quakestream.domain.grid import NORTHING_TOP_M
from quakestream.errors import HazardError
from quakestream.fusion.nowicki_jessee import (
    LOGIT_STDDEV,
    PriorTerms,
    SlideCoverage,
    slide_coverage,
)
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.layers import open_layer
from quakestream.hazard.prior_layers import (
    CTI,
    GRADIENT,
    LANDCOVER,
    LITHOLOGY,
    STDDEV,
    LayerRule,
    RuledLayer,
    SlopesOf,
)
from quakestream.hazard.shaking import StrongestShaking, read_shaking
from quakestream.hazard.terrain import DemPixels, open_dem
from quakestream.hazard.tiled_layers import OpenLayer
from quakestream.storage import StorageOptions

_TILE_PX = 512
"""Side of the blocks in which points are read."""
SLOPE_PX_M = 230.0
"""Pixels of the slopes that the model was fitted to: 7.5 arc-seconds. Finer DEMs are averaged."""
NO_CTI, NO_SLOPE = "no topographic index", "no slope"
NO_LITHOLOGY, NO_LANDCOVER = "no lithology", "no land cover"
UNKNOWN_LITHOLOGY, UNKNOWN_LANDCOVER = "unknown lithology", "unknown land cover"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorInputs:
    """The files of a landslide prior."""

    shakemaps: tuple[str, ...]
    lithology: str
    landcover: str
    cti: str
    stddev: str | None = None
    gradient: str | None = None
    dem: str | None = None
    """Gives the slopes where there is no gradient."""
    shaking: ShakingBetween = "bilinear"
    """How shaking is read between the nodes of a ShakeMap."""

    @classmethod
    def of_run(cls, hazard: HazardSection, terrain: TerrainSection | None) -> "PriorInputs | None":
        """The files of a run; None where the run names no ShakeMap or no layers of the prior."""
        if terrain is None or not hazard.shakemaps:
            return None
        if terrain.lithology is None or terrain.landcover is None or terrain.cti is None:
            return None
        return cls(
            shakemaps=tuple(hazard.shakemaps),
            lithology=terrain.lithology,
            landcover=terrain.landcover,
            cti=terrain.cti,
            stddev=terrain.stddev,
            gradient=terrain.slope,
            dem=terrain.elevation or None,
            shaking=terrain.shaking,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlopeLayer:
    """Slopes in degrees on the pixels that the prior is made on."""

    frame: PixelFrame
    slopes: SlopesOf
    like: OpenLayer
    """Lends its georeference to layers of the same shape that have none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LandslidePrior:
    """An open landslide prior, for use in one thread."""

    shaking: StrongestShaking
    slope: SlopeLayer
    lithology: RuledLayer
    landcover: RuledLayer
    cti: RuledLayer
    stddev: RuledLayer | None
    missing: Counter[str] = field(default_factory=Counter)
    """Shaken pixels without a coverage that were read so far, by the first input they lack."""

    @property
    def frame(self) -> PixelFrame:
        """The pixels that the prior is made on."""
        return self.slope.frame

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Assumptions that were made about the files."""
        layers: list[OpenLayer] = [
            self.slope.like,
            self.lithology.layer,
            self.landcover.layer,
            self.cti.layer,
        ]
        layers += [self.stddev.layer] if self.stddev else []
        notes = [
            Issue(subject=layer.uri, kind="terrain", cause=layer.note)
            for layer in layers
            if layer.note
        ]
        return (*self.shaking.issues, *notes)

    def window(self, boxes_N4: Floats | None = None) -> Window:
        """The pixels under boxes (EPSG:4326); an empty window where there is none.

        Args:
            boxes_N4: west, south, east, north; None: those of the ShakeMaps.
        """
        boxes = self.shaking.boxes_N4 if boxes_N4 is None else boxes_N4
        windows = [self.frame.inside(w) for w in self.frame.box_windows(boxes)]
        windows = [window for window in windows if window.height]
        union = windows[0] if windows else Window(row=0, col=0, height=0, width=0)
        for window in windows[1:]:
            union = union.union(window)
        return union

    def read(self, window: Window) -> SlideCoverage:
        """Coverage of a window of the prior's own pixels.

        Raises:
            HazardError: if a layer cannot be read there, or holds other values than it should.
        """
        lon_YX, lat_YX = self.frame.lonlat(window)
        return self._coverage(lon_YX, lat_YX, self.slope.slopes(window))

    def at(self, lon_N: Floats, lat_N: Floats) -> SlideCoverage:
        """Coverage at points (EPSG:4326): that of the prior's pixel around each point.

        Raises:
            HazardError: if a layer cannot be read there, or holds other values than it should.
        """
        coverage_N, std_N = np.full(lon_N.shape, np.nan), np.full(lon_N.shape, np.nan)
        row_N, col_N = (np.floor(at + 0.5) for at in self.frame.positions(lon_N, lat_N))
        inside_N = (row_N >= 0) & (row_N < self.frame.height)
        inside_N &= (col_N >= 0) & (col_N < self.frame.width)
        tile_N = row_N // _TILE_PX * (self.frame.width // _TILE_PX + 1) + col_N // _TILE_PX
        for tile in np.unique(tile_N[inside_N]):
            points = np.flatnonzero(inside_N & (tile_N == tile))
            rows, cols = row_N[points].astype(np.intp), col_N[points].astype(np.intp)
            top, left = int(rows.min()), int(cols.min())
            size = int(rows.max()) + 1 - top, int(cols.max()) + 1 - left
            block = self.read(Window(row=top, col=left, height=size[0], width=size[1]))
            coverage_N[points] = block.coverage[rows - top, cols - left]
            std_N[points] = block.std[rows - top, cols - left]
        return SlideCoverage(coverage=coverage_N, std=std_N)

    def over(self, grid: Grid, window: Window) -> SlideCoverage:
        """Coverage of the pixels of a model's grid; a pixel is the same in every window.

        Raises:
            HazardError: if a layer cannot be read there, or holds other values than it should.
        """
        to_degrees = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
        east, north = np.meshgrid(
            (np.arange(window.col, window.col_end) + 0.5) * grid.gsd_m,
            NORTHING_TOP_M - (np.arange(window.row, window.row_end) + 0.5) * grid.gsd_m,
        )
        lon, lat = (np.asarray(v, np.float64) for v in to_degrees.transform(east, north))
        found = self.at(lon.ravel(), lat.ravel())
        return SlideCoverage(
            coverage=found.coverage.reshape(window.shape), std=found.std.reshape(window.shape)
        )

    def _coverage(self, lon_YX: Floats, lat_YX: Floats, slope_YX: Floats) -> SlideCoverage:
        pgv, sigma = self.shaking.at(lon_YX, lat_YX)
        shaken = np.isfinite(pgv)
        if not shaken.any():
            nothing = np.full(pgv.shape, np.nan)
            return SlideCoverage(coverage=nothing, std=nothing)
        lithology, unknown_rock = self.lithology.at(lon_YX, lat_YX)
        landcover, unknown_cover = self.landcover.at(lon_YX, lat_YX)
        cti, _ = self.cti.at(lon_YX, lat_YX)
        stddev = np.full(pgv.shape, LOGIT_STDDEV)
        if self.stddev is not None:
            given, _ = self.stddev.at(lon_YX, lat_YX)
            stddev = np.where(np.isnan(given), LOGIT_STDDEV, given)
        self._count(
            shaken,
            {
                NO_CTI: np.isnan(cti),  # first, since water has none
                NO_SLOPE: np.isnan(slope_YX),
                UNKNOWN_LITHOLOGY: unknown_rock,
                UNKNOWN_LANDCOVER: unknown_cover,
                NO_LITHOLOGY: np.isnan(lithology),
                NO_LANDCOVER: np.isnan(landcover),
            },
        )
        return slide_coverage(
            PriorTerms(
                pgv_cm_s=pgv,
                slope_deg=slope_YX,
                lithology=lithology,
                landcover=landcover,
                cti=cti,
                stddev=stddev,
                sigma_ln_pgv=sigma,
            )
        )

    def _count(self, shaken: NDArray[np.bool_], lacks: dict[str, NDArray[np.bool_]]) -> None:
        left = shaken.copy()
        for name, lack in lacks.items():
            self.missing[name] += int((left & lack).sum())
            left &= ~lack


@contextmanager
def open_prior(
    inputs: PriorInputs, options: StorageOptions | None = None
) -> Iterator[LandslidePrior]:
    """Opens the files of a landslide prior, for use in one thread.

    Raises:
        HazardError: if a file cannot be used.
        StorageError: if a file cannot be fetched.
    """
    options = options or StorageOptions()
    with ExitStack() as stack:
        shaking = read_shaking(inputs.shakemaps, options)
        slope = _open_slopes(inputs, options, stack)
        if inputs.shaking == "triangles":
            shaking = shaking.cut_for(slope.frame)

        def opened(uri: str, rule: LayerRule) -> RuledLayer:
            layer = stack.enter_context(open_layer(uri, options, slope.like))
            return RuledLayer(layer=layer, rule=rule)

        yield LandslidePrior(
            shaking=shaking,
            slope=slope,
            lithology=opened(inputs.lithology, LITHOLOGY),
            landcover=opened(inputs.landcover, LANDCOVER),
            cti=opened(inputs.cti, CTI),
            stddev=opened(inputs.stddev, STDDEV) if inputs.stddev else None,
        )


def _open_slopes(inputs: PriorInputs, options: StorageOptions, stack: ExitStack) -> SlopeLayer:
    """The gradient raster, else the slopes of the DEM."""
    if inputs.gradient is not None:
        layer = stack.enter_context(open_layer(inputs.gradient, options))
        ruled = RuledLayer(layer=layer, rule=GRADIENT)
        return SlopeLayer(
            frame=layer.frame,
            slopes=lambda window: np.degrees(np.arctan(ruled.read(window)[0])),
            like=layer,
        )
    if inputs.dem is None:
        raise HazardError(
            "landslide prior has no slopes",
            expected="a gradient raster or a DEM",
            remedy="name terrain.slope or terrain.dem",
        )
    dem = stack.enter_context(open_dem(inputs.dem, options))
    pixels = DemPixels.of(dem, SLOPE_PX_M)
    return SlopeLayer(
        frame=pixels.frame, slopes=lambda window: pixels.terrain(window)[1], like=dem.layer
    )
