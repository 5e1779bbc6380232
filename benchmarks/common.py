"""What every benchmark shares: the machine, the result's shape, and a measured process."""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
SAMPLE_S = 0.25


def data_dir() -> Path:
    """Where the real scenes lie."""
    return Path(os.environ.get("QUAKESTREAM_DATA", ROOT.parent / "shared" / "data")).resolve()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One process and its children."""

    wall_s: float
    peak_mb: float
    """Largest proportional set size of the whole tree: shared pages count once."""
    returncode: int
    stdout: str
    stderr: str


def measure(command: list[str], env: dict[str, str] | None = None) -> Measured:
    """Runs a command and watches its memory."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_S):
            peak = max(peak, tree_mb(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    stdout, stderr = process.communicate()
    done.set()
    watcher.join()
    return Measured(
        wall_s=time.perf_counter() - began,
        peak_mb=peak,
        returncode=process.returncode,
        stdout=stdout,
        stderr=stderr,
    )


def tree_mb(pid: int) -> float:
    """Proportional set size of a process, its children, and Ray's daemons it started, MB."""
    total = 0
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 1e6


def machine() -> dict[str, Any]:
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


Run = Callable[[bool], tuple[dict[str, Any], dict[str, Any]]]
"""From whether it is a quick one: the settings and the metrics of a benchmark."""


def main(name: str, run: Run, kinds: Mapping[str, Run] | None = None) -> None:
    """`python -m benchmarks.NAME [--quick] [--json] [--save]` around (settings, metrics).

    Args:
        kinds: other things to measure, by the name that `--kind` gives them.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="smaller, for a look")
    parser.add_argument("--json", action="store_true", help="the default, and only, form")
    parser.add_argument("--save", action="store_true", help="also into benchmarks/results/")
    if kinds:
        parser.add_argument("--kind", choices=sorted(kinds), help="measure this instead")
    arguments = parser.parse_args()
    about = machine()
    if kinds and arguments.kind is not None:
        name, run = f"{name}_{arguments.kind}", kinds[arguments.kind]
    settings, metrics = run(arguments.quick)
    result = {
        "name": name,
        "commit": commit(),
        "machine": about,
        "settings": {"quick": arguments.quick, **settings},
        "metrics": metrics,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n")


def quakestream(*arguments: str, env: dict[str, str] | None = None) -> Measured:
    """The command line in a process of its own."""
    return measure([sys.executable, "-m", "quakestream.cli.main", *arguments], env)


def as_row(measured: Measured) -> dict[str, Any]:
    row = asdict(measured)
    return {"wall_s": round(row["wall_s"], 2), "peak_mb": round(row["peak_mb"])}
