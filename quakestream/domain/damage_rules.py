"""What counts as damage where a map is compared with others, and the words that say so."""

from collections.abc import Sequence
from dataclasses import dataclass

from quakestream.domain.damage_words import SEVERITY, XbdGrade

GRADES: tuple[XbdGrade, ...] = ("no", "minor", "major", "destroyed")
"""Grades, mildest first."""
_SHOWN: dict[XbdGrade, str] = {
    "no": "none",
    "minor": "minor (EMS-98 1 and 2)",
    "major": "major (Copernicus Damaged, EMS-98 3 and 4)",
    "destroyed": "destroyed (Copernicus Destroyed, EMS-98 5)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageRule:
    """How grades become damage or no damage. Grades that are neither are left out."""

    damage: tuple[XbdGrade, ...]
    no_damage: tuple[XbdGrade, ...]

    @property
    def words(self) -> str:
        """The rule in a line: `score` and `compare` say theirs in these words."""
        left_out = tuple(g for g in GRADES if g not in (*self.damage, *self.no_damage))
        parts = [
            f"Counts as damage: {_listed(self.damage)}.",
            f"Counts as no damage: {_listed(self.no_damage)}.",
        ]
        return " ".join([*parts, f"Left out: {_listed(left_out)}."] if left_out else parts)


SEVERE = DamageRule(
    damage=tuple(g for g in GRADES if SEVERITY[g] == 1),
    no_damage=tuple(g for g in GRADES if SEVERITY[g] == 0),
)
"""Of `score`: does a map tell severe damage from none? Studies of damage maps ask so."""
DESTROYED = DamageRule(damage=("destroyed",), no_damage=("no", "minor", "major"))
"""Of `compare`: do maps call the same buildings destroyed? Responders ask so."""
MAJOR_OR_WORSE = DamageRule(damage=("major", "destroyed"), no_damage=("no", "minor"))
"""Of `compare --severe`."""


def _listed(grades: Sequence[XbdGrade]) -> str:
    return ", ".join(_SHOWN[grade] for grade in reversed(grades))
