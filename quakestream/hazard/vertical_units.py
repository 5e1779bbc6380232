"""The unit of the elevations of a DEM: metres, or feet, as the band or the CRS states it."""

from typing import Any

from pyproj import CRS

from quakestream.errors import HazardError

FOOT_M = 0.3048
SURVEY_FOOT_M = 1200 / 3937

_METRES = {
    "m": 1.0,
    "metre": 1.0,
    "metres": 1.0,
    "meter": 1.0,
    "meters": 1.0,
    "ft": FOOT_M,
    "foot": FOOT_M,
    "feet": FOOT_M,
    "us survey foot": SURVEY_FOOT_M,
    "us survey feet": SURVEY_FOOT_M,
    "us-ft": SURVEY_FOOT_M,
    "ftus": SURVEY_FOOT_M,
    "dm": 0.1,
    "decimetre": 0.1,
    "decimeter": 0.1,
    "cm": 0.01,
    "centimetre": 0.01,
    "centimeter": 0.01,
    "km": 1000.0,
}
"""Metres of one unit, by the names that bands carry."""
_REMEDY = "state the unit with terrain.unit, or with gdal_edit -units m or -units ft"


def metres_per_unit(raster: Any, crs: CRS, uri: str, given: str | None = None) -> float:
    """Metres of one unit of elevation: by the band's unit, else the vertical CRS, else 1.

    Args:
        raster: names the unit of its band.
        crs: of the raster, perhaps with a vertical part.
        uri: the file, for errors.
        given: the unit of files that state none.

    Raises:
        HazardError: if the unit is unknown, or is not stated although the CRS is in feet.
    """
    stated = str(raster.units[0] or "").strip()
    if stated:
        return _known(stated, uri)
    for part in (*crs.sub_crs_list, crs):
        vertical = [axis for axis in part.axis_info if axis.direction in ("up", "down")]
        if vertical:
            return float(vertical[0].unit_conversion_factor)
    if given is not None:
        return _known(given, uri)
    if crs.is_projected and crs.axis_info[0].unit_conversion_factor != 1.0:
        raise HazardError(
            "unit of elevations is not stated, and the CRS is not in metres",
            uri,
            expected="a unit on the band",
            got=f"CRS in {crs.axis_info[0].unit_name}",
            remedy=_REMEDY,
        )
    return 1.0


def _known(name: str, uri: str) -> float:
    known = _METRES.get(name.strip().lower().replace("_", " "))
    if known is None:
        raise HazardError("unknown unit of elevations", uri, "m or ft", repr(name), _REMEDY)
    return known
