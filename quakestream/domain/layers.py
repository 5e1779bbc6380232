"""Scenes of physical values: which file holds each band, and what its numbers mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from affine import Affine

from quakestream.domain.spectrum import TERRAIN_BANDS

MaskKind = Literal["scl", "fmask", "qa60"]
"""Scene classification of Sentinel-2 L2A, Fmask of HLS, cloud bits of Sentinel-2 L1C."""
REFLECTANCE = "float32"
"""The `dtype` of bundles that take physical values; `uint8` takes counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandNeed:
    """The bands that a bundle takes from imagery."""

    bands: tuple[str, ...]
    """Common names, in the bundle's order, terrain channels left out."""
    substitutes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Bands that may stand for another, in order of preference."""
    gsd_m: float = 0.0
    """GSD of the bundle. Of several files of one band, the coarsest that is no coarser is read."""

    def names_for(self, band: str) -> tuple[str, ...]:
        """The band and what may stand for it."""
        return (band, *dict(self.substitutes).get(band, ()))

    def missing(self, offered: Iterable[str]) -> tuple[str, ...]:
        """Bands that neither they nor a substitute are offered."""
        there = set(offered)
        return tuple(band for band in self.bands if not there & {*self.names_for(band)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFile:
    """A raster file as its header describes it."""

    href: str
    alternates: tuple[str, ...] = ()
    etag: str = ""
    crs_wkt: str = ""
    transform: Affine | None = None
    shape: tuple[int, int] | None = None
    gsd_m: float | None = None
    dtype: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneLayer:
    """One band of a scene: value = scale × count + offset."""

    name: str
    """Common name that the bundle gives it; for a mask its kind."""
    file: LayerFile
    band: int = 1
    """Number of the band in its file, from 1."""
    source: str = ""
    """The band that is read, where another one stands for `name`."""
    scale: float | None = None
    """None before the file was opened and where the item says nothing."""
    offset: float | None = None
    nodata: tuple[float, ...] = ()
    """Counts that mark missing ground."""

    @property
    def is_terrain(self) -> bool:
        return self.name in TERRAIN_BANDS

    @property
    def token(self) -> str:
        """Everything that its values depend on, as part of a key."""
        meaning = f"x{self.scale}+{self.offset} nodata {self.nodata}"
        return f"{self.name}={self.file.href}#{self.band}@{self.file.etag} {meaning}"

    def attributes(self) -> dict[str, Any]:
        """The layer as JSON, for run.json; `of` reads back what pictures need."""
        return {
            "band": self.name,
            **({"read": self.source} if self.source not in ("", self.name) else {}),
            "href": self.file.href,
            "number": self.band,
            "scale": self.scale,
            "offset": self.offset,
            "nodata": list(self.nodata),
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        return cls(
            name=str(content["band"]),
            file=LayerFile(href=str(content["href"])),
            band=int(content["number"]),
            scale=content["scale"],
            offset=content["offset"],
            nodata=tuple(float(value) for value in content["nodata"]),
        )


def layer_notes(layers: Sequence[SceneLayer], mask: SceneLayer | None) -> tuple[str, ...]:
    """What a reader of the map should know of a scene's layers, one phrase each."""
    stand_ins = [f"{x.source} stands for {x.name}" for x in layers if x.source not in ("", x.name)]
    if mask is None:
        clouds = "no cloud mask (SCL, Fmask, QA60) in the item: clouds and snow are not masked"
        return (*stand_ins, clouds)
    return tuple(stand_ins)
