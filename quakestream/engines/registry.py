"""Runtimes by name. A runtime's module is imported when it is asked for, not before."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, cast

from quakestream.bundles import Bundle
from quakestream.engines.base import Engine
from quakestream.errors import EngineError, MissingExtraError

BUILT: dict[str, Literal["fp16", "bf16", "int8"]] = {
    "tensorrt": "fp16",
    "tensorrt-bf16": "bf16",
    "tensorrt-int8": "int8",
}
"""Runtimes that open only what was built for this device beforehand, and its precision."""

_OPENVINO = ("quakestream.engines.openvino", "OpenVinoEngine")
_TENSORRT = ("quakestream.engines.tensorrt", "open_kept")
_TORCH = ("quakestream.engines.torch", "TorchEngine")

RUNTIMES: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "onnxruntime": ("quakestream.engines.onnxruntime", "OnnxRuntimeEngine", {}),
    "openvino": (*_OPENVINO, {"precision": "fp32"}),
    "openvino-bf16": (*_OPENVINO, {"precision": "bf16"}),
    "openvino-int8": (*_OPENVINO, {"precision": "int8"}),
    "torch": (*_TORCH, {"precision": "fp32", "mode": "eager"}),
    "torch-bf16": (*_TORCH, {"precision": "bf16", "mode": "eager"}),
    "torch-fp16": (*_TORCH, {"precision": "fp16", "mode": "eager"}),
    "torch-compile": (*_TORCH, {"precision": "fp32", "mode": "compile"}),
    "torch-compile-bf16": (*_TORCH, {"precision": "bf16", "mode": "compile"}),
    "torch-graphs-bf16": (*_TORCH, {"precision": "bf16", "mode": "graphs"}),
    "torch-graphs-fp16": (*_TORCH, {"precision": "fp16", "mode": "graphs"}),
    "torch-aoti": (*_TORCH, {"precision": "fp32", "mode": "aoti"}),
    **{name: (*_TENSORRT, {"precision": precision}) for name, precision in BUILT.items()},
    "uniform": ("quakestream.engines.fakes", "UniformEngine", {}),
    "threshold": ("quakestream.engines.fakes", "ThresholdEngine", {}),
    "stand-in": ("quakestream.testing.standin", "StandInEngine", {}),
}
"""Name to module, what opens an engine there, and what that is told. Names go into the ledger's
keys: one that is given to something else makes finished work look like what it is not."""

_EXTRAS = {"torch": "train"}
"""Where an extra has another name than its runtime."""


def open_engine(
    bundle: Bundle, *, runtime: str = "onnxruntime", threads: int = 0, batch: int = 0
) -> Engine:
    """Opens a bundle on a runtime, here, on this worker.

    Args:
        batch: items of every run, for runtimes that have a choice of it; 0 for what was built,
            or what suits the device.

    Raises:
        EngineError: no runtime of that name, or it fails to open the bundle.
        DeviceError: it needs what this machine does not have.
        NotBuiltError: it opens only what was built for this device, and nothing was.
        MissingExtraError: the runtime is not installed.
        BundleError: the runtime cannot load the bundle.
    """
    if runtime not in RUNTIMES:
        raise EngineError(f"no runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    module, name, options = RUNTIMES[runtime]
    try:
        opens = getattr(import_module(module), name)
    except ImportError as error:
        kind = runtime.split("-")[0]
        raise MissingExtraError(
            f"runtime {runtime} is not installed: "
            f"pip install 'quakestream[{_EXTRAS.get(kind, kind)}]' ({error})"
        ) from error
    return cast("Engine", opens(bundle, threads=threads, batch=batch, **options))
