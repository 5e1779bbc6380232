"""What a run tells, on disk. Light to import: Ray's controller writes it, and needs no torch."""

import json
from collections.abc import Callable
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Log = Callable[[Record], None]


class Journal:
    """`log.jsonl`, one JSON object a line, and the same figures for TensorBoard.

    What a run told after the state it goes on from is taken back: the figures of a run that was
    interrupted read like those of one that was not.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / "log.jsonl"
        self._curves = _Curves(folder / "tensorboard")

    def __call__(self, record: Record) -> None:
        if record["event"] == "start":
            self._take_back(record["step"])
        with self._lines.open("a") as file:
            file.write(as_line(record) + "\n")
        self._curves.add(record)

    def _take_back(self, step: int) -> None:
        told = self._lines.read_text().splitlines() if self._lines.exists() and step else []
        kept = [line for line in told if json.loads(line)["step"] <= step]
        self._lines.write_text("".join(f"{line}\n" for line in kept))
        self._curves.restart(step)


class _Curves:
    """Numbers by step in TensorBoard's event files."""

    def __init__(self, folder: Path) -> None:
        # Untyped, and slow to import for what it does.
        protocol = import_module("tensorboard.compat.proto.event_pb2")
        summaries = import_module("tensorboard.compat.proto.summary_pb2")
        files = import_module("tensorboard.summary.writer.event_file_writer")
        self._event, self._session = protocol.Event, protocol.SessionLog
        self._summary = summaries.Summary
        self._writer = files.EventFileWriter(str(folder))

    def restart(self, step: int) -> None:
        """What was shown for later steps is told anew."""
        session = self._session(status=self._session.START)
        self._writer.add_event(self._event(step=step + 1, session_log=session))

    def add(self, record: Record) -> None:
        if record["event"] not in ("epoch", "check"):
            return
        values = [
            self._summary.Value(tag=f"{record['event']}/{name}", simple_value=value)
            for name, value in record.items()
            if isinstance(value, int | float) and name not in ("step", "epoch")
        ]
        self._writer.add_event(
            self._event(step=record["step"], summary=self._summary(value=values))
        )
        self._writer.flush()


def as_line(record: Record) -> str:
    """One line of JSON, which knows no NaN: what cannot be had is null."""
    return json.dumps(
        {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in record.items()},
        allow_nan=False,
    )
