"""The log of a run on disk. Imports no torch, because Ray's controller writes it."""

import json
from collections.abc import Callable
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Log = Callable[[Record], None]


class RunLog:
    """Writes `log.jsonl`, one JSON object a line, and the same figures for TensorBoard.

    A resumed run removes records that are later than the state it resumes from. The log of an
    interrupted run therefore reads like that of an unbroken one.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / "log.jsonl"
        self._tensorboard = _TensorBoard(folder / "tensorboard")

    def __call__(self, record: Record) -> None:
        if record["event"] == "start":
            self._remove_after(record["step"])
        with self._lines.open("a") as file:
            file.write(as_line(record) + "\n")
        self._tensorboard.add(record)

    def _remove_after(self, step: int) -> None:
        lines = self._lines.read_text().splitlines() if self._lines.exists() and step else []
        valid = [line for line in lines if json.loads(line)["step"] <= step]
        self._lines.write_text("".join(f"{line}\n" for line in valid))
        self._tensorboard.restart(step)


class _TensorBoard:
    """Writes numbers by step to TensorBoard's event files."""

    def __init__(self, folder: Path) -> None:
        # TensorBoard is untyped, and importing all of it is slow.
        protocol = import_module("tensorboard.compat.proto.event_pb2")
        summaries = import_module("tensorboard.compat.proto.summary_pb2")
        files = import_module("tensorboard.summary.writer.event_file_writer")
        self._event, self._session = protocol.Event, protocol.SessionLog
        self._summary = summaries.Summary
        self._writer = files.EventFileWriter(str(folder))

    def restart(self, step: int) -> None:
        """Discards what is shown for later steps."""
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
    """The record as one line of JSON; figures that are not finite become null."""
    return json.dumps(
        {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in record.items()},
        allow_nan=False,
    )
