"""Presets of synthetic earthquakes: size, place and scenes, one frozen value each."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
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


Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneVariety:
    """Ranges that are drawn per scene."""

    off_nadir_deg: Range
    sun_elevation_deg: Range
    haze: Range
    """Reflectance of the haze."""
    blur_px: Range = (0.25, 0.65)
    """Deviation of the sensor's blur: 0.3 for a sensor of 0.3 m, 1.2 for one of 0.7 m, whose
    images are delivered at the GSD of all scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """How far towns and their scenes differ from each other: ranges, drawn per town or scene."""

    pre: SceneVariety = SceneVariety(
        off_nadir_deg=(3.0, 13.0), sun_elevation_deg=(46.0, 66.0), haze=(0.01, 0.04)
    )
    post: SceneVariety = SceneVariety(
        off_nadir_deg=(8.0, 24.0), sun_elevation_deg=(36.0, 50.0), haze=(0.03, 0.10)
    )
    partial: Range = (0.2, 0.2)
    """Share of destroyed buildings of which a part still stands."""
    rubble_contrast: Range = (1.0, 1.0)
    """Contrast and roughness of rubble; 1: bright slabs and dark hollows, 0.2: a dull heap."""
    dust: Range = (0.7, 0.7)
    """Strength of the dust on the ground around heaps."""
    crowding: Range = (0.0, 0.0)
    """0: gardens between houses; 1: house at house."""
    concrete: Range = (0.0, 0.0)
    """Share of roofs that are of concrete or coated whatever their form."""

    def traits(self, seed: int) -> "Traits":
        """What the town of a seed is like."""
        rng = stream(seed, "traits")
        return Traits(**{name: float(rng.uniform(*getattr(self, name))) for name in Traits.names()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Values of one town, out of the ranges of `Variety`."""

    partial: float
    rubble_contrast: float
    dust: float
    crowding: float
    concrete: float

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))


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
    variety: Variety = Variety()


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

TRAINING_WIDE = replace(
    TRAINING,
    name="training-wide",
    variety=Variety(
        pre=SceneVariety(
            off_nadir_deg=(3.0, 35.0),
            sun_elevation_deg=(35.0, 66.0),
            haze=(0.01, 0.08),
            blur_px=(0.25, 1.3),
        ),
        post=SceneVariety(
            off_nadir_deg=(3.0, 35.0),
            sun_elevation_deg=(25.0, 55.0),
            haze=(0.03, 0.20),
            blur_px=(0.25, 1.3),
        ),
        partial=(0.1, 0.5),
        rubble_contrast=(0.2, 1.0),
        dust=(0.4, 1.0),
        crowding=(0.0, 0.9),
        concrete=(0.0, 0.95),
    ),
)
"""Towns to train on: seen from up to 35° off nadir by sensors of 0.3 to 0.7 m, hazy and crowded."""

PRESETS: Mapping[str, SizePreset] = MappingProxyType(
    {preset.name: preset for preset in (DEMO, HILLS, TINY, TRAINING, TRAINING_WIDE)}
)
