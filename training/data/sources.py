"""Labelled pairs by the name of their source."""

from training.config import TrainConfig
from training.data.pairs import LabelledPair
from training.data.synthetic import HELD_SEEDS, TRAINING_SEEDS, synthetic_pairs
from training.data.turkiye import default_data_dir, turkiye_pairs


def load_pairs(config: TrainConfig, *, held_only: bool = False) -> list[LabelledPair]:
    """The pairs a configuration names; `held_only` may leave out pairs with nothing held out.

    Raises:
        RequestError: if they are not there.
    """
    if config.source == "turkiye":
        return turkiye_pairs(default_data_dir())
    return synthetic_pairs(HELD_SEEDS if held_only else TRAINING_SEEDS + HELD_SEEDS)
