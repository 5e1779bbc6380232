"""Recipes: functions that give a whole configuration. `--set` changes single values."""

from collections.abc import Callable

from quakestream.errors import ConfigError
from training.config import TrainConfig
from training.data.synthetic import HELD_SEEDS, region_of


def fc_siam_diff_small() -> TrainConfig:
    """0.09 M parameters, the lightest."""
    return TrainConfig(recipe="fc_siam_diff_small", network="fc_siam_diff_small")


def fc_siam_diff_medium() -> TrainConfig:
    """1.24 M parameters, 5.6 times the arithmetic of Small."""
    return TrainConfig(
        recipe="fc_siam_diff_medium", network="fc_siam_diff_medium", lr=2e-3, steps=500
    )


def synthetic_small() -> TrainConfig:
    """Small on synthetic earthquakes alone; towns of other seeds are held out."""
    return TrainConfig(
        recipe="synthetic_small",
        network="fc_siam_diff_small",
        source="synthetic",
        steps=300,
        judge_bounds=False,
        held_regions=",".join(region_of(seed) for seed in HELD_SEEDS),
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    f.__name__: f for f in (fc_siam_diff_small, fc_siam_diff_medium, synthetic_small)
}


def recipe(name: str) -> TrainConfig:
    """The configuration a recipe gives.

    Raises:
        ConfigError: if no recipe has that name.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe: no recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]()
