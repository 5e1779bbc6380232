"""Words for building damage, and what each of them means.

Surveys, mapping services and data sets name damage differently. This module is the one place that
says what their words mean; scoring and training both read it. A word belongs to a scale, because
the same word may differ between scales: `slight` is damage in a field survey, and may be none in
the synthetic earthquake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

XbdGrade = Literal["no", "minor", "major", "destroyed"]
Grade = Literal["no", "minor", "major", "destroyed", "ignored"]
"""An xBD grade, or `ignored` for a building whose damage is not known."""
CopernicusGrade = Literal["Destroyed", "Damaged", "Possibly damaged", "No visible damage"]

SEVERITY: dict[str, int] = {"no": 0, "minor": -1, "major": 1, "destroyed": 1, "ignored": -1}
"""1 for severe grades, 0 for the harmless one, -1 for what lies between or is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageClass:
    """A class of a damage scale."""

    label: str
    """Name of the class in bundles and stores."""
    xbd: XbdGrade
    ems98: tuple[int, ...]
    """EMS-98 grades of the class, 0 (no damage) to 5."""
    copernicus: CopernicusGrade
    words: tuple[str, ...] = ()
    """Words for the class in label files; if empty, the label is the only one."""
    uncertain: bool = False
    """True if even the observer was not sure. Such buildings are not scored."""

    @property
    def all_words(self) -> tuple[str, ...]:
        """Words for the class in label files."""
        return self.words or (self.label,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageScale:
    """Classes, mildest first, and words for buildings whose damage is not known."""

    name: str
    classes: tuple[DamageClass, ...]
    unknown: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels, mildest first."""
        return tuple(c.label for c in self.classes)

    def grades(self) -> dict[str, Grade]:
        """What each word means for scoring, by word in lower case."""
        grades: dict[str, Grade] = {}
        for c in self.classes:
            grades |= dict.fromkeys(
                map(str.lower, c.all_words), "ignored" if c.uncertain else c.xbd
            )
        return grades | dict.fromkeys(map(str.lower, self.unknown), "ignored")

    def claims(self) -> dict[str, str]:
        """What each word claims, by word in lower case: its grade, `unsure` or `not_analysed`."""
        words = {word.lower(): "not_analysed" for word in self.unknown}
        for c in self.classes:
            words |= {w.lower(): "unsure" if c.uncertain else c.xbd for w in c.all_words}
        return words

    def positions(self) -> dict[str, int]:
        """Position of the class that each word means, by word as it is written."""
        return {word: i for i, c in enumerate(self.classes) for word in c.all_words}


def _class(
    label: str,
    xbd: XbdGrade,
    ems98: tuple[int, ...],
    copernicus: CopernicusGrade,
    *words: str,
    uncertain: bool = False,
) -> DamageClass:
    return DamageClass(
        label=label, xbd=xbd, ems98=ems98, copernicus=copernicus, words=words, uncertain=uncertain
    )


COPERNICUS = DamageScale(
    name="Copernicus EMS",
    classes=(
        _class("no_visible_damage", "no", (0, 1), "No visible damage", "No visible damage"),
        _class(
            "possibly_damaged",
            "minor",
            (2,),
            "Possibly damaged",
            "Possibly damaged",
            uncertain=True,
        ),
        _class("damaged", "major", (3,), "Damaged", "Damaged"),
        _class("destroyed", "destroyed", (4, 5), "Destroyed", "Destroyed"),
    ),
    unknown=("Not analysed", "Not applicable", "Unknown"),
)
COPERNICUS_OLD = DamageScale(
    name="Copernicus EMS until 2018",
    classes=(
        _class(
            "no_visible_damage",
            "no",
            (0, 1),
            "No visible damage",
            "Negligible to slight damage",
            "Not Affected",
            "No damage",
        ),
        _class("moderate", "minor", (2,), "Possibly damaged", "Moderately Damaged"),
        _class("high", "major", (3, 4), "Damaged", "Highly Damaged"),
        _class("destroyed", "destroyed", (5,), "Destroyed", "Completely Destroyed"),
    ),
    unknown=("Not Analyzed",),
)
"""Words of the column `grading` in packages before the four grades of today."""
UNOSAT = DamageScale(
    # Numbers of the column Main_Damage_Site_Class, and its words in files that spell them.
    name="UNOSAT",
    classes=(
        _class("none", "no", (0, 1), "No visible damage", "6", "No visible damage"),
        _class(
            "possible",
            "minor",
            (2,),
            "Possibly damaged",
            "4",
            "11",
            "Possible Damage",
            "Possible Damage from adjacent impact, debris",
            uncertain=True,
        ),
        _class("moderate", "minor", (2,), "Possibly damaged", "3", "Moderate Damage"),
        _class("severe", "major", (3, 4), "Damaged", "2", "Severe Damage"),
        _class("destroyed", "destroyed", (5,), "Destroyed", "1", "Destroyed"),
    ),
)
"""Bare numbers may mean anything elsewhere: this scale is told by its column, not by its words."""
XBD = DamageScale(
    name="xBD",
    classes=(
        _class("no-damage", "no", (0,), "No visible damage"),
        _class("minor-damage", "minor", (1, 2), "Possibly damaged"),
        _class("major-damage", "major", (3,), "Damaged"),
        _class("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
    unknown=("un-classified",),
)
EMS98 = DamageScale(
    name="EMS-98",
    classes=(
        _class("0", "no", (0,), "No visible damage"),
        _class("1", "minor", (1,), "Possibly damaged"),
        _class("2", "minor", (2,), "Possibly damaged"),
        _class("3", "major", (3,), "Damaged"),
        _class("4", "major", (4,), "Damaged"),
        _class("5", "destroyed", (5,), "Destroyed"),
    ),
)
PLAIN = DamageScale(
    name="plain words",
    classes=(
        _class("no", "no", (0,), "No visible damage", "no", "intact", "undamaged", "no damage"),
        _class("minor", "minor", (1, 2), "Possibly damaged"),
        _class("major", "major", (3,), "Damaged", "major", "damaged"),
        _class("destroyed", "destroyed", (4, 5), "Destroyed", "destroyed", "collapsed"),
    ),
)
"""Everyday words, among them those of OpenStreetMap."""
FIELD_SURVEY = DamageScale(
    # The Turkish survey has no "moderate" in these data. Its "heavy" begins where people must
    # leave, and a building "to be demolished" still stands.
    name="field survey",
    classes=(
        _class("none", "no", (0,), "No visible damage", "none", "0"),
        _class("slight", "minor", (1, 2), "Possibly damaged", "slight", "1"),
        _class("heavy", "major", (3,), "Damaged", "heavy", "2"),
        _class("to_be_demolished", "major", (4,), "Damaged", "to_be_demolished", "3"),
        _class("collapsed", "destroyed", (5,), "Destroyed", "collapsed", "4"),
    ),
)
"""Field points of Kahramanmaraş 2023. Their file names a class by its number."""
FIELD_SURVEY_DAMAGED = DamageScale(
    name="field survey, damaged buildings", classes=FIELD_SURVEY.classes[1:]
)
USGS_SURVEY = DamageScale(
    name="USGS field survey",
    classes=(
        _class("minor", "minor", (1, 2), "Possibly damaged", "Minor (few cracks)"),
        _class(
            "moderate",
            "major",
            (3,),
            "Damaged",
            "Moderate (extensive cracks in walls)",
            "moderate damage but repaired",
        ),
        # One class for severe damage and collapse; its grade is that of the milder of the two.
        _class(
            "severe",
            "major",
            (4, 5),
            "Damaged",
            "Severe (structural damage to system)",
            "Partial collapse (portion collapsed)",
            "Complete collapse",
        ),
    ),
)
"""Surveyed buildings of February 2023 with shaking at their place."""
INTACT_OR_DESTROYED = DamageScale(
    name="intact or destroyed",
    classes=(
        # A collapsed building is grade 5 or, seen from above, a grade 4 with a fallen roof.
        _class("intact", "no", (0, 1, 2, 3), "No visible damage"),
        _class("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
)
SYNTHETIC = DamageScale(
    name="synthetic earthquake",
    classes=(
        # Its "slight" begins at no damage at all.
        _class("slight", "no", (0, 1), "No visible damage"),
        _class("heavy", "major", (2, 3), "Damaged"),
        _class("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
)

SCORED_SCALES = (COPERNICUS, XBD, EMS98, PLAIN)
"""Scales that scoring recognises by their words, first match first."""
BUNDLE_SCALES = (
    INTACT_OR_DESTROYED,
    SYNTHETIC,
    FIELD_SURVEY,
    FIELD_SURVEY_DAMAGED,
    XBD,
    COPERNICUS,
)
"""Scales whose labels a bundle may have."""


def scale_with(labels: Sequence[str]) -> DamageScale | None:
    """The scale of a bundle with these labels, mildest first; None if there is none."""
    return next((scale for scale in BUNDLE_SCALES if scale.labels == tuple(labels)), None)
