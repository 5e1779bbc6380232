"""Labelled pairs by the name of their source."""

from quakestream.errors import RequestError
from training.config import ImagePairsConfig, PairsConfig
from training.data.islahiye import islahiye_crops
from training.data.pairs import LabelledPair
from training.data.synthetic import (
    HELD_SEEDS,
    TRAINING_SEEDS,
    WIDE_HELD_SEEDS,
    WIDE_SEEDS,
    synthetic_pairs,
    wide_pairs,
)
from training.data.transplants import with_transplants
from training.data.turkiye import default_data_dir, turkiye_pairs

BESIDE = 6
"""Synthetic towns beside the real pairs of `turkiye_wide`."""


def load_pairs(config: ImagePairsConfig, *, held_only: bool = False) -> list[LabelledPair]:
    """Loads the pairs of a configuration.

    Args:
        config: names the source.
        held_only: pairs without held-out ground may be left out.

    Raises:
        RequestError: if the data are missing, or a loss would take boxes of unknown state for
            intact.
    """
    if config.source == "synthetic_wide":
        return wide_pairs(WIDE_HELD_SEEDS if held_only else WIDE_SEEDS + WIDE_HELD_SEEDS)
    if config.source.startswith("turkiye"):
        real = turkiye_pairs(default_data_dir(), vanished=_with_vanished(config))
        if held_only or config.source == "turkiye":
            return real
        return real + _grafted(config, real) + wide_pairs(WIDE_SEEDS[:BESIDE])
    return synthetic_pairs(HELD_SEEDS if held_only else TRAINING_SEEDS + HELD_SEEDS)


def _grafted(config: ImagePairsConfig, real: list[LabelledPair]) -> list[LabelledPair]:
    """Copies of the pairs that are trained on, with ruins of İslahiye set in.

    Held-out ground must stay as it is, so there are none where parts of regions are held out.
    """
    held = config.split.held_regions
    if not held:
        return []
    crops = [crop.resized(real[0].grid.gsd_m) for crop in islahiye_crops(default_data_dir())]
    return [
        with_transplants(pair, crops, seed=config.run.seed)
        for pair in real
        if pair.region not in held
    ]


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
