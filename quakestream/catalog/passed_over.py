"""Items of a catalogue that a search for images after the event does not take, and why."""

import datetime as dt
from dataclasses import dataclass, field

from shapely.geometry.base import BaseGeometry

from quakestream.config import EpochFilter
from quakestream.domain import Epoch, Scene

Bounds = tuple[float, float, float, float]
NAMED = 3
"""Items outside the AOI that a message names."""


@dataclass(slots=True, kw_only=True)
class PassedOver:
    """Counts of items that are no post scenes of a run."""

    elsewhere: int = 0
    """Items that do not touch the AOI."""
    outside: int = 0
    """Those of them that were acquired in the interval of post scenes."""
    outside_bounds: dict[str, Bounds] = field(default_factory=dict)
    """West, south, east and north of the first such items, by name."""
    times: list[dt.datetime] = field(default_factory=list)
    """Acquisition times of items in the AOI that are in no interval of the run."""
    before_event: int = 0
    """Items in the AOI that lie in the interval of pre scenes."""
    clouds: list[float] = field(default_factory=list)
    """Cloud cover of post items in the AOI that are too cloudy, percent."""
    angles_deg: list[float] = field(default_factory=list)
    """Off-nadir angles of post items in the AOI that are too oblique."""

    @property
    def in_aoi(self) -> int:
        return len(self.times) + self.before_event + len(self.clouds) + len(self.angles_deg)

    def add_outside(self, name: str, outline: BaseGeometry) -> None:
        """Counts an item of the post interval that does not touch the AOI."""
        self.outside += 1
        if len(self.outside_bounds) < NAMED:
            self.outside_bounds[name] = outline.bounds

    def places(self) -> str:
        """Where the items of the post interval lie that miss the AOI; empty without one."""
        if not self.outside:
            return ""
        named = [
            f"{name} at {','.join(f'{v:.4f}' for v in bounds)}"
            for name, bounds in self.outside_bounds.items()
        ]
        more = self.outside - len(named)
        named += [f"{more:,} more"] if more else []
        lies = "item lies" if self.outside == 1 else "items lie"
        return f"{self.outside:,} {lies} outside the AOI: {', '.join(named)}"

    def passes(self, scene: Scene, epoch: Epoch, limits: EpochFilter) -> bool:
        """True for a scene within the filters of its epoch; counts it where it is no post scene."""
        cloudy = _above(scene.cloud_cover, limits.max_cloud)
        oblique = _above(scene.off_nadir_deg, limits.max_off_nadir)
        if epoch == "pre":
            self.before_event += 1
        elif cloudy:
            self.clouds.append(scene.cloud_cover or 0.0)
        elif oblique:
            self.angles_deg.append(scene.off_nadir_deg or 0.0)
        return not (cloudy or oblique)

    def reasons(self, limits: EpochFilter) -> list[str]:
        """Why items in the AOI are no post scenes, each reason with its count."""
        reasons = []
        if self.times:
            first, last = min(self.times), max(self.times)
            days = f"{first:%Y-%m-%d}" + (f" to {last:%Y-%m-%d}" if last > first else "")
            reasons.append(f"{len(self.times):,} at other times ({days})")
        if self.before_event:
            reasons.append(f"{self.before_event:,} in imagery.pre.datetime")
        if self.clouds:
            least = f"the clearest {min(self.clouds):g} %"
            reasons.append(f"{len(self.clouds):,} above max_cloud {limits.max_cloud:g} ({least})")
        if self.angles_deg:
            least = f"the steepest {min(self.angles_deg):g}°"
            limit = f"max_off_nadir {limits.max_off_nadir:g}"
            reasons.append(f"{len(self.angles_deg):,} above {limit} ({least})")
        return reasons


def _above(value: float | None, most: float | None) -> bool:
    return value is not None and most is not None and value > most
