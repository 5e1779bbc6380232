"""Runtimes by name. A runtime's module is imported when it is asked for, not before."""

from importlib import import_module
from typing import cast

from quakestream.bundles import Bundle
from quakestream.engines.base import Engine
from quakestream.errors import EngineError, MissingExtraError

RUNTIMES = {
    "onnxruntime": ("quakestream.engines.onnxruntime", "OnnxRuntimeEngine"),
    "uniform": ("quakestream.engines.fakes", "UniformEngine"),
    "threshold": ("quakestream.engines.fakes", "ThresholdEngine"),
}


def open_engine(bundle: Bundle, *, runtime: str = "onnxruntime", threads: int = 0) -> Engine:
    """Opens a bundle on a runtime, here, on this worker.

    Raises:
        EngineError: no runtime of that name.
        MissingExtraError: the runtime is not installed.
        BundleError: the runtime cannot load the bundle.
    """
    if runtime not in RUNTIMES:
        raise EngineError(f"no runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    module, name = RUNTIMES[runtime]
    try:
        engine = getattr(import_module(module), name)
    except ImportError as error:
        raise MissingExtraError(
            f"runtime {runtime} is not installed: pip install 'quakestream[{runtime}]' ({error})"
        ) from error
    return cast("Engine", engine(bundle, threads=threads))
