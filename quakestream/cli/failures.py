"""How a command ends badly: one problem a line on stderr, and the exit code."""

import os
import platform
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from quakestream.cli.common import EXIT_FAILED, EXIT_REQUEST, stderr
from quakestream.cli.signals import EXIT_TERMINATED
from quakestream.errors import (
    AccountingError,
    Problem,
    QuakestreamError,
    RequestError,
    ShapeError,
)
from quakestream.redaction import redacted, without_credentials

BUGS = (AccountingError, ShapeError)
"""Errors of ours that no input should be able to cause: their traceback is kept."""


def report_failure(error: BaseException) -> int:
    """Prints an error and returns its exit code: 2 for a wrong request, else 3."""
    if isinstance(error, RequestError):
        print_problems(error.problems)
        return EXIT_REQUEST
    if isinstance(error, QuakestreamError) and not isinstance(error, BUGS):
        print_problems(error.problems)
        return EXIT_FAILED
    if isinstance(error, QuakestreamError):
        problem = error.problem
    else:
        problem = Problem(f"unexpected {type(error).__name__}", got=str(error))
    print_problems([replace(problem, remedy=_where_details_are(error))])
    return EXIT_FAILED


def exit_code(code: object) -> int:
    """The exit code of a `SystemExit`; Ray's own SIGTERM handler exits with the bare signal."""
    if code is None:
        return 0
    if not isinstance(code, int):
        return EXIT_FAILED
    return EXIT_TERMINATED if code == signal.SIGTERM else code


def print_problems(problems: Sequence[Problem]) -> None:
    """One problem a line on stderr; several come after a line with their number."""
    lines = [_one_line(without_credentials(str(problem))) for problem in problems]
    if len(lines) == 1:
        _print_error(lines[0])
        return
    _print_error(f"{len(lines)} problems")
    for line in lines:
        stderr.print(Text(f"  {line}"))


def _print_error(line: str) -> None:
    stderr.print(Text.assemble(("error:", "bold red"), " ", line))


def _one_line(text: str) -> str:
    """Names of files may hold anything, control characters too."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _joined(text))


def _joined(text: str) -> str:
    return " ".join(text.split())


def _where_details_are(error: BaseException) -> str:
    try:
        path = _write_details(error)
    except OSError as cause:
        return f"details could not be written to {tempfile.gettempdir()}: {cause.strerror}"
    return f"details in {path}, please report them"


def _write_details(error: BaseException) -> Path:
    """The traceback as a file in the temporary folder."""
    from quakestream import __version__

    handle, name = tempfile.mkstemp(prefix="quakestream-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"quakestream {__version__}, Python {platform.python_version()}, ")
        file.write(f"{platform.platform()}\n{redacted(shlex.join(sys.argv))}\n\n")
        file.write(without_credentials("".join(traceback.format_exception(error))))
    return Path(name)
