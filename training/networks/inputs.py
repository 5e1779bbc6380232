"""Sizes that a network is built for."""

from dataclasses import dataclass

from quakestream.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInputs:
    """Sizes of inputs and outputs.

    Raises:
        ConfigError: if a size is not positive, or a band has no name.
    """

    crop_px: int = 384
    """Side of a building's crop, a multiple of 32, or of a landslide transformer's window."""
    bands: int = 3
    """Bands of an image; 6 if the pre-event crop is stacked on the post-event crop."""
    band_names: tuple[str, ...] = ()
    """Common names of the bands, for landslide networks: `blue`, `nir08`, `slope`."""
    gsd_m: float = 10.0
    """Ground sample distance, for landslide transformers, metres."""
    outputs: int = 1
    """Logits per pixel of landslide networks."""
    classes: int = 2
    """Damage classes, mildest first."""
    hazard_groups: tuple[int, ...] = ()
    """Hazard values per group, (3, 30, 1) in the paper; a group becomes one token."""
    learned_missing: bool = False
    """A group without any value becomes a learned token, which the paper does not have."""

    def __post_init__(self) -> None:
        sizes = (self.crop_px, self.bands, self.classes, self.outputs, *self.hazard_groups)
        if min(sizes) < 1:
            raise ConfigError(
                "size is not positive", "network inputs", expected="at least 1", got=str(min(sizes))
            )
        if self.band_names and len(self.band_names) != self.bands:
            raise ConfigError(
                "bands and their names differ in number",
                "network inputs",
                expected=f"{self.bands} names",
                got=", ".join(self.band_names),
            )


def of_bands(*names: str, crop_px: int = 128, gsd_m: float = 10.0) -> NetworkInputs:
    """Inputs of a landslide network that takes the bands of these names."""
    return NetworkInputs(bands=len(names), band_names=names, crop_px=crop_px, gsd_m=gsd_m)
