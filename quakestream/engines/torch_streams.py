"""torch's work queues, on the CPU and on a GPU, and what identifies the device.

Tests run the CPU's. The GPU's use the same API and have not run on a GPU yet; see README.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quakestream.engines.streams import Call, QueueEvent, Streams

DRIVER_FILE = Path("/sys/module/nvidia/version")
_WARM_RUNS = 3
"""Runs before a graph is captured. Libraries allocate and choose kernels in the first runs."""


class CpuStreams:
    """The CPU. It has no queues and does all work at once."""

    device = torch.device("cpu")

    def copy_queue(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def work_queue(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def event(self) -> QueueEvent:
        return _CpuEvent()

    def handle(self) -> int:
        return 0

    def synchronize(self) -> None: ...

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape)

    def capture(self, call: Call, inputs: Mapping[str, Tensor]) -> Call:
        buffers = {name: tensor.clone() for name, tensor in inputs.items()}
        output: Tensor = call(buffers).clone()

        def replay(new_inputs: Mapping[str, Tensor]) -> Tensor:
            for name, tensor in buffers.items():
                tensor.copy_(new_inputs[name])
            output.copy_(call(buffers))
            return output

        return replay


class _CpuEvent:
    """An event that is over at once."""

    def record(self) -> None: ...

    def wait(self) -> None: ...

    def synchronize(self) -> None: ...


class CudaStreams:
    """Work queues of the current CUDA device. Tests without a GPU do not run this class."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        # no TF32 in float32 arithmetic, and the same kernels in every process of a run
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        self._copy, self._work = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def copy_queue(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._copy)

    def work_queue(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._work)

    def event(self) -> QueueEvent:
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def handle(self) -> int:
        return int(self._work.cuda_stream)

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, device=self.device)

    def capture(self, call: Call, inputs: Mapping[str, Tensor]) -> Call:
        buffers = {name: tensor.clone() for name, tensor in inputs.items()}
        torch.cuda.synchronize()
        with self.work_queue(), torch.inference_mode():
            for _ in range(_WARM_RUNS):
                call(buffers)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=self._work):
            output: Tensor = call(buffers)

        def replay(new_inputs: Mapping[str, Tensor]) -> Tensor:
            for name, tensor in buffers.items():
                tensor.copy_(new_inputs[name], non_blocking=True)
            graph.replay()
            return output

        return replay


def streams_here() -> Streams:
    """Queues of this process's GPU, or of the CPU if there is none."""
    return CudaStreams() if torch.cuda.is_available() else CpuStreams()


def device_facts(device: torch.device) -> dict[str, str]:
    """The properties of a device that compiled code depends on."""
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return {"device": gpu.name, "capability": f"{gpu.major}.{gpu.minor}"}
    return {"device": "cpu", "capability": torch.backends.cpu.get_cpu_capability()}


def cuda_facts() -> dict[str, str] | None:
    """Name, compute capability and driver of this process's GPU; None without one."""
    if not torch.cuda.is_available():
        return None
    facts = device_facts(torch.device("cuda"))
    driver = DRIVER_FILE.read_text().strip() if DRIVER_FILE.exists() else "unknown"
    return {"name": facts["device"], "capability": facts["capability"], "driver": driver}


_streams: tuple[type[Streams], ...] = (CpuStreams, CudaStreams)
