"""Reads a scene of physical values: its bands, terrain and mask, all on one grid."""

from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Quality, Scene, SceneLayer, Window
from quakestream.errors import HazardError, ReadError
from quakestream.raster.cog import CogOpener
from quakestream.raster.mask_classes import hidden_by
from quakestream.raster.source import Pixels, RasterSource
from quakestream.raster.values import ValueReader
from quakestream.storage import StorageOptions

if TYPE_CHECKING:
    from quakestream.hazard.terrain import Dem, Ground

_Part = tuple[ValueReader, list[int]]
"""A file, and the places of its bands among the scene's layers."""


class SceneOpener(CogOpener):
    """Opens scenes of counts as `CogOpener` does, and scenes of physical values."""

    def __call__(self, scene: Scene, grid: Grid) -> RasterSource:
        if scene.layers:
            return LayerSource(scene, grid, self, self._options)
        return super().__call__(scene, grid)


class LayerSource:
    """A scene with layers on one grid.

    Its pixels are float32: a pixel is valid where every layer is. Quality comes from the mask of
    the item, where it has one. Terrain channels come from the elevation model.
    """

    def __init__(
        self, scene: Scene, grid: Grid, opener: CogOpener, options: StorageOptions
    ) -> None:
        self._scene, self._grid, self._opener = scene, grid, opener
        self._options, self._stack = options, ExitStack()
        self._parts: list[_Part] = []
        self._mask: ValueReader | None = None
        self._dem = ""
        self._opened_dem: Dem | None = None

    def __enter__(self) -> Self:
        scene, grid = self._scene, self._grid
        with ExitStack() as stack:
            for places in _by_file(scene.layers):
                layers = [scene.layers[place] for place in places]
                if layers[0].is_terrain:
                    self._dem = layers[0].file.href
                    continue
                reader = stack.enter_context(self._opener.values(scene, layers, grid))
                self._parts.append((reader, places))
            if scene.mask is not None:
                mask = self._opener.values(scene, [scene.mask], grid, nearest=True)
                self._mask = stack.enter_context(mask)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def seamless(self) -> bool:
        return all(reader.seamless for reader in self._readers())

    def read(self, window: Window) -> Pixels:
        """Values, validity and quality on the grid.

        Raises:
            ReadError: if a file cannot be read.
        """
        value_BYX = np.zeros((len(self._scene.layers), *window.shape), np.float32)
        valid_YX = np.ones(window.shape, np.bool_)
        for reader, places in self._parts:
            values = reader.read(window)
            value_BYX[places] = values.value_BYX
            valid_YX &= values.valid_BYX.all(axis=0)
        if self._dem:
            ground = self._terrain(self._dem, window)
            valid_YX &= ground.valid_YX
            for place, layer in enumerate(self._scene.layers):
                if layer.is_terrain:
                    value_BYX[place] = getattr(ground, f"{layer.name}_YX")
        return Pixels(
            counts_BYX=value_BYX,
            valid_YX=valid_YX & self._shows_light(value_BYX),
            quality_YX=self._quality(window),
        )

    def prefetch(self, *windows: Window) -> None:
        """Requests the bytes that later reads of windows need, and returns at once."""
        for reader in self._readers():
            reader.prefetch(*windows)

    def _terrain(self, dem: str, window: Window) -> "Ground":
        """Elevation and slope. The model is opened when it is first needed, and kept."""
        from quakestream.hazard.terrain import open_dem  # few models take terrain

        try:
            if self._opened_dem is None:
                self._opened_dem = self._stack.enter_context(open_dem(dem, self._options))
            return self._opened_dem.read(self._grid, window)
        except HazardError as error:
            self._opened_dem = None
            raise ReadError.of(error.problem) from error

    def _readers(self) -> list[ValueReader]:
        readers = [reader for reader, _ in self._parts]
        return readers if self._mask is None else [*readers, self._mask]

    def _quality(self, window: Window) -> NDArray[np.uint8]:
        mask = self._scene.mask
        if self._mask is None or mask is None:
            return np.zeros(window.shape, np.uint8)
        values = self._mask.read(window)
        quality_YX = hidden_by(mask.name, values.value_BYX[0].astype(np.int64))
        # what a mask leaves open is as good as without a mask
        return np.where(values.valid_BYX[0], quality_YX, Quality.VALID).astype(np.uint8)

    def _shows_light(self, value_BYX: NDArray[np.float32]) -> NDArray[np.bool_]:
        """False where all bands are 0, if no file says what marks missing ground."""
        if any(layer.nodata for layer in self._scene.layers):
            return np.ones(value_BYX.shape[1:], np.bool_)
        bands = [n for n, layer in enumerate(self._scene.layers) if not layer.is_terrain]
        return np.asarray(value_BYX[bands].any(axis=0), np.bool_)


_: type[RasterSource] = LayerSource


def _by_file(layers: tuple[SceneLayer, ...]) -> list[list[int]]:
    """Places of layers, those of one file together."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, layer in enumerate(layers):
        places[layer.file.href].append(place)
    return list(places.values())
