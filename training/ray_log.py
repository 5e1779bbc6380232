"""Writes the run's log in Ray Train's controller, next to the driver."""

from pathlib import Path
from typing import Any

from ray.train import UserCallback

from training.run_log import RunLog


class LogCallback(UserCallback):
    """Writes the records of the first worker. It is pickled; the controller opens the files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._journal: RunLog | None = None

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        if self._journal is None:
            self._journal = RunLog(self._folder)
        for record in metrics[0]["records"]:
            self._journal(record)
