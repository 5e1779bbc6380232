"""What run.json says of landslides that are no product. It imports no tables."""

from collections.abc import Mapping
from typing import Any

LEFT_OUT = "landslides_left_out"
"""Key of run.json: slides on ground that is too flat, which are no product."""


def left_out_line(run: Mapping[str, Any]) -> str:
    """What run.json says of slides on flat ground; empty where none was left out."""
    left = run.get(LEFT_OUT)
    if not isinstance(left, Mapping):
        return ""
    number = f"{left['slides']:,} polygon{'' if left['slides'] == 1 else 's'}"
    return (
        f"{number} ({left['km2']:.3f} km²) on ground flatter than {left['flatter_than_deg']:g}° "
        "left out: roofs, rubble and fields look like slides (terrain.least_slope_deg)"
    )
