"""Closed lists: reasons why a building is not assessed, and qualities of pixels."""

from enum import IntEnum
from typing import Literal, get_args

Reason = Literal[
    "no_imagery",
    "no_pre",
    "misaligned",
    "nodata",
    "cloud",
    "snow",
    "saturated",
    "too_small",
    "outside_model_scale",
    "invalid_geometry",
    "read_error",
    "model_error",
    "abstained",
    "no_model",
    "pending",
]
REASONS: tuple[str, ...] = get_args(Reason)


class Quality(IntEnum):
    """Quality of a pixel. Where several apply, the smallest non-zero one counts."""

    VALID = 0
    NODATA = 1
    CLOUD = 2
    SNOW = 3
    SATURATED = 4
