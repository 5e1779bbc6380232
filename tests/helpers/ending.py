"""Maps made by processes that are ended on their way, after some commits."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.helpers.running import CLI, ROOT, environment

PATIENCE_S = 120


def map_process(
    *arguments: object, env: dict[str, str] | None = None, **options: Any
) -> "subprocess.Popen[str]":
    """`quakestream map` in a process that answers signals as one of a shell does.

    Args:
        options: of Popen, such as where its output goes.
    """
    return subprocess.Popen(
        ["env", "--default-signal=INT", *CLI, "map", *map(str, arguments)],
        cwd=ROOT,
        env=environment(env),
        text=True,
        **options,
    )


def wait_for_commits(
    process: "subprocess.Popen[str]", commits: Callable[[], int], least: int
) -> None:
    """Returns when a run has so many commits, or has ended."""
    until = time.monotonic() + PATIENCE_S
    while commits() < least and process.poll() is None:
        assert time.monotonic() < until, "no commits"
        time.sleep(0.002)
