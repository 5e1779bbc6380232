"""Scenes, and views: the pairs of scenes in which footprints are assessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.domain.bands import NOTHING_STATED, Bands, StatedBands
from quakestream.domain.layers import SceneLayer
from quakestream.errors import Problem, QuakestreamError
from quakestream.redaction import redacted

Epoch = Literal["pre", "post"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A fault of one input: a row of quarantine.parquet."""

    subject: str
    """The name of the input for its owner: item id, href or building id."""
    kind: str
    """`item, scene, block, footprint, hazard, cell`, ..."""
    cause: str
    retryable: bool = False
    attempts: int = 1

    @classmethod
    def of_error(
        cls, error: Exception, subject: str, kind: str, then: str = "", *, retryable: bool = False
    ) -> Self:
        """The issue that an error makes of an input. Its cause does not name the input again.

        Args:
            error: what went wrong with the input.
            subject: its name.
            kind: as `kind`.
            then: what follows for the map.
            retryable: as `retryable`.
        """
        known = error.problems if isinstance(error, QuakestreamError) else (Problem(str(error)),)
        causes = [str(replace(one, where=_place_within(one.where, subject))) for one in known]
        cause = "; ".join([*causes, then] if then else causes)
        return cls(subject=subject, kind=kind, cause=cause, retryable=retryable)

    def __post_init__(self) -> None:
        # it is shown, logged and published
        object.__setattr__(self, "subject", redacted(self.subject))
        object.__setattr__(self, "cause", redacted(self.cause))


def _place_within(where: str, subject: str) -> str:
    """What a place says beyond the name of its input: a layer, an item, a line."""
    before, name, after = where.partition(subject)
    names_it = bool(subject and name) and (not before or before.endswith(" "))
    return after.strip(" /:,") if names_it else where


SHOWN_LOW, SHOWN_HIGH = 32, 232
"""Values in 8 bits of the lowest and highest counts of a scene. Visual scenes of half a metre
have 0.5th and 99.5th percentiles of about 30 and 230 at 4 m (fourteen of Türkiye 2023)."""
FULL = 65_535
"""The count of a saturated sensor. Only this count becomes 255, which masks call saturated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Linear map of a scene's 16-bit counts to 8 bits, the same in the whole scene."""

    low_B: tuple[int, ...]
    """Counts of red, green and blue that become `SHOWN_LOW`."""
    span: int
    """Difference to `low_B`, in every band, of the counts that become `SHOWN_HIGH`; at least 1."""

    @property
    def token(self) -> str:
        """The stretch as part of a key."""
        return f"stretch {self.low_B} + {self.span}"

    def attributes(self) -> dict[str, Any]:
        """The stretch as JSON; `of` reads it back."""
        return {"low": list(self.low_B), "span": self.span, "shown": [SHOWN_LOW, SHOWN_HIGH]}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        return cls(low_B=tuple(int(low) for low in content["low"]), span=int(content["span"]))

    def tables(self, fill_B: Sequence[int]) -> NDArray[np.uint8]:
        """Value in 8 bits of each of the 65,536 counts, shape (band, count).

        Valid ground is never 0, which is the fill value, and 255 only where it is saturated.

        Args:
            fill_B: the count of each band that marks missing ground, which becomes 0.
        """
        above_BV = np.arange(FULL + 1) - np.array(self.low_B)[:, None]
        steps_BV = (2 * above_BV * (SHOWN_HIGH - SHOWN_LOW) + self.span) // (2 * self.span)
        table_BV: NDArray[np.uint8] = (SHOWN_LOW + steps_BV).clip(1, 254).astype(np.uint8)
        table_BV[:, FULL] = 255
        table_BV[np.arange(len(fill_B)), list(fill_B)] = 0
        return table_BV


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One STAC item with the asset to read, or the tiles of one acquisition that are read as one.

    A value: nothing is open.

    The georeference is that of the file's header. Where an item disagrees with its file, the
    file wins and an issue reports it.
    """

    id: str
    href: str
    datetime: datetime
    """Acquisition time, timezone-aware, UTC."""
    outline: BaseGeometry
    """Outline of the item, EPSG:4326."""
    alternates: tuple[str, ...] = ()
    """Other places of the same file, tried in order where `href` cannot be opened."""
    cloud_cover: float | None = None
    """Cloud cover, percent; None where the item has none."""
    off_nadir_deg: float | None = None
    crs_wkt: str = ""
    """CRS of the pixels; empty where the item has none and the header was not read yet."""
    transform: Affine | None = None
    shape: tuple[int, int] | None = None
    """(height, width), pixels."""
    gsd_m: float | None = None
    etag: str = ""
    """The store's version of the file: etag, or size and mtime."""
    stated: StatedBands = NOTHING_STATED
    """What the run file and the item say of the bands."""
    bands: Bands | None = None
    """Bands of a probed scene."""
    notes: tuple[str, ...] = ()
    """Harmless oddities that its header shows, one phrase each."""
    stretch: Stretch | None = None
    """Stretch of a probed scene of 16 bits; None for 8 bits."""
    credit: str = ""
    """Whom the image is credited to; empty where its item says nothing."""
    licence: str = ""
    """Licence of the image, as its item or collection states it."""
    platform: str = ""
    """Satellite, lower case; empty where its item says nothing."""
    acquisition: str = ""
    """The vendor's id of the acquisition that the scene is a tile of; empty where unknown."""
    span_s: float = 0.0
    """Length of the time span that `datetime` is the middle of; 0 where it is exact."""
    layers: tuple[SceneLayer, ...] = ()
    """Bands of physical values, in the order of the bundle that the scene was found for; empty for
    a scene that is read as red, green and blue of 8 bits."""
    mask: SceneLayer | None = None
    """Where the item says what hides the ground of a scene with layers; None: nowhere."""
    tiles: tuple["Scene", ...] = ()
    """The tiles of an acquisition, in order of id; empty where one file shows all of it.

    Where tiles overlap, the first one that sees the ground counts.
    """

    @property
    def parts(self) -> tuple["Scene", ...]:
        """The files to read: the tiles, or the scene itself."""
        return self.tiles or (self,)

    @property
    def version(self) -> tuple[str, ...]:
        """Everything that the pixels depend on, as part of a key."""
        stretched = "" if self.stretch is None else self.stretch.token
        bands = "" if self.bands is None else self.bands.token
        mask = () if self.mask is None else (self.mask.token,)
        layers = (*(layer.token for layer in self.layers), *mask)
        return (self.href, self.etag, *filter(None, (bands, stretched)), *layers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A pre and a post scene that show the same ground; pre is None for post-only models."""

    id: str
    """`POST__PRE` item ids, or `POST`."""
    post: Scene
    pre: Scene | None = None

    @property
    def scenes(self) -> tuple[Scene, ...]:
        return (self.post,) if self.pre is None else (self.post, self.pre)

    @property
    def files(self) -> tuple[Scene, ...]:
        """The scenes, tile by tile."""
        return tuple(part for scene in self.scenes for part in scene.parts)
