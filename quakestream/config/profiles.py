"""Profiles: the one dial of a run file, and what it turns."""

from dataclasses import dataclass, replace
from typing import Any, Literal

ProfileName = Literal["rapid", "standard", "exhaustive"]
Views = Literal["best", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a run works. Only `views` can change a verdict; the rest changes speed and memory."""

    name: ProfileName
    views: Views
    """`best`: each footprint is judged from its best view. `all`: from every view of it."""
    cell_windows: int = 4
    """Side of a cell, in windows of the bundle."""
    group_cells: int = 4
    """Cells in one commit: what a killed run may have to repeat."""
    readers: int = 2
    """Cells read at the same time."""
    engines: int = 0
    """Engines open at the same time; 0: one per GPU of a cluster, or per machine without one."""
    threads: int = 0
    """Threads of one engine; 0 leaves the number to its runtime."""
    batch: int = 0
    """Windows or crops that an engine runs at once; 0: what was measured here, was built, or
    suits its device. Scores may differ by it in their last bits."""
    runtime: str = "auto"
    """What runs the bundle; `auto`: the best that works here and says what the reference says."""


PROFILES: dict[str, Profile] = {
    # First results soon, little lost when the machine goes away.
    "rapid": Profile(name="rapid", views="best"),
    # The same verdicts with fewer, larger commits: better for whole countries.
    "standard": Profile(name="standard", views="best", group_cells=16),
    # Every view of the ground is scored and merged: several times the reading.
    "exhaustive": Profile(name="exhaustive", views="all", group_cells=16),
}


def profile_settings(name: ProfileName, overrides: dict[str, Any]) -> Profile:
    """The profile of that name, with what the run file's `execution` section overrides."""
    return replace(PROFILES[name], **overrides)
