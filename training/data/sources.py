"""Labelled pairs by the name of their source."""

from training.config import TrainConfig
from training.data.pairs import LabelledPair
from training.data.synthetic import synthetic_pairs
from training.data.turkiye import default_data_dir, turkiye_pairs


def load_pairs(config: TrainConfig) -> list[LabelledPair]:
    """The pairs a configuration names.

    Raises:
        RequestError: if they are not there.
    """
    if config.source == "turkiye":
        return turkiye_pairs(default_data_dir())
    return synthetic_pairs()
