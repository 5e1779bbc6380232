"""Readers of physical values meet the contract: the hot path, its own pixels, and GDAL."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quakestream.domain import Grid, Window
from quakestream.raster.values import GdalValues, ValueReader
from quakestream.testing import ValueReaderContract
from tests.helpers.bands import OPTIONS, band_file, layer_of, opened, window_at
from tests.helpers.sentinel import EPSG


class TestCogValues(ValueReaderContract):
    epsg, gsd_m = EPSG, 20

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path, _ = band_file(tmp_path, self.gsd_m)

    def opens(self) -> Callable[[], ValueReader]:
        return lambda: opened([layer_of(self.path)] * 2, 10.0)

    def bands(self) -> int:
        return 2

    def inside(self) -> Window:
        return window_at(10.0)


class TestOwnPixels(TestCogValues):
    gsd_m = 10


class TestGdalValues(TestCogValues):
    def opens(self) -> Callable[[], ValueReader]:
        grid = Grid(epsg=EPSG, gsd_m=10.0)
        return lambda: GdalValues([layer_of(self.path)] * 2, grid, OPTIONS, nearest=False)
