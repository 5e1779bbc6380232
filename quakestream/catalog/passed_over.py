"""Items of a catalogue that a search for images after the event does not take, and why."""

import datetime as dt
from dataclasses import dataclass, field

from quakestream.config import EpochFilter
from quakestream.domain import Epoch, Scene


@dataclass(slots=True, kw_only=True)
class PassedOver:
    """Counts of items that are no post scenes of a run."""

    elsewhere: int = 0
    """Items that do not touch the AOI."""
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
