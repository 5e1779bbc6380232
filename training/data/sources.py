"""Labelled pairs by the name of their source."""

from training.config import ImagePairsConfig
from training.data.pairs import LabelledPair
from training.data.synthetic import HELD_SEEDS, TRAINING_SEEDS, synthetic_pairs
from training.data.turkiye import default_data_dir, turkiye_pairs


def load_pairs(config: ImagePairsConfig, *, held_only: bool = False) -> list[LabelledPair]:
    """Loads the pairs of a configuration.

    Args:
        config: names the source.
        held_only: pairs without held-out ground may be left out.

    Raises:
        RequestError: if the data are missing.
    """
    if config.source == "turkiye":
        return turkiye_pairs(default_data_dir())
    return synthetic_pairs(HELD_SEEDS if held_only else TRAINING_SEEDS + HELD_SEEDS)
