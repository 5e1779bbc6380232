"""The axes of the Prithvi study as lists of trials: sensor, bands, label and domain."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.config import SlidesConfig
from training.data.slide_chips import info_of
from training.networks.landslide import ADAPTER, LANDSLIDE_NETWORKS
from training.settings import with_values
from training.slides.band_information import BandInformation
from training.slides.protocol import Trial

LABEL_SHARES = (0.0125, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
SUBSETS = {
    "rgb": ("red", "green", "blue"),
    "rgb-nir": ("red", "green", "blue", "nir"),
    "hls-six": ("blue", "green", "red", "nir", "swir16", "swir22"),
    "no-terrain": (),
    "all": (),
}
"""Bands by name of the subset. `hls-six` are Prithvi's bands, with the broad near infrared."""
_TERRAIN = ("slope", "elevation")


def sensor(config: SlidesConfig, factors: Sequence[int] = (2, 3)) -> list[Trial]:
    """Fewer bands, and all bands at another GSD; subsets that the set lacks are left out.

    Networks whose bands beyond those of the pre-training start from random weights have a trial in
    which a small network maps all bands to the known ones instead.
    """
    known = info_of(Path(config.source)).bands
    trials = []
    for name, subset in SUBSETS.items():
        bands = subset or tuple(b for b in known if name == "all" or b not in _TERRAIN)
        if set(bands) <= set(known):
            trials.append(Trial(name=name, config=with_values(config, bands=bands)))
    if f"{config.network}{ADAPTER}" in LANDSLIDE_NETWORKS:
        adapted = replace(config, network=f"{config.network}{ADAPTER}")
        trials.append(Trial(name="all-adapter", config=with_values(adapted, bands=known)))
    gsd_m = info_of(Path(config.source)).gsd_m
    trials += [
        Trial(name=f"all-{gsd_m * f:g}m", config=with_values(config, coarsen=f)) for f in factors
    ]
    return trials


def bands(config: SlidesConfig, information: BandInformation, count: int) -> list[Trial]:
    """As many bands as `count`, chosen by what they tell about the label, beside controls."""
    chosen = {
        "most-informative": information.most(count),
        "least-redundant": information.least_redundant(count),
        "least-informative": information.least(count),
        "hls-six": SUBSETS["hls-six"],
        "all": information.bands,
    }
    known = set(information.bands)
    return [
        Trial(name=name, config=with_values(config, bands=names))
        for name, names in chosen.items()
        if set(names) <= known
    ]


def label(config: SlidesConfig, shares: Sequence[float] = LABEL_SHARES) -> list[Trial]:
    """Fewer training chips, drawn by the seed; validation and test stay whole."""
    return [
        Trial(name=f"{100 * share:g}%", config=with_values(config, label_share=share))
        for share in shares
    ]


def domain(config: SlidesConfig, targets: Sequence[Path]) -> list[Trial]:
    """Trained on one set and judged on others, without any of their labels."""
    return [Trial(name=Path(config.source).name, config=config, targets=tuple(targets))]


def networks(
    configs: Sequence[SlidesConfig], shares: Sequence[float] = (1.0, 0.1, 0.025)
) -> list[Trial]:
    """Several networks at several shares of the labels."""
    return [
        Trial(
            name=f"{config.recipe} {100 * share:g}%", config=with_values(config, label_share=share)
        )
        for config in configs
        for share in shares
    ]
