"""Sizes that a network is built for."""

from dataclasses import dataclass

from quakestream.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInputs:
    """Sizes of inputs and outputs.

    Raises:
        ConfigError: if a size is not positive.
    """

    crop_px: int = 384
    """Side of a building's crop, pixels; a multiple of 32. Building networks only."""
    bands: int = 3
    """Bands of a crop; 6 if the pre-event crop is stacked on the post-event crop."""
    classes: int = 2
    """Damage classes, mildest first."""
    hazard_groups: tuple[int, ...] = ()
    """Hazard values per group, (3, 30, 1) in the paper; a group becomes one token."""
    learned_missing: bool = False
    """A group without any value becomes a learned token, which the paper does not have."""

    def __post_init__(self) -> None:
        sizes = (self.crop_px, self.bands, self.classes, *self.hazard_groups)
        if min(sizes) < 1:
            raise ConfigError(
                "size is not positive", "network inputs", expected="at least 1", got=str(min(sizes))
            )
