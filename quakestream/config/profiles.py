"""Profiles: the one dial of a run file, and the settings behind it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

ProfileName = Literal["rapid", "standard", "exhaustive"]
Views = Literal["best", "all"]

FAST_DAMAGE_MODEL = "damage-turkiye-2023"
"""The shipped bundle for lists: twice as fast, and finds most."""
SURE_DAMAGE_MODEL = "damage-context-2023"
"""The shipped bundle for numbers: its intervals and its calibration held in towns that it had
never seen."""
MEANT_FOR: dict[str, Literal["lists", "numbers"]] = {
    FAST_DAMAGE_MODEL: "lists",
    SURE_DAMAGE_MODEL: "numbers",
}
"""What shipped bundles are for; of others nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Settings of a run. `views` and `damage` decide verdicts; the others speed and memory."""

    name: ProfileName
    views: Views
    """`best`: each footprint is assessed in its best view. `all`: in every view of it."""
    damage: str
    """Damage bundle of a run file that names none."""
    cell_windows: int = 4
    """Side of a cell, in windows of the model."""
    group_cells: int = 4
    """Cells of a commit group. A killed run repeats at most the groups it had not finished."""
    readers: int = 2
    """Cells that are read at the same time."""
    engines: int = 0
    """Engines that are open at the same time; 0: one per GPU, or one per machine without a GPU."""
    threads: int = 0
    """Threads of one engine; 0: its runtime decides."""
    batch: int = 0
    """Windows or crops that an engine scores at once; 0: the measured batch, the built one, or
    the one that suits the device. It can change the last bits of scores."""
    interim_s: float = 600.0
    """Time between two maps of what is read so far, while the first map of an output is being
    made; 0: none. A large map takes longer between them."""
    runtime: str = "auto"
    """Runtime of the bundle; `auto`: the fastest one here that agrees with the reference."""


PROFILES: dict[str, Profile] = {
    # Lists for the first night; little is lost when the machine goes away.
    "rapid": Profile(name="rapid", views="best", damage=FAST_DAMAGE_MODEL),
    # Numbers to publish, with fewer and larger commit groups: better for whole countries.
    "standard": Profile(name="standard", views="best", damage=SURE_DAMAGE_MODEL, group_cells=16),
    # Every view of the ground is scored and merged, which reads several times as much.
    "exhaustive": Profile(name="exhaustive", views="all", damage=SURE_DAMAGE_MODEL, group_cells=16),
}


def profile_settings(name: ProfileName, overrides: dict[str, Any]) -> Profile:
    """The profile of that name with the overrides of the `execution` section."""
    return replace(PROFILES[name], **overrides)
