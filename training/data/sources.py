"""Labelled pairs by the name of their source."""

from quakestream.errors import RequestError
from training.config import ImagePairsConfig, PairsConfig
from training.data.pairs import LabelledPair
from training.data.synthetic import HELD_SEEDS, TRAINING_SEEDS, synthetic_pairs
from training.data.turkiye import default_data_dir, turkiye_pairs


def load_pairs(config: ImagePairsConfig, *, held_only: bool = False) -> list[LabelledPair]:
    """Loads the pairs of a configuration.

    Args:
        config: names the source.
        held_only: pairs without held-out ground may be left out.

    Raises:
        RequestError: if the data are missing, or a loss would take boxes of unknown state for
            intact.
    """
    if config.source == "turkiye":
        return turkiye_pairs(default_data_dir(), vanished=_with_vanished(config))
    return synthetic_pairs(HELD_SEEDS if held_only else TRAINING_SEEDS + HELD_SEEDS)


def _with_vanished(config: ImagePairsConfig) -> bool:
    if not isinstance(config, PairsConfig) or not config.unlabelled.vanished_boxes:
        return False
    if config.objective != "nnpu":
        raise RequestError(
            "vanished_boxes adds boxes of unknown state",
            "vanished_boxes",
            expected="objective nnpu",
            got=f"objective {config.objective}",
            remedy="add --set objective=nnpu",
        )
    return True
