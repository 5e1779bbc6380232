"""Damage scales by their labels: what each class means on the scales others use.

A training store names its classes; a bundle also says which xBD grade, which EMS-98 grades and
which Copernicus class each of them is.
"""

from collections.abc import Sequence
from typing import Literal

from quakestream.domain import ScaleClass
from quakestream.errors import RequestError

_Xbd = Literal["no", "minor", "major", "destroyed"]
_Copernicus = Literal["Destroyed", "Damaged", "Possibly damaged", "No visible damage"]
_Class = tuple[str, _Xbd, tuple[int, ...], _Copernicus]

_NONE: _Class = ("none", "no", (0,), "No visible damage")
_FIELD: tuple[_Class, ...] = (
    # The Turkish survey knows no "moderate" in these data; its "heavy" begins where people
    # must leave, and "to be demolished" still stands.
    ("slight", "minor", (1, 2), "Possibly damaged"),
    ("heavy", "major", (3,), "Damaged"),
    ("to_be_demolished", "major", (4,), "Damaged"),
    ("collapsed", "destroyed", (5,), "Destroyed"),
)
_SCALES: tuple[tuple[_Class, ...], ...] = (
    (
        # A collapsed building is grade 5 or, seen from above, a grade 4 with a fallen roof.
        ("intact", "no", (0, 1, 2, 3), "No visible damage"),
        ("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
    (
        # The synthetic earthquake's: "slight" begins at no damage at all.
        ("slight", "no", (0, 1), "No visible damage"),
        ("heavy", "major", (2, 3), "Damaged"),
        ("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
    (_NONE, *_FIELD),
    _FIELD,
    (
        ("no-damage", "no", (0,), "No visible damage"),
        ("minor-damage", "minor", (1, 2), "Possibly damaged"),
        ("major-damage", "major", (3,), "Damaged"),
        ("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
    (
        ("no_visible_damage", "no", (0, 1), "No visible damage"),
        ("possibly_damaged", "minor", (2,), "Possibly damaged"),
        ("damaged", "major", (3,), "Damaged"),
        ("destroyed", "destroyed", (4, 5), "Destroyed"),
    ),
)


def scale_of(labels: Sequence[str]) -> tuple[ScaleClass, ...]:
    """The scale with these labels, mildest first.

    Raises:
        RequestError: if no scale has them.
    """
    known = {tuple(one[0] for one in scale): scale for scale in _SCALES}
    if tuple(labels) not in known:
        scales = "; ".join(", ".join(names) for names in known)
        raise RequestError(
            f"classes {', '.join(labels)}: no damage scale has these labels in this order; "
            f"known: {scales}; add one to training/scales.py"
        )
    return tuple(
        ScaleClass(index=i, label=label, xbd=xbd, ems98=ems98, copernicus=copernicus)
        for i, (label, xbd, ems98, copernicus) in enumerate(known[tuple(labels)])
    )
