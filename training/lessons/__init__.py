"""Kinds of training, by name."""

from training.config import TrainConfig
from training.data.sources import load_pairs
from training.lessons.base import Batch, Lesson
from training.lessons.pairs import PairsLesson

__all__ = ["Batch", "Lesson", "open_lesson"]


def open_lesson(config: TrainConfig) -> Lesson:
    """Opens what a configuration names, where it is called: on the worker.

    Raises:
        RequestError: if its data is not there.
    """
    return PairsLesson(config, load_pairs(config))
