"""The properties of a machine that decide which runtime is fast on it."""

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The processor and the devices of a machine, as far as runtimes depend on them."""

    cpu_flags: frozenset[str]
    """Instruction sets as the Linux kernel names them."""
    gpu: bool
    """True if there is an NVIDIA GPU that this process may use."""
    cores: int
    """CPU cores that this process may use."""

    @property
    def key(self) -> str:
        """A short digest. Rates that were measured on one machine do not hold on another."""
        text = json.dumps([sorted(self.cpu_flags), self.gpu, self.cores, platform.machine()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_machine() -> Machine:
    """The machine of this process.

    It reads the system's files, as a call to a GPU driver would bind this process to a device.
    """
    flags: frozenset[str] = frozenset()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        flags = frozenset(next((x for x in lines if x.startswith("flags")), "").split())
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    gpu = not hidden and any(Path("/dev").glob("nvidia[0-9]*"))
    return Machine(cpu_flags=flags, gpu=gpu, cores=usable_cores())
