"""Kinds of training, by name."""

from quakestream.errors import ConfigError
from training.config import (
    ChipsConfig,
    PairsConfig,
    PretrainConfig,
    SlidesConfig,
    TrainConfig,
    TransferConfig,
    VectorsConfig,
)
from training.data.sources import load_pairs
from training.lessons.base import Lesson, TrainingBatch
from training.lessons.chips import open_chips
from training.lessons.pairs import PairsLesson
from training.lessons.pretrain import PretrainLesson
from training.lessons.slides import open_slides
from training.lessons.transfer import open_transfer
from training.lessons.vectors import open_vectors

__all__ = ["TrainingBatch", "Lesson", "open_lesson"]


def open_lesson(config: TrainConfig) -> Lesson:
    """Opens the lesson of a configuration. Called on the worker.

    Raises:
        RequestError: if its data are missing, or cannot be used as the configuration says.
    """
    match config:
        case ChipsConfig():
            return open_chips(config)
        case VectorsConfig():
            return open_vectors(config)
        case SlidesConfig():
            return open_slides(config)
        case TransferConfig():
            return open_transfer(config)
        case PretrainConfig():
            return PretrainLesson(config, load_pairs(config))
        case PairsConfig():
            return PairsLesson(config, load_pairs(config))
    raise ConfigError("no such lesson", config.recipe, got=type(config).__name__)
