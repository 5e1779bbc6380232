"""Kinds of training, by name."""

from quakestream.errors import ConfigError
from training.config import TrainConfig
from training.data.sources import load_pairs
from training.lessons.base import Batch, Lesson
from training.lessons.chips import open_chips
from training.lessons.pairs import PairsLesson
from training.lessons.pretext import PretextLesson
from training.lessons.vectors import open_vectors

__all__ = ["Batch", "Lesson", "open_lesson"]

PAIR_SOURCES = ("turkiye", "synthetic")


def open_lesson(config: TrainConfig) -> Lesson:
    """Opens what a configuration names, where it is called: on the worker.

    Raises:
        RequestError: if its data is not there, or cannot be used as the configuration says.
    """
    if config.lesson == "chips":
        return open_chips(config)
    if config.lesson == "vectors":
        return open_vectors(config)
    if config.source not in PAIR_SOURCES:
        raise ConfigError(f"source={config.source}: expected one of {', '.join(PAIR_SOURCES)}")
    pairs = load_pairs(config)
    if config.lesson == "pretext":
        return PretextLesson(config, pairs)
    return PairsLesson(config, pairs)
