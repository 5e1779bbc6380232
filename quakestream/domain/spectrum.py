"""Names of spectral bands: STAC's common names, and what other names and wavelengths mean.

Sources: STAC's electro-optical extension 2.0 (common names and their ranges), ESA's Sentinel-2
user handbook (B01 to B12), the HLS v2.0 user guide (band names of S30 and L30), USGS's Landsat 8
data users handbook.
"""

import re
from collections.abc import Iterable, Mapping

from quakestream.domain.bands import colour_of

RANGE_UM: Mapping[str, tuple[float, float]] = {
    "coastal": (0.42, 0.455),
    "blue": (0.46, 0.52),
    "green": (0.53, 0.60),
    "red": (0.63, 0.69),
    "rededge071": (0.695, 0.72),
    "rededge075": (0.73, 0.755),
    "rededge078": (0.765, 0.795),
    "nir": (0.80, 0.855),
    "nir08": (0.855, 0.89),
    "nir09": (0.93, 0.96),
    "cirrus": (1.35, 1.40),
    "swir16": (1.55, 1.70),
    "swir22": (2.08, 2.35),
}
"""Range of centre wavelengths that count as each band, micrometres. Bands of 13 names are known."""
TERRAIN_BANDS = ("slope", "elevation")
"""Channels that come from the elevation model: degrees and metres."""
_NANOMETRES = 100.0
"""Wavelengths above it are in nanometres, as some write them."""

_ALIASES: Mapping[str, str] = {
    **{name: name for name in RANGE_UM},
    **{f"rededge{n}": name for n, name in enumerate(("rededge071", "rededge075", "rededge078"), 1)},
    "coastalaerosol": "coastal",
    "nearinfrared": "nir",
    "nirbroad": "nir",
    "narrownir": "nir08",
    "nirnarrow": "nir08",
    "swir1": "swir16",
    "swir2": "swir22",
}
"""Names without spaces and signs, lower case. `rededge` alone may be any of three."""
_SENTINEL_2: Mapping[str, str] = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "rededge071",
    "6": "rededge075",
    "7": "rededge078",
    "8": "nir",
    "8a": "nir08",
    "9": "nir09",
    "10": "cirrus",
    "11": "swir16",
    "12": "swir22",
}
_LANDSAT_8: Mapping[str, str] = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "nir08",
    "6": "swir16",
    "7": "swir22",
    "9": "cirrus",
}
NUMBERED: Mapping[str, Mapping[str, str]] = {
    "sentinel-2": _SENTINEL_2,
    "hls-s30": _SENTINEL_2,
    "hls-l30": _LANDSAT_8,
    "landsat": _LANDSAT_8,
}
"""Bands by their number, of each mission. B05 is red edge on Sentinel-2 and near infrared on
Landsat."""
_NUMBER = re.compile(r"^(?:sr_|toa_)?(?:b|band)[ _]?0?(\d{1,2}a?)(?:[ _-](?:\d+m|jp2|cog))?$")


def band_of(texts: Iterable[str], um: float | None = None, mission: str = "") -> str:
    """The common name of a band; empty where that is open.

    Its own name decides, then its number on the mission, then its centre wavelength, then words
    in its description.

    Args:
        texts: names and descriptions of the band, the most reliable first.
        um: centre wavelength, micrometres (or nanometres, as some write it).
        mission: a key of `NUMBERED`; empty: unknown.
    """
    words = [text.strip().lower() for text in texts]
    for word in words:
        if name := _ALIASES.get(re.sub(r"[^a-z0-9]", "", word)):
            return name
    numbered = NUMBERED.get(mission, {})
    for word in words:
        number = _NUMBER.match(word)
        if number and number[1] in numbered:
            return numbered[number[1]]
    if um is not None and um > 0:
        um = um / 1000 if um > _NANOMETRES else um
        return next((name for name, (low, high) in RANGE_UM.items() if low <= um <= high), "")
    return next((name for word in words if (name := colour_of(word)) in RANGE_UM), "")
