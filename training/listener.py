"""What Ray Train's controller does with reports: it writes the journal, next to the driver."""

from pathlib import Path
from typing import Any

from ray.train import UserCallback

from training.journal import Journal


class Listener(UserCallback):
    """Writes the records of the first worker. Pickled to the controller, which opens the files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._journal: Journal | None = None

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        if self._journal is None:
            self._journal = Journal(self._folder)
        for record in metrics[0]["records"]:
            self._journal(record)
