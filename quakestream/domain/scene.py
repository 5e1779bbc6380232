"""Scenes, and the pairs of scenes a footprint is judged from."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from affine import Affine
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A pre and a post scene that show the same ground; pre is None for post-only models."""

    id: str
    """`POST__PRE` item ids, or `POST`."""
    post: Scene
    pre: Scene | None = None
