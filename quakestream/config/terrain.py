"""The section `terrain` of a run file."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from quakestream.config.elevation import DemSource
from quakestream.config.fields import Place, Places
from quakestream.config.section import Section
from quakestream.errors import ConfigError

LEAST_SLOPE_DEG = 5.0
"""Default of `terrain.least_slope_deg`. Slides start on steeper ground nearly everywhere, and
elevation models of towns have slopes of some degrees where houses stand."""
ShakingBetween = Literal["bilinear", "triangles"]
"""How shaking is read between the nodes of a ShakeMap."""


class TerrainSection(Section):
    """Elevation and the static layers of the landslide prior."""

    dem: Place | Places = Field(
        description="Elevation, metres or the unit that the band or vertical CRS states: a raster, "
        "a Zarr array, a STAC item or item collection, a static catalogue or a collection of a "
        "STAC API, a folder of tiles or items, or a list of tiles on one lattice",
    )
    asset: str | None = Field(
        default=None,
        min_length=1,
        description="Asset of the items of `dem`, or array of its Zarr group; left out: data, "
        "elevation or dem, the only asset of that role, or the only array",
    )
    unit: str | None = Field(
        default=None,
        min_length=1,
        description="Unit of elevations in files that state none, such as ft; left out: m",
    )
    lithology: Place | None = Field(
        default=None, description="Raster of lithology coefficients of the landslide prior"
    )
    landcover: Place | None = Field(
        default=None, description="Raster of land-cover coefficients of the landslide prior"
    )
    cti: Place | None = Field(default=None, description="Raster of the compound topographic index")
    stddev: Place | None = Field(
        default=None,
        description="Raster of the standard deviation of the prior's logit; left out: 0.03",
    )
    slope: Place | None = Field(
        default=None,
        description="Gradient raster (rise over run) of the prior; left out: slopes of the DEM",
    )
    shaking: ShakingBetween = Field(
        default="bilinear",
        description="How the prior reads shaking between the nodes of a ShakeMap: bilinear, or on "
        "the triangles of USGS's own runs, to compare with their products",
    )
    least_slope_deg: float = Field(
        default=LEAST_SLOPE_DEG,
        ge=0,
        le=90,
        description="Landslides whose ground is flatter than this on average are left out and "
        "counted apart: roofs, rubble and fields look like slides; 0 keeps all",
    )

    @property
    def dem_places(self) -> tuple[str, ...]:
        """The files of the elevation model."""
        return (self.dem,) if isinstance(self.dem, str) else tuple(self.dem)

    @property
    def elevation(self) -> str:
        """The elevation model as one text, which `open_dem` takes; empty without one."""
        if not self.dem_places:
            return ""
        return DemSource(places=self.dem_places, asset=self.asset, unit=self.unit).text

    @property
    def files(self) -> dict[str, str]:
        """The files of the section by their keys; the elevation model as one text."""
        layers = ("lithology", "landcover", "cti", "stddev", "slope")
        named = {key: place for key in layers if (place := getattr(self, key)) is not None}
        return ({"dem": self.elevation} if self.dem_places else {}) | named

    @property
    def has_prior(self) -> bool:
        """True where the layers of the landslide prior are named."""
        return self.lithology is not None

    @model_validator(mode="after")
    def _layers_go_together(self) -> Self:
        needed = {"lithology": self.lithology, "landcover": self.landcover, "cti": self.cti}
        missing = [key for key, place in needed.items() if place is None]
        named = len(missing) < len(needed) or self.stddev is not None or self.slope is not None
        if named and missing:
            raise ConfigError(
                "layer of the landslide prior is missing",
                f"terrain.{missing[0]}",
                expected="lithology, landcover and cti together",
                got="no " + ", no ".join(missing),
                remedy="name the missing layers, or leave the others out",
            )
        return self

    def counted(self) -> dict[str, Any]:
        """The keys that decide the map. Keys of later versions count only where they are given,
        so that runs from before them keep their digest."""
        content = self.model_dump(mode="json")
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {k: v for k, v in content.items() if k == "dem" or v != defaults[k]}
