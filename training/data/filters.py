"""Filters of the EPFL damage paper, which drop tiles and chips that teach nothing.

The paper drops tiles with more than 5 % black pixels, drops snow by a rule about an RGB sum of
500, and keeps tiles whose variance is above 4 %. It leaves two things open, which have defaults
here. It removes images with a sum *below* 500 as snow, which seems inverted because snow is bright:
by default images *above* 500 are removed. It does not say of what the variance is: here it is that
of grey values from 0 to 1.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import RequestError

REASONS = ("black", "snow", "flat")
"""Reasons to drop a tile; if several apply, the first is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFilter:
    """Rules that a tile must pass. A rule that is None is not applied.

    Raises:
        RequestError: if a limit is out of range.
    """

    black: float | None = 0.05
    """Largest share of pixels that are black or unseen."""
    snow: float | None = 500.0
    """Mean sum of red, green and blue (0 to 765) that separates snow from ground."""
    snow_side: Literal["above", "below"] = "above"
    """Side of the limit on which a tile is snow."""
    variance: float | None = 0.04
    """Smallest variance of the grey values (0 to 1) of seen pixels."""

    def __post_init__(self) -> None:
        ranges = {"black": (self.black, 1.0), "snow": (self.snow, 765.0)}
        ranges["variance"] = (self.variance, 0.25)
        for name, (value, most) in ranges.items():
            if value is not None and not 0 <= value <= most:
                raise RequestError(
                    "out of range", f"filter {name}", expected=f"0 to {most:g}", got=f"{value:g}"
                )
        if self.snow_side not in ("above", "below"):
            raise RequestError(
                "unknown side", "filter snow_side", expected="above or below", got=self.snow_side
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """A filter from `--filter`: `epfl`, or changes of it as `black=0.1,snow=none,...`.

        Raises:
            RequestError: if a name is unknown or a value is not a number.
        """
        if text == "epfl":
            return cls()
        known = [f.name for f in fields(cls)]
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, separator, value = (v.strip() for v in part.partition("="))
            if not separator or name not in known:
                raise RequestError(
                    "unknown rule",
                    f"--filter {part!r}",
                    expected=f"epfl, or NAME=VALUE with {', '.join(known)}",
                )
            given[name] = value if name == "snow_side" else _number(name, value)
        return cls(**given)

    def reasons(
        self, counts_NBYX: NDArray[np.uint8], valid_NYX: NDArray[np.bool_] | None = None
    ) -> NDArray[np.object_]:
        """The reason why each tile is dropped, one of `REASONS`; None for tiles that pass.

        Args:
            counts_NBYX: sensor counts, red green blue.
            valid_NYX: True where the sensor saw the ground; None means everywhere.
        """
        seen_NYX = counts_NBYX.any(axis=1)
        if valid_NYX is not None:
            seen_NYX &= valid_NYX
        seen_N = np.maximum(seen_NYX.sum(axis=(1, 2)), 1)
        sum_NYX = counts_NBYX.sum(axis=1, dtype=np.float64) * seen_NYX
        mean_N = sum_NYX.sum(axis=(1, 2)) / seen_N
        spread_NYX = (sum_NYX - mean_N[:, None, None]) * seen_NYX
        variance_N = (spread_NYX**2).sum(axis=(1, 2)) / seen_N / 765.0**2
        reason_N = np.full(len(counts_NBYX), None, object)
        if self.variance is not None:
            reason_N[variance_N <= self.variance] = "flat"
        if self.snow is not None:
            above_N = mean_N > self.snow
            reason_N[above_N if self.snow_side == "above" else mean_N < self.snow] = "snow"
        if self.black is not None:
            reason_N[1 - seen_NYX.mean(axis=(1, 2)) > self.black] = "black"
        return reason_N


def _number(name: str, text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(
            "wrong value", f"--filter {name}", expected="a number or none", got=repr(text)
        ) from error
