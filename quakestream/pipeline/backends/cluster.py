"""Starts and joins Ray clusters, for runs, tiles and training. No other file calls `ray.init`."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import ray

from quakestream.errors import ClusterError, QuakestreamError

CONNECT_S = 4.0
"""Time that a cluster's port has to answer."""
JOIN_S = 10.0
"""Time that a cluster has to accept this process, once its port answers."""
START_ATTEMPTS = 3
"""A busy machine may miss Ray's own deadlines when it starts."""
_REMEDY = (
    "check --address or RAY_ADDRESS; a cluster with tokens needs RAY_AUTH_MODE=token and "
    "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH; without an address, Ray starts on this machine"
)


@contextmanager
def ray_cluster(address: str | None = None, **options: Any) -> Iterator[bool]:
    """A Ray cluster for the time of the block.

    A cluster that this process has joined already is used and left running.

    Args:
        address: of a running cluster; None starts one on this machine and ends it afterwards.
        options: further arguments of `ray.init`, for a cluster that is started here.

    Yields:
        True if the cluster was started or joined here.

    Raises:
        ClusterError: there is no cluster at the address, or it refuses this process. Raised
            within 15 s.
    """
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            _start(options)
        else:
            _join(address)
        _silence_daemons()
    try:
        yield own
    finally:
        if own:
            ray.shutdown()


def _start(options: dict[str, Any]) -> None:
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ layer logs harmless errors
    # No worker starts before it is needed: engines are processes of their own.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    for attempt in range(1, START_ATTEMPTS + 1):
        kept = _hide_stderr()  # Ray's own lines, also in a good run; its errors are exceptions
        try:
            ray.init(**_quiet(), **options)
            return
        except Exception as error:  # Ray raises Exception itself
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise ClusterError(
                    f"Ray did not start on this machine ({_last_line(error)})",
                    remedy="run it without Ray, or again when the machine is less busy",
                ) from error
        finally:
            _show_stderr(kept)


def _join(address: str) -> None:
    """Joins a running cluster; a dead address or a wrong token is one error, soon."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    _check_port(address)
    failure: list[BaseException] = []
    joined = threading.Event()

    def join() -> None:
        try:
            ray.init(address=address, **_quiet())
        except BaseException as error:
            failure.append(error)
        finally:
            joined.set()

    where = f"Ray address {address}"
    kept = _hide_stderr()
    threading.Thread(target=join, daemon=True, name="ray-join").start()
    if not joined.wait(JOIN_S):
        # Ray goes on trying and logs to descriptor 2. Python's own messages leave by another.
        sys.stderr = os.fdopen(kept, "w", buffering=1)
        raise ClusterError(_unanswered(), where, remedy=_REMEDY)
    _show_stderr(kept)
    if failure:
        reason = _last_line(failure[0]).partition(". ")[0]  # Ray's advice fills many lines
        cause = f"the cluster could not be joined ({reason})"
        raise ClusterError(cause, where, remedy=_REMEDY) from failure[0]


def _unanswered() -> str:
    """What is known of a cluster that is there and silent: Ray does not say why it waits."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        why = "as of a cluster with another token than RAY_AUTH_TOKEN here"
    else:
        why = "as of a cluster that wants a token: RAY_AUTH_MODE is not `token` here"
    return f"no answer within {JOIN_S:g} s, {why}"


def _hide_stderr() -> int:
    """Hides what Ray's C++ layer prints about a dead address: the error says it in one line.

    Returns:
        A descriptor of what was descriptor 2, for `_show_stderr`.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept


def _show_stderr(kept: int) -> None:
    os.dup2(kept, 2)
    os.close(kept)


def _check_port(address: str) -> None:
    """Raises ClusterError if nothing listens at `host:port`; other addresses are Ray's to judge."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterError(
            f"nothing listens there ({reason})", f"Ray address {address}", remedy=_REMEDY
        ) from error


def _silence_daemons() -> None:
    """Keeps Ray's daemons from printing to this process's stdout, where JSON of ours may stand.

    They say at length that a worker died, although its work goes on elsewhere. `log_to_driver`
    does not hold them back, and Ray has no public switch.
    """
    cast("Any", ray)._private.worker._worker_logs_enabled = False


def _quiet() -> dict[str, Any]:
    return {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def ray_failure(error: BaseException) -> QuakestreamError:
    """Our own error inside one of Ray's, or a ClusterError: the job may be tried again.

    Ray gives its error the class of ours, too, but not its fields.
    """
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, QuakestreamError) and not isinstance(inner, ray.exceptions.RayError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return ClusterError(f"the Ray job failed: {_last_line(error)}")


def node_resources() -> dict[str, dict[str, float]]:
    """Resources of each machine of the cluster, by Ray's name of it."""
    nodes = cast("Any", ray).nodes()
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
