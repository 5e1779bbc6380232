"""The strongest shaking of several ShakeMaps, with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Issue
from quakestream.errors import HazardError
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.shakemap import ShakeMap, read_shakemap, read_uncertainty
from quakestream.hazard.triangles import Rim, rising_squares
from quakestream.hazard.versions import newest_versions
from quakestream.storage import MissingObjectError, StorageOptions

_GRID = "grid.xml"
_UNCERTAINTY = "uncertainty.xml"
_STD = "STDPGV"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PgvMap:
    """Peak ground velocity of one event, and the standard deviation of its logarithm."""

    shakemap: ShakeMap
    uncertainty: ShakeMap | None
    """Of the event's uncertainty.xml, or the ShakeMap itself where it has the field."""
    rising_YX: NDArray[np.bool_] | None = None
    """Diagonals of the squares of nodes, for values on triangles; None: bilinear."""

    @classmethod
    def of(cls, shakemap: ShakeMap, options: StorageOptions | None) -> Self:
        """The map with the uncertainty.xml that lies beside it.

        Raises:
            HazardError: if the ShakeMap has no PGV, or its uncertainty.xml is damaged.
            StorageError: if the file beside it cannot be read.
        """
        if "PGV" not in shakemap.fields:
            raise HazardError(
                "ShakeMap has no PGV",
                shakemap.uri,
                expected="the field PGV, which the landslide prior needs",
                got=", ".join(shakemap.fields),
            )
        if _STD in shakemap.fields:
            return cls(shakemap=shakemap, uncertainty=shakemap)
        beside = _beside(shakemap.uri)
        try:
            return cls(
                shakemap=shakemap,
                uncertainty=read_uncertainty(beside, options) if beside else None,
            )
        except MissingObjectError:
            return cls(shakemap=shakemap, uncertainty=None)

    @property
    def note(self) -> str:
        """What the uncertainty is, where it is not a grid; empty where it is one."""
        if self.uncertainty is not None and _STD in self.uncertainty.fields:
            return ""
        spread = self.shakemap.spreads.get("PGV")
        if spread is not None:
            return f"no {_UNCERTAINTY} beside it: ln(PGV) is uncertain by {spread:g} everywhere"
        return f"no {_UNCERTAINTY} beside it: the uncertainty of shaking counts as 0"

    def cut_for(self, frame: PixelFrame) -> Self:
        """The map with values on the triangles that USGS's software makes for a prior's pixels.

        Without a rim their software is bilinear, too. So is a map of one row or column.
        """
        nodes = self.shakemap
        rim = Rim.of(nodes.lon, nodes.lat, frame)
        if rim.empty or min(len(nodes.lat), len(nodes.lon)) < 2:
            return self
        return replace(self, rising_YX=rising_squares(len(nodes.lat), len(nodes.lon), rim))

    def at(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """PGV in cm/s, NaN outside the map, and the standard deviation of ln(PGV)."""
        pgv = self.shakemap.at("PGV", lon, lat, self.rising_YX)
        everywhere = self.shakemap.spreads.get("PGV", 0.0)
        if self.uncertainty is None:
            return pgv, np.full(pgv.shape, everywhere)
        nodes, other = self.shakemap, self.uncertainty
        same = (len(nodes.lat), len(nodes.lon)) == (len(other.lat), len(other.lon))
        sigma = other.at(_STD, lon, lat, self.rising_YX if same else None)
        return pgv, np.where(sigma >= 0, sigma, everywhere)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrongestShaking:
    """The strongest shaking of several events."""

    maps: tuple[PgvMap, ...]
    issues: tuple[Issue, ...] = ()
    """Older versions that are not used, and uncertainties that are assumed."""

    def cut_for(self, frame: PixelFrame) -> Self:
        """The shaking on triangles between the nodes of each map, as in USGS's runs."""
        return replace(self, maps=tuple(one.cut_for(frame) for one in self.maps))

    def at(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """The largest PGV in cm/s at points (EPSG:4326), and the deviation of its logarithm."""
        pgv, sigma = np.full(lon.shape, np.nan), np.zeros(lon.shape)
        for one in self.maps:
            found, spread = one.at(lon, lat)
            stronger = (found > pgv) | (np.isnan(pgv) & np.isfinite(found))
            pgv, sigma = np.where(stronger, found, pgv), np.where(stronger, spread, sigma)
        return pgv, sigma

    @property
    def boxes_N4(self) -> Floats:
        """West, south, east and north of each map; east above 180 across the antimeridian."""
        return np.array(
            [
                (m.shakemap.lon[0], m.shakemap.lat[0], m.shakemap.lon[-1], m.shakemap.lat[-1])
                for m in self.maps
            ]
        )


def read_shaking(uris: Sequence[str], options: StorageOptions | None = None) -> StrongestShaking:
    """Reads ShakeMaps and the uncertainty.xml beside each of them.

    The later of two versions of one event counts.

    Raises:
        HazardError: if a file is no ShakeMap with PGV.
        StorageError: if a file cannot be read.
    """
    issues: list[Issue] = []
    newest = newest_versions([read_shakemap(u, options) for u in dict.fromkeys(uris)], issues)
    maps = tuple(PgvMap.of(shakemap, options) for shakemap in newest)
    issues += [
        Issue(subject=one.shakemap.uri, kind="hazard", cause=one.note) for one in maps if one.note
    ]
    return StrongestShaking(maps=maps, issues=tuple(issues))


def _beside(uri: str) -> str:
    """Where the uncertainty.xml of a grid.xml lies; empty for other names."""
    folder, slash, name = uri.rpartition("/")
    return f"{folder}{slash}{_UNCERTAINTY}" if name == _GRID else ""
