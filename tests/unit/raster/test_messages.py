"""Counts that agree with their nouns, and causes without the name of their object."""

from quakestream.errors import StorageError
from quakestream.raster.messages import counted, reason_of, root_cause


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "byte") for n in (0, 1, 2, 1024)] == [
        "0 bytes",
        "1 byte",
        "2 bytes",
        "1,024 bytes",
    ]


def test_a_reason_leaves_out_where() -> None:
    error = StorageError("cannot read: timed out", "s3://b/a.tif", remedy="run again")
    assert reason_of(error) == "cannot read: timed out; run again"
    assert reason_of(ValueError("odd")) == "odd"
    assert reason_of(TimeoutError()) == "TimeoutError"


def test_the_innermost_cause_says_what_happened() -> None:
    inner, outer = OSError("No space left"), RuntimeError("see above")
    outer.__cause__ = inner
    assert root_cause(outer) == "No space left"
    assert root_cause(inner) == "No space left"
