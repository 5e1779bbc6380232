"""`model.pt2` from graphs: the same graph as in ONNX, as torch.export writes it.

The file holds no pickle. Weights and constants are raw bytes, the graph is JSON, and the example
inputs, which torch would pickle, are left out. Engines refuse a file with a pickle.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from quakestream.bundles import load_bundle, write_manifest
from quakestream.errors import EngineError
from training.graphs import Arrays, BundleGraph
from training.onnx_graph import MAX_BATCH, PARITY, by_parameter, run_onnx

FILE = "model.pt2"
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node")
"""Metadata on the origin of a node: paths of one machine, and half of the file."""


def export_pt2(graph: BundleGraph, path: Path) -> None:
    """Writes one self-contained file: inputs of a fixed size, batches of any size."""
    path.write_bytes(serialised(exported(graph)))


def exported(graph: BundleGraph) -> ExportedProgram:
    """The graph as a program of ATen operators, with frozen weights and a free batch size."""
    batch = Dim("batch", min=1, max=MAX_BATCH)
    graph = graph.eval().requires_grad_(False)
    return torch.export.export(
        graph,
        _tensors(graph, graph.example(count=2)),
        dynamic_shapes=by_parameter(graph, {0: batch}),
    )


def serialised(program: ExportedProgram) -> bytes:
    """The bytes of a `.pt2` without examples and traces."""
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for name in _TRACES:
                    node.meta.pop(name, None)
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
    return buffer.getvalue()


def check_pt2(
    graph: BundleGraph, folder: Path, *, counts: tuple[int, ...] = (1, 3), seed: int = 0
) -> float:
    """Largest difference of a logit between `model.pt2` and `model.onnx` of a folder.

    Raises:
        EngineError: if one differs by 1e-3 or more, of a logit beyond 1 by 1e-3 of its size.
    """
    module = torch.export.load(str(folder / FILE)).module()
    worst = apart = 0.0
    for count in counts:
        inputs = graph.example(count=count, seed=seed + count)
        with torch.inference_mode():
            logits = module(*_tensors(graph, inputs)).numpy()
        reference = run_onnx(folder / "model.onnx", inputs)
        worst = max(worst, float(np.abs(reference - logits).max()))
        apart = max(apart, relative_difference(logits, reference))
    if not apart < PARITY:
        raise EngineError(
            "differs from model.onnx in ONNX Runtime on a logit",
            str(folder / FILE),
            expected=f"below {PARITY:g}, beyond 1 relative to the logit",
            got=f"{apart:.3g}",
        )
    return worst


def relative_difference(logits: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Largest difference of two arrays of logits, beyond 1 relative to their size.

    A graph that ends in the logarithm of a probability in float32 has few digits where it is sure:
    near logit 9 the step from one probability to the next is 6e-4.
    """
    size = np.maximum(np.abs(reference), 1.0)
    return float((np.abs(logits - reference) / size).max())


def add_pt2(graph: BundleGraph, folder: Path, *, counts: tuple[int, ...] = (1, 3)) -> float:
    """Adds `model.pt2` to a bundle; it must be the same model as `model.onnx`.

    Returns:
        The largest difference of a logit.

    Raises:
        BundleError: if the folder holds no bundle.
        EngineError: if they differ by more than `check_pt2` allows; the bundle is then left
            unchanged.
    """
    bundle = load_bundle(str(folder))
    path = folder / FILE
    before = path.read_bytes() if path.exists() else None
    export_pt2(graph, path)
    try:
        worst = check_pt2(graph, folder, counts=counts)
    except EngineError:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
        raise
    write_manifest(folder, bundle.spec)
    load_bundle(str(folder))
    return worst


def _tensors(graph: BundleGraph, arrays: Arrays) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(arrays[n])) for n in graph.names)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which warns about harmless values that it makes from shapes."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
