"""The damage scale of a bundle, from the labels of its classes."""

from collections.abc import Sequence

from quakestream.domain import ScaleClass
from quakestream.domain.damage_words import BUNDLE_SCALES, scale_with
from quakestream.errors import RequestError


def scale_of(labels: Sequence[str]) -> tuple[ScaleClass, ...]:
    """The scale with these labels, mildest first.

    Raises:
        RequestError: if no scale has them.
    """
    scale = scale_with(labels)
    if scale is None:
        raise RequestError(
            f"no damage scale has the classes {', '.join(labels)} in this order",
            expected=" or ".join(f"({', '.join(known.labels)})" for known in BUNDLE_SCALES),
            remedy="add a scale to quakestream/domain/damage_words.py",
        )
    return tuple(
        ScaleClass(index=i, label=c.label, xbd=c.xbd, ems98=c.ems98, copernicus=c.copernicus)
        for i, c in enumerate(scale.classes)
    )
