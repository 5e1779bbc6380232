"""Bands by their common names, as landslide networks know them."""

from collections.abc import Sequence

from quakestream.errors import ConfigError

WAVELENGTH_UM = {
    "coastal": 0.443,
    "blue": 0.493,
    "green": 0.560,
    "red": 0.665,
    "rededge071": 0.704,
    "rededge075": 0.740,
    "rededge078": 0.783,
    "nir": 0.842,
    "nir08": 0.865,
    "nir09": 0.945,
    "cirrus": 1.375,
    "swir16": 1.610,
    "swir22": 2.190,
}
"""Centre wavelengths of Sentinel-2's bands, micrometres."""


def spectral(names: Sequence[str]) -> tuple[int, ...]:
    """Places of the bands that have a wavelength."""
    return tuple(place for place, name in enumerate(names) if name in WAVELENGTH_UM)


def terrain(names: Sequence[str]) -> tuple[int, ...]:
    """Places of the other bands: slope, elevation."""
    return tuple(place for place, name in enumerate(names) if name not in WAVELENGTH_UM)


def wavelengths_um(names: Sequence[str]) -> tuple[float, ...]:
    """Centre wavelengths of the spectral bands, micrometres.

    Raises:
        ConfigError: if there is no spectral band.
    """
    found = tuple(WAVELENGTH_UM[name] for name in names if name in WAVELENGTH_UM)
    if not found:
        raise ConfigError(
            "no band with a known wavelength",
            "band_names",
            expected=f"some of {', '.join(WAVELENGTH_UM)}",
            got=", ".join(names) or "none",
        )
    return found
