"""Scenes, and the pairs of scenes a footprint is judged from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

Epoch = Literal["pre", "post"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Something wrong with one input: a row of quarantine.parquet."""

    subject: str
    """Item id, href, building id: whatever names the input to its owner."""
    kind: str
    """`item, scene, block, footprint, hazard, cell`, ..."""
    cause: str
    retryable: bool = False
    attempts: int = 1


SHOWN_LOW, SHOWN_HIGH = 32, 232
"""Where the ends of a scene's counts lie in 8 bits: as in visual scenes of half a metre, whose
0.5th and 99.5th percentiles at 4 m are about 30 and 230 (fourteen of Türkiye 2023)."""
FULL = 65_535
"""The count of a sensor that is full. It alone becomes 255, which masks call saturated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """How a scene's 16-bit counts become 8: a line, the same wherever in the scene."""

    low_B: tuple[int, ...]
    """Counts of red, green and blue that become `SHOWN_LOW`."""
    span: int
    """Counts above `low_B`, in any band, that become `SHOWN_HIGH`; at least 1."""

    @property
    def token(self) -> str:
        """The stretch as part of a key."""
        return f"stretch {self.low_B} + {self.span}"

    def attributes(self) -> dict[str, Any]:
        """The stretch as JSON; `of` makes it again."""
        return {"low": list(self.low_B), "span": self.span, "shown": [SHOWN_LOW, SHOWN_HIGH]}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        return cls(low_B=tuple(int(low) for low in content["low"]), span=int(content["span"]))

    def tables(self, fill_B: Sequence[int]) -> NDArray[np.uint8]:
        """What each of 65,536 counts becomes, shape (band, count).

        Valid ground is never 0, so that it does not look like fill, nor 255 unless full.

        Args:
            fill_B: the count of each band that stands for nothing, and becomes 0.
        """
        above_BV = np.arange(FULL + 1) - np.array(self.low_B)[:, None]
        steps_BV = (2 * above_BV * (SHOWN_HIGH - SHOWN_LOW) + self.span) // (2 * self.span)
        table_BV: NDArray[np.uint8] = (SHOWN_LOW + steps_BV).clip(1, 254).astype(np.uint8)
        table_BV[:, FULL] = 255
        table_BV[np.arange(len(fill_B)), list(fill_B)] = 0
        return table_BV


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One STAC item with the asset that is read. A value: nothing is open.

    The georeference is what the file's header says; where an item disagrees
    with its file, the file wins and the disagreement is reported.
    """

    id: str
    href: str
    datetime: datetime
    """Acquisition time, timezone-aware, UTC."""
    outline: BaseGeometry
    """Ground the item says it shows, EPSG:4326."""
    cloud_cover: float | None = None
    """Percent, None where the item does not say."""
    off_nadir_deg: float | None = None
    crs_wkt: str = ""
    """CRS of the pixels; empty until the header was read and the item did not say."""
    transform: Affine | None = None
    shape: tuple[int, int] | None = None
    """(height, width), pixels."""
    gsd_m: float | None = None
    etag: str = ""
    """Whatever the store gives to tell versions apart: etag, or size and mtime."""
    stretch: Stretch | None = None
    """Scenes of 16 bits only, once they were probed."""

    @property
    def version(self) -> tuple[str, ...]:
        """What its pixels depend on, as part of a key."""
        stretched = () if self.stretch is None else (self.stretch.token,)
        return (self.href, self.etag, *stretched)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A pre and a post scene that show the same ground; pre is None for post-only models."""

    id: str
    """`POST__PRE` item ids, or `POST`."""
    post: Scene
    pre: Scene | None = None
