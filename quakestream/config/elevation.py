"""Where the elevations of a run come from, as one text that travels to workers."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode

_BETWEEN = "|"
_KEYS = ("asset", "unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemSource:
    """The files of an elevation model, and what they do not say themselves."""

    places: tuple[str, ...]
    """Rasters, Zarr arrays, or STAC items and item collections; several are tiles of one model."""
    asset: str | None = None
    """Asset of the items, or array of a Zarr group; None: the one that is meant for data."""
    unit: str | None = None
    """Unit of elevations in files that state none; None: metres."""

    @property
    def text(self) -> str:
        """The source as a text; that of one file without more is its place."""
        more = urlencode({k: v for k in _KEYS if (v := getattr(self, k)) is not None})
        return _BETWEEN.join(self.places) + (f"#{more}" if more else "")

    @classmethod
    def of(cls, text: str) -> Self:
        """The source of a text."""
        places, mark, more = text.rpartition("#")
        if not mark or not more.startswith(tuple(f"{key}=" for key in _KEYS)):
            places, more = text, ""
        return cls(places=tuple(places.split(_BETWEEN)), **dict(parse_qsl(more)))
