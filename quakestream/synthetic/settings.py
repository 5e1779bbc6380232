"""Presets of synthetic earthquakes: size, place and scenes, one frozen value each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal
from zlib import crc32

import numpy as np

from quakestream.domain import Epoch

GSD_M = 0.5
"""Ground sampling distance of every synthetic scene."""
MARGIN_M = 60.0
"""Painted margin around the extent, so that shifts, lean and convergence stay inside."""
PRIOR_LAYERS = ("lithology", "landcover", "cti")
"""Layers of the landslide prior that hills have: keys under `terrain`, and names of files."""
EVENT_TIME = datetime(2026, 3, 14, 2, 41, 7, tzinfo=UTC)


def stream(seed: int, part: str) -> np.random.Generator:
    """Random numbers of one part of the world. The numbers of parts are independent."""
    return np.random.Generator(np.random.PCG64([seed, crc32(part.encode())]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneLayout:
    """The part of the world that a scene shows, and the format of its file."""

    id: str
    epoch: Epoch
    acquired: datetime
    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """West, south, east, north as fractions of the world's extent."""
    zone: Literal["home", "neighbour"] = "home"
    """UTM zone the pixels are in: the world's own, or the one across its boundary."""
    clouds: tuple[tuple[float, float, float], ...] = ()
    """Thick clouds: x, y as fractions of the world's extent, radius in metres."""
    slant_deg: float = 0.0
    """Angle of the sensor's swath in the file; pixels outside the swath are nodata."""
    codec: Literal["jpeg", "deflate"] = "jpeg"
    nodata: Literal["zero", "mask"] = "mask"
    """Mark of nodata: value 0 in the header, or an internal mask."""
    exact_outline: bool = True
    """False: the outline in the catalogue is the file's rectangle, as in many catalogues."""
    off_lattice_m: float = 0.0
    """Offset of the pixel lattice from whole multiples of the GSD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePreset:
    """Extent, place and scenes of a synthetic earthquake."""

    name: str
    extent_m: tuple[float, float]
    """Width and height of the area of interest."""
    lon: float
    """Centre of the world, degrees."""
    lat: float
    scenes: tuple[SceneLayout, ...]
    rural: float = 0.25
    """Approximate share of the extent that is fields around the town."""
    hills: float = 0.0
    """Share of the extent, at its north, that is hills with landslides."""
    destroyed: float | None = None
    """Expected share of destroyed buildings; None leaves it to the shaking."""


def _day(year: int, month: int, day: int, hour: int = 8) -> datetime:
    return datetime(year, month, day, hour, 21, 40, tzinfo=UTC)


_PAIR = (
    SceneLayout(id="pre", epoch="pre", acquired=_day(2025, 7, 19)),
    SceneLayout(id="post", epoch="post", acquired=_day(2026, 3, 16)),
)

DEMO = SizePreset(
    name="demo",
    extent_m=(1200.0, 900.0),
    lon=36.0027,
    lat=37.05,
    rural=0.1,
    scenes=(
        # The best pre-event image. Buildings south of its edge have no pre-event image.
        SceneLayout(
            id="pre-20250719",
            epoch="pre",
            acquired=_day(2025, 7, 19),
            extent=(0.0, 0.07, 1.0, 1.0),
        ),
        # Older, partly cloudy, half of the town: it must not be chosen.
        SceneLayout(
            id="pre-20211002",
            epoch="pre",
            acquired=_day(2021, 10, 2),
            extent=(0.0, 0.1, 0.6, 1.0),
            clouds=((0.3, 0.4, 90.0), (0.12, 0.75, 70.0)),
            off_lattice_m=0.21,
        ),
        # First scene after the event: nearly the whole town, with clouds.
        SceneLayout(
            id="post-20260315",
            epoch="post",
            acquired=_day(2026, 3, 15),
            extent=(0.0, 0.0, 0.86, 1.0),
            clouds=((0.02, 0.2, 120.0), (0.45, 0.5, 120.0), (0.24, 0.8, 80.0), (0.7, 0.8, 95.0)),
            nodata="zero",
        ),
        # Clear, in the east. The corners outside the swath are nodata, unknown to the catalogue.
        SceneLayout(
            id="post-20260317",
            epoch="post",
            acquired=_day(2026, 3, 17),
            extent=(0.4, 0.0, 0.955, 1.0),
            slant_deg=7.0,
            exact_outline=False,
        ),
        # Clear, in the west, in the UTM zone across the boundary.
        SceneLayout(
            id="post-20260318",
            epoch="post",
            acquired=_day(2026, 3, 18),
            extent=(0.0, 0.0, 0.5, 1.0),
            zone="neighbour",
            slant_deg=-9.0,
            codec="deflate",
            nodata="zero",
        ),
    ),
)

HILLS = replace(DEMO, name="hills", extent_m=(1200.0, 1150.0), hills=0.36)
"""The demo's scenes over a town at the foot of hills, with landslides of known outline."""

TINY = SizePreset(
    name="tiny", extent_m=(320.0, 320.0), lon=38.6, lat=37.05, scenes=_PAIR, rural=0.0
)

TRAINING = SizePreset(
    name="training", extent_m=(1000.0, 1000.0), lon=38.6, lat=37.05, scenes=_PAIR, rural=0.15
)

PRESETS: Mapping[str, SizePreset] = MappingProxyType(
    {preset.name: preset for preset in (DEMO, HILLS, TINY, TRAINING)}
)
